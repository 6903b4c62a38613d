package bustest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// cluster is a process: a bus on a driver with a running worker.
type cluster struct {
	t      testing.TB
	driver bus.Driver
	bus    *bus.Bus
	asked  *bus.Client
	stop   func() // in order
	end    func() // of the consumers
	ended  []<-chan error

	watched func() []bus.Record // what out has had since the start
}

// setup is how a process is started. The zero value is one alone with a worker that handles nothing.
type setup struct {
	wire    func(c *bus.Client, w *bus.Consumer) // of the worker
	follow  bool                                 // has a follower as the client's consumer
	idle    bool                                 // has no worker
	net     *network                             // that it shares with others
	options func(*bus.Options)
	driver  func(bus.Driver) bus.Driver // what the bus is given in place of the driver
}

// start opens the store, lets wire add handlers, and runs the worker.
func start(t testing.TB, h Harness, wire func(c *bus.Client, w *bus.Consumer)) *cluster {
	t.Helper()
	return launch(t, h, setup{wire: wire})
}

func launch(t testing.TB, h Harness, s setup) *cluster {
	t.Helper()
	c := &cluster{t: t, driver: h.Open(t)}
	store := c.driver
	if s.driver != nil {
		c.driver = s.driver(store)
	}
	o := bus.Options{Log: slog.New(slog.DiscardHandler), Errors: codec{}}
	if place, several := store.(process); several {
		o.Self, o.Placement, o.Remote = place.Self(), place, &carrier{from: place.Self().Number, net: s.net}
	}
	if s.options != nil {
		s.options(&o)
	}
	c.bus = bus.New(c.driver, o)
	s.net.join(o.Self.Number, c.bus)
	c.asked = c.bus.As(client)
	ctx, cancel := context.WithCancel(context.Background())
	c.end = cancel
	list := sync.OnceValue(func() func() []bus.Record { return c.watch(ctx) })
	c.watched = func() []bus.Record { return list()() }
	c.stop = sync.OnceFunc(func() {
		c.end()
		c.join()
		s.net.leave(o.Self.Number)
		if err := c.driver.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(func() { c.stop() })
	if s.follow {
		f := c.asked.Consumer()
		out.Handle(f, follow)
		c.run(ctx, f)
	}
	if !s.idle {
		w := c.bus.As(worker).Consumer()
		if s.wire != nil {
			s.wire(c.bus.As(worker), w)
		}
		c.run(ctx, w)
	}
	return c
}

// run runs a consumer, and returns when it is ready.
func (c *cluster) run(ctx context.Context, consumer *bus.Consumer) {
	c.t.Helper()
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- consumer.Run(ctx, sync.OnceFunc(func() { close(ready) })) }()
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		c.t.Fatalf("consumer did not start: %v", err)
	case <-time.After(patience):
		c.t.Fatal("consumer is never ready")
	}
	c.ended = append(c.ended, ended)
}

// join waits for the consumers.
func (c *cluster) join() {
	c.t.Helper()
	for _, ended := range c.ended {
		select {
		case err := <-ended:
			if err != nil {
				c.t.Errorf("consumer ended: %v", err)
			}
		case <-time.After(patience):
			c.t.Error("consumer does not end")
		}
	}
	c.ended = nil
}

func (c *cluster) publish(key string, items ...item) {
	c.t.Helper()
	var keyed []bus.Keyed[item]
	for _, i := range items {
		keyed = append(keyed, bus.Keyed[item]{Key: key, Value: i})
	}
	c.publishAll(keyed)
}

func (c *cluster) publishAll(keyed []bus.Keyed[item]) {
	c.t.Helper()
	if _, err := in.Publish(c.t.Context(), c.asked, keyed...); err != nil {
		c.t.Fatalf("publish: %v", err)
	}
}

// watch follows the topic out.
func (c *cluster) watch(ctx context.Context) func() []bus.Record {
	var mu sync.Mutex
	var list []bus.Record
	ended := make(chan error, 1)
	go func() {
		ended <- Watch(ctx, c.driver, out.Definition(), func(r bus.Record) {
			mu.Lock()
			defer mu.Unlock()
			list = append(list, r)
		})
	}()
	c.ended = append(c.ended, ended)
	return func() []bus.Record {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}

// outputs returns what the topic out is known to have by now; to be sure of more, wait for it.
func (c *cluster) outputs() []bus.Record { return c.watched() }

// allOutputs returns what the topic out has.
func (c *cluster) allOutputs() (list []bus.Record) {
	c.t.Helper()
	list, err := ReadAll(c.t.Context(), c.driver, out.Definition())
	if err != nil {
		c.t.Fatalf("read outputs: %v", err)
	}
	return list
}

// kill ends the process without any order. Its goroutines end with the test.
func (c *cluster) kill(h Shared, n *network) {
	c.t.Helper()
	bury := h.Kill(c.t, c.driver)
	n.leave(c.bus.Self.Number)
	c.stop = sync.OnceFunc(func() {
		bury()
		c.end()
		for _, ended := range c.ended {
			<-ended
		}
		_ = c.driver.Close()
	})
}

// patience bounds every wait. It is met only by what fails.
const patience = 60 * time.Second

// until waits for a condition.
func (c *cluster) until(what string, condition func() bool) {
	c.t.Helper()
	until(c.t, what, condition)
}

func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; !condition(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		wait(pause)
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
	return c.row(key, "").N
}

// row returns a row of sums.
func (c *cluster) row(key, row string) (got item) {
	c.t.Helper()
	err := c.bus.As(worker).View(c.t.Context(), func(r bus.Reader) (err error) {
		got, _, err = sums.Get(r, key, row)
		return err
	})
	if err != nil {
		c.t.Fatalf("sum of %s: %v", key, err)
	}
	return got
}

// aside lists what the worker has set aside.
func (c *cluster) aside() []bus.Held {
	c.t.Helper()
	list, err := c.bus.Held(c.t.Context(), worker, "")
	if err != nil {
		c.t.Fatal(err)
	}
	return list
}

// follow is for a client that reads sums that grow by one: it keeps the last of each key, and counts those that do not follow.
func follow(_ context.Context, tx *bus.Tx, key string, v item) error {
	old, _, err := follows.Get(tx, key, "")
	if err != nil {
		return err
	}
	if v.N != old.N+1 {
		wrong, _, err := follows.Get(tx, key, "wrong")
		if err != nil {
			return err
		}
		wrong.N++
		wrong.Text += fmt.Sprintf("%d after %d; ", v.N, old.N)
		follows.Put(tx, key, "wrong", wrong)
	}
	follows.Put(tx, key, "", v)
	return nil
}

// followed returns the last sum that the follower had of a key, and what was wrong with the ones before.
func (c *cluster) followed(key string) (last int, wrong string) {
	c.t.Helper()
	err := c.asked.View(c.t.Context(), func(r bus.Reader) error {
		got, _, err := follows.Get(r, key, "")
		if err != nil {
			return err
		}
		last = got.N
		got, _, err = follows.Get(r, key, "wrong")
		wrong = got.Text
		return err
	})
	if err != nil {
		c.t.Fatalf("what was followed of %s: %v", key, err)
	}
	return last, wrong
}

// expectFollowed waits until the follower has had the sums 1 to want of each of the keys, in order and once.
func (c *cluster) expectFollowed(keys int, want int) {
	c.t.Helper()
	for k := range keys {
		c.until("the last sum of "+keyName(k), func() bool { last, _ := c.followed(keyName(k)); return last >= want })
	}
	for k := range keys {
		if last, wrong := c.followed(keyName(k)); last != want || wrong != "" {
			c.t.Errorf("%s: the last sum is %d, want %d; out of order: %s", keyName(k), last, want, wrong)
		}
		if got := c.sumOf(keyName(k)); got != want {
			c.t.Errorf("%s: the sum is %d, want %d", keyName(k), got, want)
		}
	}
}
