// Package bus carries everything that the workers of a cluster say to each other, and keeps their state.
//
// Every durable thing a worker does is a step: an input (a record, a timer that is due, or a command) turns into changes
// of keyed state, further records, timers and, for a command, a reply. All of a step commits together with what marks its
// input as done, or nothing does. Inputs with the same key are handled one at a time, in order; different keys in
// parallel. No transaction is open while a handler runs.
//
//	record ─┐                          ┌─ rows, records, timers, reply ─┐
//	timer  ─┼─> queue of its key ─> handler ─> Tx ──────────────────────┼─> one synced commit ─> next of the key
//	command ┘                          └─ position, timer, held row ────┘
//
// A handler that fails because something is unavailable is run again, with back-off, for ever. An input that can't be
// handled is poison: it and what follows with the same key are set aside until somebody replays or drops them. A
// handler may hold its input until an entry of a table changes.
//
// Beside steps there are commands (Command: a call that must not be lost), calls (Call: request and reply without
// durability), Publish (records without a step) and tables (Table: a compacted topic in memory). The package knows no
// word of Corda; what the cluster says over it is declared in cluster/topic.
package bus

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Role is the name of a worker. Who may write, read, ask and answer is said in roles.
type Role string

// Bus joins the workers of one process to a driver, and to those in other processes.
type Bus struct {
	Options
	driver  Driver
	metrics *metrics
	lags    lagCache

	mu        sync.Mutex
	consumers map[Role]*Consumer
	answers   map[string]answer
	watching  map[*partition]struct{} // those that are told when an entry of a table changes
	changed   chan struct{}           // closed and replaced whenever consumers, their partitions or answers change
}

// New joins a process to a driver. The caller closes the driver after everything that uses the bus has ended. A process
// that has calls only has no driver.
func New(driver Driver, opts Options) *Bus {
	if driver == nil {
		driver = callsOnly{}
	}
	if opts.MaxLag == 0 {
		opts.MaxLag = 5 * maxWindowRecords
	}
	b := &Bus{
		Options: opts, driver: driver, metrics: newMetrics(opts.Metrics), consumers: make(map[Role]*Consumer),
		answers: make(map[string]answer), watching: make(map[*partition]struct{}), changed: make(chan struct{}),
	}
	if opts.Metrics != nil {
		opts.Metrics.MustRegister(newCollector(b))
	}
	return b
}

// As returns the bus as one role may use it: a topic, command, call or kind of state that does not list the role is
// refused.
func (b *Bus) As(role Role) *Client { return &Client{bus: b, role: role} }

// Client is the bus in the hands of one role.
type Client struct {
	bus  *Bus
	role Role
}

// Role returns the role that the client acts for.
func (c *Client) Role() Role { return c.role }

// Self returns the process, as others know it. Its number is 0 where there are no others.
func (c *Client) Self() Instance { return c.bus.Self }

// View runs fn on the state as it is now, and returns when what fn saw is durable, so that nothing leaves the process
// on the strength of a step that could still be lost.
func (c *Client) View(ctx context.Context, fn func(r Reader) error) error {
	if err := fn(&view{ctx: ctx, client: c}); err != nil {
		return err
	}
	return c.bus.driver.Barrier(ctx)
}

// notify wakes those who wait for a consumer, a partition or an answer to appear. b.mu is held.
func (b *Bus) notify() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// wait runs find until it finds something or ctx ends; find is called with b.mu held.
func (b *Bus) wait(ctx context.Context, what string, find func() bool) error {
	for {
		b.mu.Lock()
		found, changed := find(), b.changed
		b.mu.Unlock()
		if found {
			return nil
		}
		if err := b.awaitChange(ctx, changed, what); err != nil {
			return err
		}
	}
}

// awaitChange returns when something of this process or of the placement of others may have changed.
func (b *Bus) awaitChange(ctx context.Context, changed <-chan struct{}, what string) error {
	var elsewhere <-chan struct{}
	if b.Placement != nil {
		elsewhere = b.Placement.Changed()
	}
	timer := time.NewTimer(placementTime)
	defer timer.Stop()
	select {
	case <-changed:
	case <-elsewhere:
	case <-timer.C: // a change between the look and the wait
	case <-ctx.Done():
		return failure(kindUnavailable, "%s is not running", what)
	}
	return nil
}

// placementTime bounds how long a change of the placement can be overlooked.
const placementTime = 200 * time.Millisecond

func (c *Client) may(list []Role, verb, what, name string) error {
	if slices.Contains(list, c.role) {
		return nil
	}
	return failure(kindForbidden, "role %s may not %s %s %s", c.role, verb, what, name)
}
