package bustest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// The tests in this file have several processes on one store. A reader that follows the sums of all keys finds what was lost,
// came twice or overtook.

// reader is a process that publishes and follows, and has no worker.
func reader(t *testing.T, h Shared, n *network) *cluster {
	t.Helper()
	return launch(t, h, setup{idle: true, follow: true, net: n})
}

func summing(_ *bus.Client, w *bus.Consumer) { in.Handle(w, sum) }

// round publishes one record for each key.
func (c *cluster) round(keys int) {
	c.t.Helper()
	var keyed []bus.Keyed[item]
	for k := range keys {
		keyed = append(keyed, bus.Keyed[item]{Key: keyName(k), Value: item{N: 1}})
	}
	c.publishAll(keyed)
}

func lateSends(t *testing.T, h Shared) {
	const keys = 6
	n := newNetwork()
	r := reader(t, h, n)
	first := launch(t, h, setup{wire: summing, net: n})
	r.round(keys)
	r.expectFollowed(keys, 1)
	release := sync.OnceFunc(h.HoldSends(first.driver))
	defer release()
	for range 4 {
		r.round(keys)
	}
	r.until("the steps whose records are held back", func() bool { return r.all(keys, 5) })
	h.Lose(t, first.driver)
	launch(t, h, setup{wire: summing, net: n})
	r.round(keys)
	r.expectFollowed(keys, 6)
	release()
	for range 4 {
		r.round(keys)
	}
	r.expectFollowed(keys, 10)
	t.Logf("the topic has %d records, %d of them for the second time", len(r.allOutputs()), len(r.allOutputs())-10*keys)
}

// all says whether all keys have a sum.
func (c *cluster) all(keys, want int) bool {
	for k := range keys {
		if c.sumOf(keyName(k)) < want {
			return false
		}
	}
	return true
}

// lateCommit has an owner read that a row is absent, and commit when its successor has made and deleted it: what it has read
// holds again, and yet the step is not its any more.
func lateCommit(t *testing.T, h Shared) {
	n := newNetwork()
	entered, goOn, lost := make(chan struct{}, 10), make(chan struct{}), make(chan struct{})
	wire := func(hangs bool) func(*bus.Client, *bus.Consumer) {
		return func(_ *bus.Client, w *bus.Consumer) {
			in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
				if v.Text == "delete" {
					sums.Delete(tx, "row", "")
					return nil
				}
				if _, there, err := sums.Get(tx, "row", ""); err != nil || there {
					return errors.Join(err, errors.New("the row is there"))
				}
				sums.Put(tx, "row", "", item{N: 1})
				if !hangs {
					return sum(ctx, tx, key, v)
				}
				// It sends nothing, so that no number of a record that was used before can give it away.
				sums.Put(tx, key, "late", item{N: 1})
				entered <- struct{}{}
				<-goOn
				return nil
			})
			if hangs {
				once := sync.OnceFunc(func() { close(lost) })
				w.After(func(has func(string) bool) {
					if has("k0") {
						once()
					}
				})
			}
		}
	}
	r := reader(t, h, n)
	first := launch(t, h, setup{wire: wire(true), net: n})
	resume := sync.OnceFunc(func() { close(goOn) })
	defer resume()
	r.publish("k0", item{N: 1})
	receive(t, "the first owner's handler", entered)
	h.Lose(t, first.driver)
	launch(t, h, setup{wire: wire(false), net: n})
	r.until("the second owner's step", func() bool { return r.row("row", "").N == 1 })
	r.publish("other", item{Text: "delete"})
	r.until("the row is deleted", func() bool { return r.row("row", "").N == 0 })
	resume()
	receive(t, "the first owner's loss", lost)
	r.expectFollowed(1, 1)
	if row, late := r.row("row", "").N, r.row("k0", "late").N; row != 0 || late != 0 {
		t.Errorf("the first owner wrote rows: %d, %d", row, late)
	}
}

func receive[T any](t testing.TB, what string, from <-chan T) {
	t.Helper()
	select {
	case <-from:
	case <-time.After(patience):
		t.Fatalf("waited in vain: %s", what)
	}
}

// stream publishes rounds in the background. reached waits until so many of them are published.
func (c *cluster) stream(keys, rounds int) (reached func(int)) {
	var published atomic.Int64
	ended := make(chan error, 1)
	go func() {
		for range rounds {
			for k := range keys {
				if _, err := in.Publish(c.t.Context(), c.asked, bus.Keyed[item]{Key: keyName(k), Value: item{N: 1}}); err != nil {
					ended <- fmt.Errorf("publish: %w", err)
					return
				}
			}
			published.Add(1)
		}
		ended <- nil
	}()
	c.ended = append(c.ended, ended)
	return func(n int) {
		c.t.Helper()
		c.until(fmt.Sprintf("%d rounds", n), func() bool { return published.Load() >= int64(n) })
	}
}

// slowly is summing with a handler that takes its time, so that some are in work at any moment.
func slowly(_ *bus.Client, w *bus.Consumer) {
	in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
		wait(20 * time.Millisecond)
		return sum(ctx, tx, key, v)
	})
}

func moves(t *testing.T, h Shared) {
	const keys, rounds = 12, 30
	n := newNetwork()
	r := reader(t, h, n)
	first := launch(t, h, setup{wire: slowly, net: n})
	reached := r.stream(keys, rounds)
	reached(8)
	second := launch(t, h, setup{wire: slowly, net: n})
	r.until("the second process has a share", func() bool { return r.owners()[second.bus.Self.Number] > 0 })
	reached(16)
	first.stop()
	reached(24)
	launch(t, h, setup{wire: slowly, net: n})
	r.expectFollowed(keys, rounds)
}

// owners says how many partitions of the worker each process has.
func (c *cluster) owners() map[uint16]int {
	had := make(map[uint16]int)
	for p := range c.driver.Partitions(worker) {
		if i, found := c.bus.Placement.Owner(worker, p); found {
			had[i.Number]++
		}
	}
	return had
}

func killed(t *testing.T, h Shared) {
	const keys, rounds = 12, 30
	n := newNetwork()
	r := reader(t, h, n)
	first := launch(t, h, setup{wire: slowly, net: n})
	second := launch(t, h, setup{wire: slowly, net: n})
	r.until("both have a share", func() bool { return len(r.owners()) == 2 })
	reached := r.stream(keys, rounds)
	reached(10)
	first.kill(h, n)
	reached(20)
	launch(t, h, setup{wire: slowly, net: n})
	second.kill(h, n)
	r.expectFollowed(keys, rounds)
}

func sentTwice(t *testing.T, h Shared) {
	const keys = 5
	n := newNetwork()
	launch(t, h, setup{wire: summing, net: n})
	r := reader(t, h, n)
	for range 4 {
		r.round(keys)
	}
	r.expectFollowed(keys, 4)
	h.Again(t, out.Name)
	r.round(keys)
	r.expectFollowed(keys, 5)
	r.stop()
	h.Again(t, out.Name)
	r = reader(t, h, n)
	r.round(keys)
	r.expectFollowed(keys, 6)
}

func tableSentTwice(t *testing.T, h Shared) {
	c := launch(t, h, setup{wire: func(_ *bus.Client, w *bus.Consumer) {
		add.Handle(w, func(_ context.Context, tx *bus.Tx, key string, req item) (item, error) {
			entries.Send(tx, key, req)
			return req, nil
		})
	}})
	table, _ := runTable(c)
	for n := range 12 {
		_, at, err := add.Do(t.Context(), c.asked, keyName(n%3), fmt.Sprint(n), item{N: n})
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Wait(t.Context(), at); err != nil {
			t.Fatal(err)
		}
	}
	want := table.All()
	h.Again(t, entries.Name)
	_, at, err := add.Do(t.Context(), c.asked, "last", "last", item{N: 100})
	if err != nil {
		t.Fatal(err)
	}
	want["last"] = item{N: 100}
	fresh, _ := runTable(c)
	for _, of := range []*bus.Table[item]{table, fresh} {
		if err := of.Wait(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		if got := of.All(); !maps.Equal(got, want) {
			t.Errorf("the table has %v, want %v", got, want)
		}
	}
}

// setBack restores the database to a moment between two rounds, which Kafka has passed. What the worker sends to a table is
// set back with it.
func setBack(t *testing.T, h Shared) {
	const keys = 5
	s := setup{follow: true, wire: func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if err := sum(ctx, tx, key, v); err != nil {
				return err
			}
			now, _, err := sums.Get(tx, key, "")
			entries.Send(tx, key, now)
			return err
		})
	}}
	expect := func(c *cluster, want int) {
		t.Helper()
		c.expectFollowed(keys, want)
		table, _ := runTable(c)
		if err := table.WaitCurrent(t.Context()); err != nil {
			t.Fatal(err)
		}
		for k := range keys {
			if got, _ := table.Get(keyName(k)); got.N != want {
				t.Errorf("the table shows %d for %s, want %d", got.N, keyName(k), want)
			}
		}
	}
	c := launch(t, h, s)
	rounds := func(n int) {
		t.Helper()
		for range n {
			c.round(keys)
		}
	}
	rounds(10)
	expect(c, 10)
	restore := h.Snapshot(t)
	rounds(7)
	expect(c, 17)
	c.stop()
	restore()
	c = launch(t, h, s)
	expect(c, 17)
	rounds(3)
	expect(c, 20)
	c.stop()
	c = launch(t, h, s)
	rounds(1)
	expect(c, 21)
}

// storeGone takes the store away while an input is handled: the consumer ends, and so does the driver.
func storeGone(t *testing.T, h Shared) {
	entered, goOn := make(chan struct{}, 10), make(chan struct{})
	c := launch(t, h, setup{wire: func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			entered <- struct{}{}
			<-goOn
			return sum(ctx, tx, key, v)
		})
	}})
	c.publish("k", item{N: 1})
	receive(t, "the handler", entered)
	bury := h.Kill(t, c.driver)
	c.stop = func() { bury(); c.end() }
	close(goOn)
	wait(50 * time.Millisecond) // the step is handed in
	c.end()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for _, ended := range c.ended {
			<-ended
		}
		_ = c.driver.Close()
	}()
	receive(t, "a process without its store ends", closed)
}
