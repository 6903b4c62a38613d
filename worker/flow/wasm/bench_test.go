package wasm

import (
	"testing"

	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

// BenchmarkPooledShortFlow is what a flow of one step costs: Get, Begin, Put.
func BenchmarkPooledShortFlow(b *testing.B) {
	pool, p, in := NewPool(4, 4), load(b, probePackage), start("echo", "hello")
	for b.Loop() {
		i, err := pool.Get(b.Context(), p, "owner")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := i.Begin(b.Context(), in, Limits{}); err != nil {
			b.Fatal(err)
		}
		if err := pool.Put(i); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFreshShortFlow is the same without a pool.
func BenchmarkFreshShortFlow(b *testing.B) {
	pool, p, in := NewPool(0, 0), load(b, probePackage), start("echo", "hello")
	for b.Loop() {
		i, err := pool.Get(b.Context(), p, "owner")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := i.Begin(b.Context(), in, Limits{}); err != nil {
			b.Fatal(err)
		}
		if err := pool.Put(i); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPooledTrade is the initiating side of the trade example: three steps.
func BenchmarkPooledTrade(b *testing.B) {
	pool, p := NewPool(4, 4), load(b, tradePackage)
	in := start("com.example.trade.OfferTrade", map[string]any{"instrument": "X", "quantity": 1, "price": 2, "peer": bob})
	for b.Loop() {
		i, err := pool.Get(b.Context(), p, "owner")
		if err != nil {
			b.Fatal(err)
		}
		a, err := i.Begin(b.Context(), in, Limits{})
		for err == nil && a.Mode != frame.Ended {
			a, err = i.Resume(b.Context(), resume(noon, frame.Completion{ID: a.Await[0], Body: []byte(`{"accepted":true}`)}), Limits{})
		}
		if err != nil || a.List[len(a.List)-1].Op != frame.Complete {
			b.Fatalf("got %+v, %v", a, err)
		}
		if err := pool.Put(i); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReset(b *testing.B) {
	i := instance(b)
	if _, err := i.Begin(b.Context(), start("echo", "hello"), Limits{}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !i.reset() {
			b.Fatal("cannot reset")
		}
	}
}

func BenchmarkCompare(b *testing.B) {
	i := instance(b)
	if _, err := i.Begin(b.Context(), start("echo", "hello"), Limits{}); err != nil {
		b.Fatal(err)
	}
	img := i.program.image
	for b.Loop() {
		compare(i.mapped.octets[:len(img.octets)], img.octets)
	}
}

// BenchmarkResume is one step of a flow that waits for the store again and again.
func BenchmarkResume(b *testing.B) {
	i := instance(b)
	a, err := i.Begin(b.Context(), start("steps", 1<<40), Limits{})
	for b.Loop() {
		if err != nil {
			b.Fatal(err)
		}
		a, err = i.Resume(b.Context(), resume(noon, frame.Completion{ID: a.Await[0]}), Limits{})
	}
}

func BenchmarkGuestLoop(b *testing.B)      { benchmarkGuest(b, "loop", 10_000_000) }
func BenchmarkGuestFibonacci(b *testing.B) { benchmarkGuest(b, "fibonacci", 30) }

func benchmarkGuest(b *testing.B, class string, n int) {
	pool, p := NewPool(1, 1), load(b, probePackage)
	var fuel int64
	for b.Loop() {
		i, err := pool.Get(b.Context(), p, "owner")
		if err != nil {
			b.Fatal(err)
		}
		a, err := i.Begin(b.Context(), start(class, n), Limits{})
		if err != nil {
			b.Fatal(err)
		}
		fuel = a.Fuel
		_ = pool.Put(i)
	}
	b.ReportMetric(float64(fuel), "fuel/op")
}
