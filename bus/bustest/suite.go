// Package bustest is the suite that every bus driver must pass: one body, run on each driver by that driver's tests.
package bustest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// A Harness opens drivers on one store, so that a test can close and open it again.
type Harness interface {
	Open(t testing.TB) bus.Driver
}

// The roles, topics, commands, calls and state of the suite.
const (
	worker = bus.Role("worker")
	client = bus.Role("client")
)

type item struct {
	N    int    `cbor:"1,keyasint"`
	Text string `cbor:"2,keyasint,omitempty"`
}

var (
	in      = bus.Topic[item]{Name: "in", Writers: []bus.Role{client}, Readers: []bus.Role{worker}}
	out     = bus.Topic[item]{Name: "out", Writers: []bus.Role{worker}, Readers: []bus.Role{client}}
	entries = bus.Topic[item]{Name: "entries", Writers: []bus.Role{worker, client}, Readers: []bus.Role{worker, client}, Compacted: true}
	add     = bus.Command[item, item]{Name: "add", Askers: []bus.Role{client}, Answers: worker}
	ask     = bus.Call[item, item]{Name: "ask", Askers: []bus.Role{client}, Answers: []bus.Role{worker}}
	sums    = bus.State[item]{Name: "sums", Owner: worker}
)

// Definitions are what a driver must be told of for the suite.
func Definitions() []bus.Definition {
	return []bus.Definition{in.Definition(), out.Definition(), entries.Definition(), add.Definition(), ask.Definition(), sums.Definition()}
}

// refusal is an error of a handler that is kept as a reply.
type refusal string

func (r refusal) Error() string { return string(r) }

type codec struct{}

func (codec) EncodeError(err error) []byte    { return []byte(err.Error()) }
func (codec) DecodeError(octets []byte) error { return refusal(octets) }

// cluster is a bus on a driver with a running worker.
type cluster struct {
	t      testing.TB
	driver bus.Driver
	bus    *bus.Bus
	asked  *bus.Client
	worker *bus.Consumer
	stop   func()
}

// start opens the store, lets wire add handlers, and runs the worker.
func start(t testing.TB, h Harness, wire func(c *bus.Client, w *bus.Consumer)) *cluster {
	t.Helper()
	c := &cluster{t: t, driver: h.Open(t)}
	c.bus = bus.New(c.driver, bus.Options{Log: slog.New(slog.DiscardHandler), Errors: codec{}})
	c.asked = c.bus.As(client)
	w := c.bus.As(worker)
	c.worker = w.Consumer()
	if wire != nil {
		wire(w, c.worker)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- c.worker.Run(ctx, sync.OnceFunc(func() { close(ready) })) }()
	<-ready
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("worker ended: %v", err)
		}
		if err := c.driver.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(c.stop)
	return c
}

func (c *cluster) publish(key string, items ...item) {
	c.t.Helper()
	var keyed []bus.Keyed[item]
	for _, i := range items {
		keyed = append(keyed, bus.Keyed[item]{Key: key, Value: i})
	}
	if _, err := in.Publish(c.t.Context(), c.asked, keyed...); err != nil {
		c.t.Fatalf("publish: %v", err)
	}
}

// outputs returns what has been sent to the topic out.
func (c *cluster) outputs() (list []bus.Record) {
	c.t.Helper()
	end, _ := c.driver.End(out.Name, 0)
	list, err := c.driver.Read(c.t.Context(), out.Name, 0, 0, int(end)+1)
	if err != nil {
		c.t.Fatalf("read outputs: %v", err)
	}
	return list
}

// until waits for a condition, for up to 20 s.
func (c *cluster) until(what string, condition func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			c.t.Fatalf("waited in vain: %s", what)
		}
		wait(2 * time.Millisecond)
	}
}

// wait lets other goroutines run for a while.
func wait(d time.Duration) { <-time.After(d) }

// sum adds the input to the key's sum, and sends the new sum on.
func sum(_ context.Context, tx *bus.Tx, key string, v item) error {
	old, _, err := sums.Get(tx, key, "")
	if err != nil {
		return err
	}
	old.N += v.N
	sums.Put(tx, key, "", old)
	out.Send(tx, key, old)
	return nil
}

func (c *cluster) sumOf(key string) int {
	c.t.Helper()
	var got item
	err := c.bus.As(worker).View(c.t.Context(), func(r bus.Reader) (err error) {
		got, _, err = sums.Get(r, key, "")
		return err
	})
	if err != nil {
		c.t.Fatalf("sum of %s: %v", key, err)
	}
	return got.N
}

// Run runs the suite.
func Run(t *testing.T, harness func(t testing.TB) Harness) {
	tests := []struct {
		name string
		run  func(t *testing.T, h Harness)
	}{
		{"records of a key are handled in order and once, over a restart", orderAndRestart},
		{"a slow key holds back nothing but itself", slowKey},
		{"a step is all or nothing", atomic_},
		{"a repeated command gets its first reply", repeatedCommand},
		{"an id used again with another body is refused", reusedID},
		{"a refused command changes nothing and is refused again", refusedCommand},
		{"a timer fires once, over a restart, and can be moved and stopped", timers},
		{"timers of many keys fire once each, in time", manyTimers},
		{"steps that meet on shared state run again", conflicts},
		{"poison sets aside its key only, and can be replayed", poison},
		{"a held input waits for its table entry", held},
		{"a table shows a command's effect at its place", tablePlace},
		{"a role can do only what is declared", roles},
		{"an unavailable dependency is waited for", unavailable},
		{"values at the limit pass and larger ones are refused", limits},
		{"blobs are stored by content, read by range and swept", blobs},
		{"open records finish in any order", openRecords},
		{"a call is answered", calls},
		{"a field of a later release survives a rewrite", unknownFields},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, harness(t))
		})
	}
}

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
		list, err := c.worker.Held(t.Context())
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
	if err := c.worker.Release(t.Context(), "sick"); err != nil {
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
		list, err := c.worker.Held(t.Context())
		return err == nil && len(list) == 2 && list[0].Reason == "no entry yet" && !list[0].Poison
	})
	if _, err := entries.Publish(t.Context(), c.asked, bus.Keyed[item]{Key: "wanted", Value: item{N: 1}}); err != nil {
		t.Fatal(err)
	}
	c.until("released", func() bool { return c.sumOf("k") == 3 })
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
	end, _ := c.driver.End(entries.Name, 0)
	if records, err := c.driver.Read(t.Context(), entries.Name, 0, 0, 100); err != nil || len(records) != 1 || end != 20 {
		t.Errorf("the compacted topic has %d records up to %d, %v; want 1 up to 20", len(records), end, err)
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
		list, err := c.worker.Held(t.Context())
		return err == nil && len(list) == 1 && list[0].Poison
	})
}

type later struct{}

func (later) Error() string     { return "not yet" }
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

func limits(t *testing.T, h Harness) {
	raw := bus.Topic[[]byte]{Name: in.Name, Writers: in.Writers, Readers: in.Readers}
	c := start(t, h, nil)
	for size, ok := range map[int]bool{0: true, bus.MaxValue: true, bus.MaxValue + 1: false} {
		value := bytes.Repeat([]byte{7}, size)
		_, err := raw.Publish(t.Context(), c.asked, bus.Keyed[[]byte]{Key: "k", Value: value})
		if (err == nil) != ok {
			t.Errorf("%d octets: %v", size, err)
		}
	}
	records, err := c.driver.Read(t.Context(), in.Name, 0, 0, 10)
	if err != nil || len(records) != 2 {
		t.Errorf("got %d records, %v; want 2", len(records), err)
	}
}

func blobs(t *testing.T, h Harness) {
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		add.Handle(w, func(_ context.Context, tx *bus.Tx, _ string, req item) (item, error) {
			id, err := bus.ParseBlobID(req.Text)
			if err != nil {
				return item{}, err
			}
			if req.N == 1 {
				tx.KeepBlob(id, "test")
			} else {
				tx.DropBlob(id, "test")
			}
			return item{}, nil
		})
	})
	content := make([]byte, 3<<20+17)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	blob, err := c.asked.PutBlob(t.Context(), bytes.NewReader(content), 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	if want := bus.BlobID(sha256.Sum256(content)); blob.ID != want || blob.Size != int64(len(content)) {
		t.Errorf("stored %d octets as %s, want %s", blob.Size, blob.ID, want)
	}
	r, err := c.asked.OpenBlob(t.Context(), blob.ID)
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 1000)
	if _, err := r.ReadAt(part, 1<<20); err != nil || !bytes.Equal(part, content[1<<20:1<<20+1000]) {
		t.Errorf("a range reads wrong: %v", err)
	}
	_ = r.Close()
	if _, err := c.asked.PutBlob(t.Context(), io.LimitReader(zeros{}, 5<<20), 4<<20); err == nil {
		t.Error("a blob over the limit was stored")
	}
	cutOff := io.MultiReader(bytes.NewReader(content), failing{io.ErrUnexpectedEOF})
	if _, err := c.asked.PutBlob(t.Context(), cutOff, 4<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a source that was cut off: got %v, want its error", err)
	}
	for n, want := range []int{1: 0, 2: 1} {
		if n == 0 {
			continue
		}
		if _, _, err := add.Do(t.Context(), c.asked, "k", fmt.Sprint(n), item{N: n, Text: blob.ID.String()}); err != nil {
			t.Fatal(err)
		}
		if removed, err := c.bus.SweepBlobs(t.Context(), time.Now().Add(2*time.Hour)); err != nil || removed != want {
			t.Errorf("swept %d, %v; want %d", removed, err, want)
		}
	}
	if _, err := c.asked.OpenBlob(t.Context(), blob.ID); err == nil {
		t.Error("a swept blob opens")
	}
}

type zeros struct{}

// failing is a source that ends with an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

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

// laterItem is item as a later release may have it.
type laterItem struct {
	N     int    `cbor:"1,keyasint"`
	Extra string `cbor:"9,keyasint"`
}

func unknownFields(t *testing.T, h Harness) {
	laterSums := bus.State[laterItem]{Name: sums.Name, Owner: worker}
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, sum)
		add.Handle(w, func(_ context.Context, tx *bus.Tx, key string, req item) (item, error) {
			laterSums.Put(tx, key, "", laterItem{N: req.N, Extra: "kept"})
			return req, nil
		})
	})
	if _, _, err := add.Do(t.Context(), c.asked, "k", "id", item{N: 1}); err != nil {
		t.Fatal(err)
	}
	c.publish("k", item{N: 1})
	c.until("the rewrite", func() bool { return c.sumOf("k") == 2 })
	var got laterItem
	if err := c.bus.As(worker).View(t.Context(), func(r bus.Reader) (err error) {
		got, _, err = laterSums.Get(r, "k", "")
		return err
	}); err != nil || got.Extra != "kept" {
		t.Errorf("got %+v, %v", got, err)
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
