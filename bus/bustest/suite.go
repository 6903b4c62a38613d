// Package bustest is the suite that every bus driver must pass: one body, run on each driver by that driver's tests.
package bustest

import (
	"context"
	"log/slog"
	"sync"
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
	list, err := ReadAll(c.t.Context(), c.driver, out.Definition())
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
		{"a worker is ready after what it does first", runAfter},
		{"a field of a later release survives a rewrite", unknownFields},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, harness(t))
		})
	}
}
