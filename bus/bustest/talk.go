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

// diedBeforeCommit and diedBeforeAnswer repeat a command with its id, from a process that knows nothing of the first try.
func diedBeforeCommit(t *testing.T, h Harness) { died(t, h, diesBefore) }
func diedBeforeAnswer(t *testing.T, h Harness) { died(t, h, diesAfter) }

func died(t *testing.T, h Harness, what fate) {
	var m *mortal
	c := launch(t, h, setup{wire: adder, driver: func(d bus.Driver) bus.Driver {
		m = newMortal(d, oncePer(what, "k"))
		return m
	}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	defer context.AfterFunc(m.dead, func() { wait(100 * time.Millisecond); cancel() })()
	if _, _, err := add.Do(ctx, c.asked, "k", "id", item{N: 5}); kindOf(err) != "unavailable" {
		t.Errorf("the first try got %v, want that it is unavailable", err)
	}
	c.stop()
	c = start(t, h, adder)
	if what == diesAfter {
		// Something else happens before the command is repeated.
		if got, _, err := add.Do(t.Context(), c.asked, "k", "other", item{N: 10}); err != nil || got.N != 15 {
			t.Errorf("another command got %d, %v; want 15", got.N, err)
		}
	}
	for range 2 {
		if got, _, err := add.Do(t.Context(), c.asked, "k", "id", item{N: 5}); err != nil || got.N != 5 {
			t.Errorf("the repeated command got %d, %v; want 5", got.N, err)
		}
	}
	want := map[fate]int{diesBefore: 5, diesAfter: 15}[what]
	if got := c.sumOf("k"); got != want {
		t.Errorf("the sum is %d, want %d", got, want)
	}
}
