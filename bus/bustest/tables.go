package bustest

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/hawser-project/hawser/bus"
)

func tablePlace(t *testing.T, h Harness) {
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		add.Handle(w, func(_ context.Context, tx *bus.Tx, key string, req item) (item, error) {
			if req.N == 0 {
				entries.Remove(tx, key)
			} else {
				entries.Send(tx, key, req)
			}
			return req, nil
		})
	})
	table := entries.Table(c.asked)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = table.Run(ctx, func() {}) }()
	defer func() { cancel(); <-ended }()
	for n := range 20 {
		want := n % 3
		_, at, err := add.Do(t.Context(), c.asked, "k", fmt.Sprint(n), item{N: want})
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Wait(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		if got, found := table.Get("k"); got.N != want || found != (want != 0) {
			t.Fatalf("table shows %d, %v; want %d", got.N, found, want)
		}
	}
	if err := table.WaitCurrent(t.Context()); err != nil {
		t.Error(err)
	}
	fresh := entries.Table(c.asked) // a table made later shows the same, whatever has been compacted away
	caughtUp, freshEnded := make(chan struct{}), make(chan struct{})
	go func() { defer close(freshEnded); _ = fresh.Run(ctx, func() { close(caughtUp) }) }()
	defer func() { cancel(); <-freshEnded }()
	<-caughtUp
	if got, want := fresh.All(), table.All(); len(got) != len(want) || got["k"] != want["k"] {
		t.Errorf("a table made later has %v, want %v", got, want)
	}
}

// tableLater fills a topic by steps and without, removes some, and reads it anew.
func tableLater(t *testing.T, h Harness) {
	const keys = 40
	wire := func(_ *bus.Client, w *bus.Consumer) {
		add.Handle(w, func(_ context.Context, tx *bus.Tx, key string, req item) (item, error) {
			if req.N == 0 {
				entries.Remove(tx, key)
			} else {
				entries.Send(tx, key, req)
			}
			return req, nil
		})
	}
	c := start(t, h, wire)
	table, _ := runTable(c)
	want := make(map[string]item)
	for n := range keys {
		key, v := keyName(n/2), item{N: (n + 1) % 4}
		if n%8 == 2 { // without a step
			if _, err := entries.Publish(t.Context(), c.asked, bus.Keyed[item]{Key: key, Value: v}); err != nil {
				t.Fatal(err)
			}
		} else if _, _, err := add.Do(t.Context(), c.asked, key, fmt.Sprint(n), v); err != nil {
			t.Fatal(err)
		}
		if want[key] = v; v.N == 0 {
			delete(want, key)
		}
		if err := table.WaitCurrent(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, found := table.Get(key); got != want[key] || found != (v.N != 0) {
			t.Fatalf("after WaitCurrent the table shows %d, %v; want %d", got.N, found, v.N)
		}
	}
	if _, _, err := add.Do(t.Context(), c.asked, "never there", "id", item{}); err != nil {
		t.Errorf("removing an absent entry: %v", err)
	}
	c.stop()
	c = start(t, h, wire)
	table, ready := runTable(c)
	<-ready
	if got := table.All(); !maps.Equal(got, want) {
		t.Errorf("a table made later has %v, want %v", got, want)
	}
	if err := table.WaitCurrent(t.Context()); err != nil {
		t.Error(err)
	}
}

// runTable runs a table until the process ends.
func runTable(c *cluster) (*bus.Table[item], <-chan struct{}) {
	table := entries.Table(c.asked)
	ctx, cancel := context.WithCancel(context.Background())
	ended, ready := make(chan error, 1), make(chan struct{})
	go func() { ended <- table.Run(ctx, func() { close(ready) }) }()
	c.ended = append(c.ended, ended)
	end := c.end
	c.end = func() { cancel(); end() }
	return table, ready
}
