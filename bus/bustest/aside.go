package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hawser-project/hawser/bus"
)

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
	c.until("poison and what follows it are set aside", func() bool { return len(c.aside()) == 2 })
	if list := c.aside(); !list[0].Poison || list[0].Reason != "cannot be handled" {
		t.Errorf("set aside as %+v", list[0])
	}
	c.stop()
	c = start(t, h, wire)
	c.publish("sick", item{N: 8})
	c.until("a new input waits behind", func() bool { return len(c.aside()) == 3 })
	if got := c.sumOf("sick"); got != 1 {
		t.Errorf("sum is %d before the replay, want 1", got)
	}
	cured.Store(true)
	if err := c.bus.Replay(t.Context(), worker, "sick"); err != nil {
		t.Fatal(err)
	}
	c.until("the replay", func() bool { return c.sumOf("sick") == 15 && len(c.aside()) == 0 })
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

// dropped has two inputs that nothing can be done with, in a row of five; an operator drops the first after a restart.
func dropped(t *testing.T, h Harness) {
	wire := func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if v.Text == "poison" {
				return errors.New("cannot be handled")
			}
			return sum(ctx, tx, key, v)
		})
	}
	c := start(t, h, wire)
	c.publish("k", item{N: 1}, item{N: 2, Text: "poison"}, item{N: 4}, item{N: 8, Text: "poison"}, item{N: 16})
	c.until("four are set aside", func() bool { return len(c.aside()) == 4 })
	c.stop()
	c = start(t, h, wire)
	list, err := c.bus.Held(t.Context(), worker, "k")
	if err != nil || len(list) != 4 {
		t.Fatalf("held: %d inputs, %v; want 4", len(list), err)
	}
	var v item
	if err := bus.Decode(list[0].Value, &v); err != nil || v.N != 2 || list[0].Source != in.Name {
		t.Errorf("the first is %+v of %s, %v; want 2 of %s", v, list[0].Source, err, in.Name)
	}
	if err := c.bus.Drop(t.Context(), worker, "k", list[0].Row); err != nil {
		t.Fatal(err)
	}
	c.until("the next one goes on, and the second poison stops again", func() bool { return c.sumOf("k") == 5 && len(c.aside()) == 2 })
	if err := c.bus.Drop(t.Context(), worker, "k", list[0].Row); err == nil {
		t.Error("an input was dropped twice")
	}
	c.until("the second poison is known as such", func() bool { return c.aside()[0].Reason == "cannot be handled" })
	if err := c.bus.Drop(t.Context(), worker, "k", c.aside()[0].Row); err != nil {
		t.Fatal(err)
	}
	c.until("the rest goes on", func() bool { return c.sumOf("k") == 21 && len(c.aside()) == 0 })
	c.until("a replay is refused, as there is nothing", func() bool { return c.bus.Replay(t.Context(), worker, "k") != nil })
}

// journal writes notes in steps that fail first, that are refused, and that go well.
func journal(t *testing.T, h Harness) {
	wire := func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(_ context.Context, tx *bus.Tx, _ string, v item) error {
			tx.Note("got", map[string]string{"n": fmt.Sprint(v.N)})
			switch {
			case v.Text == "poison":
				return errors.New("cannot be handled")
			case v.Text == "panic" && tx.Input().Attempt == 1:
				panic("half way")
			}
			tx.Note("done", nil)
			return nil
		})
		add.Handle(w, func(_ context.Context, tx *bus.Tx, _ string, _ item) (item, error) {
			tx.Note("command", nil)
			return item{}, refusal("refused")
		})
	}
	var want []string
	expect := func(c *cluster, more ...string) {
		t.Helper()
		want = append(want, more...)
		var got []string
		c.until(fmt.Sprintf("%d notes", len(want)), func() bool {
			notes, err := c.bus.As(worker).Journal(t.Context(), "k")
			if err != nil {
				t.Fatal(err)
			}
			got = nil
			for _, n := range notes {
				got = append(got, n.What+n.Details["n"])
			}
			return len(got) >= len(want)
		})
		if !slices.Equal(got, want) {
			t.Fatalf("the journal has %v, want %v", got, want)
		}
	}
	c := start(t, h, wire)
	c.publish("k", item{N: 1}, item{N: 2, Text: "panic"})
	expect(c, "got1", "done", "got2", "done")
	if _, _, err := add.Do(t.Context(), c.asked, "k", "id", item{}); err == nil {
		t.Error("the command was not refused")
	}
	expect(c)
	c.stop()
	c = start(t, h, wire)
	c.publish("k", item{N: 3}, item{N: 4, Text: "poison"})
	c.until("poison", func() bool { return len(c.aside()) == 1 })
	expect(c, "got3", "done")
	if notes, err := c.bus.As(worker).Journal(t.Context(), "other"); err != nil || len(notes) > 0 {
		t.Errorf("another key has %d notes, %v", len(notes), err)
	}
}

// busy has a handler wait, and records come.
func busy(t *testing.T, h Harness) {
	release := make(chan struct{})
	c := launch(t, h, setup{
		options: func(o *bus.Options) { o.MaxLag = 5 },
		wire: func(_ *bus.Client, w *bus.Consumer) {
			in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
				<-release
				return sum(ctx, tx, key, v)
			})
		},
	})
	releaseOnce := sync.OnceFunc(func() { close(release) })
	defer releaseOnce()
	if err := in.Busy(t.Context(), c.asked, "k"); err != nil {
		t.Errorf("busy with nothing: %v", err)
	}
	c.publish("k", make([]item, 6)...)
	var err error
	c.until("busy", func() bool { err = in.Busy(t.Context(), c.asked, "k"); return err != nil })
	if kindOf(err) != "unavailable" {
		t.Errorf("busy says %v, want an error of the kind unavailable", err)
	}
	releaseOnce()
	c.until("not busy any more", func() bool { return in.Busy(t.Context(), c.asked, "k") == nil })
}

// kindOf returns the kind of a failure.
func kindOf(err error) string {
	var kind interface{ FaultKind() string }
	if !errors.As(err, &kind) {
		return ""
	}
	return kind.FaultKind()
}

// brokenRelease has the worker stop in the middle of a release: the first of three held inputs is handled, the others wait
// behind it and are no poison for that.
func brokenRelease(t *testing.T, h Harness) {
	var reached, away atomic.Bool
	away.Store(true)
	wire := func(client *bus.Client, w *bus.Consumer) {
		table := entries.Table(client)
		go func() { _ = table.Run(t.Context(), func() {}) }()
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if _, found := table.Get("wanted"); !found {
				return bus.Hold("no entry yet", table.Until("wanted"))
			}
			if v.N == 2 && away.Load() {
				reached.Store(true)
				return later{}
			}
			return sum(ctx, tx, key, v)
		})
	}
	c := start(t, h, wire)
	c.publish("k", item{N: 1}, item{N: 2}, item{N: 4})
	c.until("all are held", func() bool { return len(c.aside()) == 3 })
	if _, err := entries.Publish(t.Context(), c.asked, bus.Keyed[item]{Key: "wanted", Value: item{N: 1}}); err != nil {
		t.Fatal(err)
	}
	c.until("the first is handled", func() bool { return c.sumOf("k") == 1 && reached.Load() })
	c.stop()
	away.Store(false)
	c = start(t, h, wire)
	c.until("what waited behind", func() bool { return c.sumOf("k") == 7 && len(c.aside()) == 0 })
}
