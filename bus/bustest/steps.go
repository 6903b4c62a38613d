package bustest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hawser-project/hawser/bus"
)

func orderAndRestart(t *testing.T, h Harness) {
	wire := func(_ *bus.Client, w *bus.Consumer) { in.Handle(w, sum) }
	const keys, each = 20, 50
	for round := range 2 {
		c := start(t, h, wire)
		var wg sync.WaitGroup
		for k := range keys {
			wg.Go(func() {
				for range each {
					c.publish(fmt.Sprintf("k%d", k), item{N: 1})
				}
			})
		}
		wg.Wait()
		if round == 1 {
			c.until("all sums", func() bool { return len(c.outputs()) == 2*keys*each })
			last := make(map[string]int)
			for _, r := range c.outputs() {
				var i item
				if err := bus.Decode(r.Value, &i); err != nil {
					t.Fatal(err)
				}
				if i.N != last[r.Key]+1 {
					t.Fatalf("key %s: sum %d after %d", r.Key, i.N, last[r.Key])
				}
				last[r.Key] = i.N
			}
		}
		c.stop()
	}
}

// slowKey has one input in work until all others are done: whoever waits for it, waits in vain.
func slowKey(t *testing.T, h Harness) {
	const others = 199
	release := make(chan struct{})
	var took latencies
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if key == "slow" {
				<-release
			} else {
				defer took.end(key)
			}
			return sum(ctx, tx, key, v)
		})
	})
	releaseOnce := sync.OnceFunc(func() { close(release) })
	defer releaseOnce()
	c.publish("slow", item{N: 1})
	for k := range others {
		took.begin(keyName(k))
		c.publish(keyName(k), item{N: 1})
	}
	c.until("the other keys", func() bool { return len(c.outputs()) == others })
	t.Logf("the others took %s at the 99th percentile", took.percentile(99))
	releaseOnce()
	c.until("the slow key", func() bool { return c.sumOf("slow") == 1 })
}

func atomic_(t *testing.T, h Harness) {
	var fail atomic.Bool
	fail.Store(true)
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if err := sum(ctx, tx, key, v); err != nil {
				return err
			}
			if fail.Swap(false) {
				panic("half way")
			}
			return nil
		})
	})
	c.publish("k", item{N: 3}, item{N: 4})
	c.until("both sums", func() bool { return len(c.outputs()) >= 2 })
	if n := len(c.outputs()); n != 2 || c.sumOf("k") != 7 {
		t.Errorf("two steps gave %d outputs and the sum %d, want 2 and 7", n, c.sumOf("k"))
	}
}

type later struct{}

func (later) Error() string { return "not yet" }

func (later) FaultKind() string { return "unavailable" }

func unavailable(t *testing.T, h Harness) {
	var tries atomic.Int32
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if tries.Add(1) < 4 {
				return later{}
			}
			return sum(ctx, tx, key, v)
		})
	})
	c.publish("k", item{N: 1}, item{N: 1})
	c.until("the dependency is back", func() bool { return c.sumOf("k") == 2 })
}
