package bustest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

func adder(_ *bus.Client, w *bus.Consumer) {
	add.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, req item) (item, error) {
		if req.N < 0 {
			sums.Put(tx, key, "", req)
			return item{}, refusal("negative")
		}
		if err := sum(ctx, tx, key, req); err != nil {
			return item{}, err
		}
		now, _, err := sums.Get(tx, key, "")
		return now, err
	})
}

func repeatedCommand(t *testing.T, h Harness) {
	for round := range 2 {
		c := start(t, h, adder)
		for range 3 {
			got, _, err := add.Do(t.Context(), c.asked, "k", "id-1", item{N: 5})
			if err != nil || got.N != 5 {
				t.Fatalf("round %d: got %d, %v; want 5", round, got.N, err)
			}
		}
		if n := c.sumOf("k"); n != 5 {
			t.Errorf("sum is %d, want 5", n)
		}
		c.stop()
	}
}

func reusedID(t *testing.T, h Harness) {
	c := start(t, h, adder)
	if _, _, err := add.Do(t.Context(), c.asked, "k", "id", item{N: 1}); err != nil {
		t.Fatal(err)
	}
	_, _, err := add.Do(t.Context(), c.asked, "k", "id", item{N: 2})
	var kind interface{ FaultKind() string }
	if !errors.As(err, &kind) || kind.FaultKind() != "conflict" {
		t.Errorf("got %v, want a conflict", err)
	}
	if got, _, err := add.Do(t.Context(), c.asked, "k", "id", item{N: 1}); err != nil || got.N != 1 {
		t.Errorf("the first reply is lost: got %d, %v", got.N, err)
	}
}

func refusedCommand(t *testing.T, h Harness) {
	c := start(t, h, adder)
	for range 2 {
		if _, _, err := add.Do(t.Context(), c.asked, "k", "id", item{N: -1}); err == nil || err.Error() != "negative" {
			t.Fatalf("got %v, want the refusal", err)
		}
	}
	if n := c.sumOf("k"); n != 0 {
		t.Errorf("a refused command left %d", n)
	}
}

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

func roles(t *testing.T, h Harness) {
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(_ context.Context, tx *bus.Tx, key string, v item) error {
			in.Send(tx, key, v) // the worker may only read it
			return nil
		})
	})
	if _, err := out.Publish(t.Context(), c.asked); err == nil {
		t.Error("a role published to a topic that it does not write")
	}
	if _, _, err := add.Do(t.Context(), c.bus.As(worker), "k", "id", item{}); err == nil {
		t.Error("a role asked for a command that it may not ask for")
	}
	if _, err := ask.Do(t.Context(), c.bus.As(worker), item{}); err == nil {
		t.Error("a role made a call that it may not make")
	}
	if err := c.asked.View(t.Context(), func(r bus.Reader) error { _, _, err := sums.Get(r, "k", ""); return err }); err == nil {
		t.Error("a role read the state of another")
	}
	c.publish("k", item{N: 1})
	c.until("the step is refused", func() bool {
		list, err := c.bus.Held(t.Context(), worker, "")
		return err == nil && len(list) == 1 && list[0].Poison
	})
}

func calls(t *testing.T, h Harness) {
	c := start(t, h, nil)
	go func() {
		wait(20 * time.Millisecond) // the caller waits for a worker that is not there yet
		ask.Answer(c.bus.As(worker), func(_ context.Context, req item) (item, error) { return item{N: req.N * 2}, nil })
	}()
	if got, err := ask.Do(t.Context(), c.asked, item{N: 21}); err != nil || got.N != 42 {
		t.Errorf("got %d, %v; want 42", got.N, err)
	}
}

// runAfter has something to do before the worker is ready: its own command is answered, and its failure ends the worker.
func runAfter(t *testing.T, h Harness) {
	own := bus.Command[item, item]{Name: "own", Askers: []bus.Role{worker}, Answers: worker}
	driver := h.Open(t)
	defer func() { _ = driver.Close() }()
	for _, want := range []error{nil, refusal("negative")} {
		b := bus.New(driver, bus.Options{Log: slog.New(slog.DiscardHandler), Errors: codec{}})
		w := b.As(worker).Consumer()
		own.Handle(w, func(context.Context, *bus.Tx, string, item) (item, error) { return item{}, want })
		ctx, cancel := context.WithCancel(t.Context())
		ready := false
		err := w.RunAfter(ctx, func(ctx context.Context) error {
			_, _, err := own.Do(ctx, b.As(worker), "k", fmt.Sprint(want), item{})
			return err
		}, func() { ready = true; cancel() })
		cancel()
		if !errors.Is(err, want) || ready != (want == nil) {
			t.Errorf("ended with %v, ready %v; want %v", err, ready, want)
		}
	}
}
