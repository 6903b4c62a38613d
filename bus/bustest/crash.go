package bustest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// CrashRound opens a store, publishes and steps records until a random moment, and takes what the disk has at that moment
// with crash. acked counts the records per key that were acknowledged, over all rounds. It runs in a synctest bubble.
func CrashRound[FS any](t *testing.T, rng *rand.Rand, acked map[string]int, open func() (bus.Driver, error), crash func() FS) FS {
	t.Helper()
	driver, err := open()
	if err != nil {
		t.Fatalf("open after a crash: %v", err)
	}
	b := bus.New(driver, bus.Options{Log: slog.New(slog.DiscardHandler), Errors: codec{}})
	ctx, cancel := context.WithCancel(t.Context())
	w := b.As(worker).Consumer()
	in.Handle(w, sum)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, func() {}) }()

	var mu sync.Mutex
	var publishing sync.WaitGroup
	for k := range 1 + rng.IntN(8) {
		key := fmt.Sprintf("k%d", k)
		publishing.Go(func() {
			for ctx.Err() == nil {
				if _, err := in.Publish(ctx, b.As(client), bus.Keyed[item]{Key: key, Value: item{N: 1}}); err == nil {
					mu.Lock()
					acked[key]++
					mu.Unlock()
				}
			}
		})
	}
	// The moment of the crash is a number of scheduler turns: inside a bubble time moves only when all stand still.
	for range rng.IntN(400) {
		<-time.After(0)
	}
	mu.Lock()
	left := crash()
	now := make(map[string]int, len(acked))
	for k, n := range acked {
		now[k] = n
	}
	mu.Unlock()
	cancel()
	publishing.Wait()
	<-ended
	if err := driver.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	clear(acked)
	for k, n := range now {
		acked[k] = n
	}
	return left
}

// CrashVerify opens what is left, lets the steps run to their end, and checks it against what was acknowledged.
func CrashVerify(t *testing.T, acked map[string]int, open func() (bus.Driver, error)) {
	t.Helper()
	driver, err := open()
	if err != nil {
		t.Fatalf("open after the last crash: %v", err)
	}
	defer func() { _ = driver.Close() }()
	b := bus.New(driver, bus.Options{Log: slog.New(slog.DiscardHandler), Errors: codec{}})
	ctx, cancel := context.WithCancel(t.Context())
	w := b.As(worker).Consumer()
	in.Handle(w, sum)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, func() {}) }()
	defer func() { cancel(); <-ended }()

	for {
		left, err := Unfinished(ctx, driver, in.Name)
		if err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			break
		}
		<-time.After(time.Millisecond)
	}
	if err := driver.Barrier(ctx); err != nil { // a position moves before the disk has it
		t.Fatal(err)
	}
	outputs, err := ReadAll(ctx, driver, out.Definition())
	if err != nil {
		t.Fatal(err)
	}
	now, err := driver.Current(ctx, in.Name)
	if err != nil {
		t.Fatal(err)
	}
	end := now.Stamps[0].Stamp.Sequence
	last := make(map[string]int)
	for _, r := range outputs {
		var i item
		if err := bus.Decode(r.Value, &i); err != nil {
			t.Fatal(err)
		}
		if i.N != last[r.Key]+1 {
			t.Errorf("key %s: output %d follows %d", r.Key, i.N, last[r.Key])
		}
		last[r.Key] = i.N
	}
	if uint64(len(outputs)) != end {
		t.Errorf("%d records gave %d outputs", end, len(outputs))
	}
	for key, n := range acked {
		if last[key] < n {
			t.Errorf("key %s: %d records were acknowledged and %d are left", key, n, last[key])
		}
	}
}

// BenchmarkSteps measures whole steps: 1 KiB in, 1 KiB out, 4 KiB of state, on 256 keys.
func BenchmarkSteps(ctx context.Context, b *testing.B, driver bus.Driver) {
	rawIn := bus.Topic[[]byte]{Name: in.Name, Writers: in.Writers, Readers: in.Readers}
	rawOut := bus.Topic[[]byte]{Name: out.Name, Writers: out.Writers, Readers: out.Readers}
	rawState := bus.State[[]byte]{Name: "raw", Owner: worker}
	all := bus.New(driver, bus.Options{Log: slog.New(slog.DiscardHandler), Errors: codec{}})
	w := all.As(worker).Consumer()
	record, state := make([]byte, 1024), make([]byte, 4096)
	var done sync.WaitGroup
	rawIn.Handle(w, func(_ context.Context, tx *bus.Tx, key string, _ []byte) error {
		if _, _, err := rawState.Get(tx, key, ""); err != nil {
			return err
		}
		rawState.Put(tx, key, "", state)
		rawOut.Send(tx, key, record)
		return nil
	})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var got atomic.Int64
	complete := make(chan struct{})
	watchCtx, stopWatching := context.WithCancel(ctx)
	watched := make(chan error, 1)
	before, err := ReadAll(ctx, driver, out.Definition())
	if err != nil {
		b.Fatal(err)
	}
	want := int64(len(before) + b.N)
	go func() {
		watched <- Watch(watchCtx, driver, out.Definition(), func(bus.Record) {
			if got.Add(1) == want {
				close(complete)
			}
		})
	}()
	defer func() { stopWatching(); <-watched }()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, func() {}) }()
	start := time.Now()
	b.ResetTimer()
	work := make(chan int, 256)
	for range 256 {
		done.Go(func() {
			for n := range work {
				if _, err := rawIn.Publish(ctx, all.As(client), bus.Keyed[[]byte]{Key: fmt.Sprint(n % 256), Value: record}); err != nil {
					panic(err)
				}
			}
		})
	}
	for n := range b.N {
		work <- n
	}
	close(work)
	done.Wait()
	<-complete
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "steps/s")
	b.StopTimer()
	cancel()
	<-ended
}
