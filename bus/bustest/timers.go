package bustest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

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

// killedTimer sets timers that are due while nobody runs, and after.
func killedTimer(t *testing.T, h Harness) {
	wire := func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(_ context.Context, tx *bus.Tx, key string, v item) error {
			tx.SetTimer("t", tx.Now().Add(time.Duration(v.N)*time.Millisecond))
			sums.Put(tx, key, "set", item{N: 1})
			return nil
		})
		w.HandleTimers(func(ctx context.Context, tx *bus.Tx, key, _ string) error { return sum(ctx, tx, key, item{N: 1}) })
	}
	var m *mortal
	c := launch(t, h, setup{wire: wire, driver: func(d bus.Driver) bus.Driver {
		m = newMortal(d, nil)
		return m
	}})
	c.publish("soon", item{N: 2000})
	c.publish("late", item{N: 4000})
	c.until("both are set", func() bool { return c.row("soon", "set").N == 1 && c.row("late", "set").N == 1 })
	m.kill()
	if c.sumOf("soon") != 0 {
		t.Log("this machine is so slow that the timer was due before the owner was killed")
	}
	c.stop()
	c = start(t, h, wire)
	c.until("both fire", func() bool { return len(c.outputs()) >= 2 })
	c.publish("soon", item{N: 0})
	c.until("it fires again", func() bool { return c.sumOf("soon") >= 2 })
	if soon, late := c.sumOf("soon"), c.sumOf("late"); soon != 2 || late != 1 {
		t.Errorf("the timers fired %d and %d times, want 2, as one was set twice, and 1", soon, late)
	}
}
