package bustest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

func slowKey(t *testing.T, h Harness) {
	release := make(chan struct{})
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if key == "slow" {
				<-release
			}
			return sum(ctx, tx, key, v)
		})
	})
	c.publish("slow", item{N: 1})
	for k := range 50 {
		c.publish(fmt.Sprintf("k%d", k), item{N: 1})
	}
	c.until("the other keys", func() bool { return len(c.outputs()) == 50 })
	close(release)
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
	c.publish("k", item{N: 3})
	c.until("the sum", func() bool { return c.sumOf("k") == 3 })
	if n := len(c.outputs()); n != 1 {
		t.Errorf("got %d outputs of one step, want 1", n)
	}
}

func timers(t *testing.T, h Harness) {
	wire := func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(_ context.Context, tx *bus.Tx, _ string, v item) error {
			switch v.Text {
			case "stop":
				tx.StopTimer("t")
			default:
				tx.SetTimer("t", tx.Now().Add(time.Duration(v.N)*time.Millisecond))
			}
			return nil
		})
		w.HandleTimers(func(ctx context.Context, tx *bus.Tx, key, name string) error {
			return sum(ctx, tx, key, item{N: 1})
		})
	}
	c := start(t, h, wire)
	c.publish("early", item{N: 1})
	c.publish("moved", item{N: 3_600_000}, item{N: 1})
	c.publish("stopped", item{N: 300}, item{Text: "stop"})
	c.publish("late", item{N: 600})
	c.until("two timers", func() bool { return c.sumOf("early") == 1 && c.sumOf("moved") == 1 })
	c.stop()
	c = start(t, h, wire)
	c.until("the timer from before the restart", func() bool { return c.sumOf("late") == 1 })
	wait(100 * time.Millisecond)
	for key, want := range map[string]int{"early": 1, "moved": 1, "late": 1, "stopped": 0} {
		if got := c.sumOf(key); got != want {
			t.Errorf("%s fired %d times, want %d", key, got, want)
		}
	}
}

func conflicts(t *testing.T, h Harness) {
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, _ string, v item) error { return sum(ctx, tx, "shared", v) })
	})
	for k := range 100 {
		c.publish(fmt.Sprintf("k%d", k), item{N: 1})
	}
	c.until("every step", func() bool { return len(c.outputs()) == 100 })
	if got := c.sumOf("shared"); got != 100 {
		t.Errorf("shared sum is %d, want 100", got)
	}
}

func poison(t *testing.T, h Harness) {
	var cured atomic.Bool
	wire := func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if v.Text == "poison" && !cured.Load() {
				return errors.New("cannot be handled")
			}
			return sum(ctx, tx, key, v)
		})
	}
	c := start(t, h, wire)
	c.publish("sick", item{N: 1}, item{N: 2, Text: "poison"}, item{N: 4})
	c.publish("well", item{N: 1})
	c.until("the healthy key", func() bool { return c.sumOf("well") == 1 })
	aside := func(c *cluster) []bus.Held {
		list, err := c.bus.Held(t.Context(), worker, "")
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	c.until("poison and what follows it are set aside", func() bool { return len(aside(c)) == 2 })
	if list := aside(c); !list[0].Poison || list[0].Reason != "cannot be handled" {
		t.Errorf("set aside as %+v", list[0])
	}
	c.stop()
	c = start(t, h, wire)
	c.publish("sick", item{N: 8})
	c.until("a new input waits behind", func() bool { return len(aside(c)) == 3 })
	if got := c.sumOf("sick"); got != 1 {
		t.Errorf("sum is %d before the replay, want 1", got)
	}
	cured.Store(true)
	if err := c.bus.Replay(t.Context(), worker, "sick"); err != nil {
		t.Fatal(err)
	}
	c.until("the replay", func() bool { return c.sumOf("sick") == 15 && len(aside(c)) == 0 })
	c.publish("sick", item{N: 16})
	c.until("the key goes on", func() bool { return c.sumOf("sick") == 31 })
}

func held(t *testing.T, h Harness) {
	c := start(t, h, func(client *bus.Client, w *bus.Consumer) {
		table := entries.Table(client)
		go func() { _ = table.Run(t.Context(), func() {}) }()
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if _, found := table.Get("wanted"); !found {
				return bus.Hold("no entry yet", table.Until("wanted"))
			}
			return sum(ctx, tx, key, v)
		})
	})
	c.publish("k", item{N: 1}, item{N: 2})
	c.until("held", func() bool {
		list, err := c.bus.Held(t.Context(), worker, "")
		return err == nil && len(list) == 2 && list[0].Reason == "no entry yet" && !list[0].Poison
	})
	if _, err := entries.Publish(t.Context(), c.asked, bus.Keyed[item]{Key: "wanted", Value: item{N: 1}}); err != nil {
		t.Fatal(err)
	}
	c.until("released", func() bool { return c.sumOf("k") == 3 })
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

func openRecords(t *testing.T, h Harness) {
	var mu sync.Mutex
	var open []*bus.Open[item]
	wire := func(_ *bus.Client, w *bus.Consumer) {
		in.HandleOpen(w, func(_ context.Context, o *bus.Open[item]) {
			mu.Lock()
			defer mu.Unlock()
			open = append(open, o)
		})
	}
	c := start(t, h, wire)
	c.publish("k", item{N: 1}, item{N: 2}, item{N: 3}, item{N: 4})
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(open) }
	c.until("all are open", func() bool { return count() == 4 })
	for _, i := range []int{3, 1} {
		err := open[i].Finish(t.Context(), func(tx *bus.Tx) error { out.Send(tx, "k", open[i].Value); return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	c.stop()
	open = nil
	c = start(t, h, wire)
	c.until("the others are open again", func() bool { return count() == 2 })
	if open[0].Value.N != 1 || open[1].Value.N != 3 {
		t.Errorf("open again: %d and %d, want 1 and 3", open[0].Value.N, open[1].Value.N)
	}
}

// manyTimers sets timers that are due at once, soon and later, from many keys at a time: none is late, none comes twice.
func manyTimers(t *testing.T, h Harness) {
	var late atomic.Int64
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(_ context.Context, tx *bus.Tx, _ string, v item) error {
			tx.SetTimer("t", tx.Now().Add(time.Duration(v.N)*time.Millisecond))
			return nil
		})
		w.HandleTimers(func(ctx context.Context, tx *bus.Tx, key, _ string) error {
			if time.Since(tx.Input().Time) > 5*time.Second {
				late.Add(1)
			}
			return sum(ctx, tx, key, item{N: 1})
		})
	})
	const keys = 300
	for k := range keys {
		c.publish(fmt.Sprintf("k%d", k), item{N: k % 3 * 40})
	}
	c.until("every timer", func() bool { return len(c.outputs()) >= keys })
	wait(50 * time.Millisecond)
	if n := len(c.outputs()); n != keys {
		t.Errorf("%d timers fired %d times", keys, n)
	}
	if n := late.Load(); n > 0 {
		t.Errorf("%d timers were late", n)
	}
}
