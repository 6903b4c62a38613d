package bus

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// Limits of a consumer.
const (
	parallelHandlers = 1024
	maxCommands      = 10_000 // commands waiting or in work
	drainTime        = 5 * time.Second
	minBackoff       = 10 * time.Millisecond
	maxBackoff       = 5 * time.Second
)

// Consumer hands inputs to the handlers of one role, in each of the role's partitions that this process owns. Handlers are
// added before Run.
type Consumer struct {
	client  *Client
	topics  []subscription
	timer   func(ctx context.Context, tx *Tx, key, name string) error
	command map[string]commandHandler
	// rehandlers make the handler of an input that comes back from having been set aside, by topic.
	rehandlers map[string]rehandler
	before     []func(ctx context.Context, has func(key string) bool) error
	after      []func(has func(key string) bool)

	count int32 // of partitions that the role has
	slots chan struct{}

	mu       sync.Mutex
	owned    map[int32]*partition
	commands int
}

// subscription is a topic with what takes its records.
type subscription struct {
	topic    string
	dispatch func(f *feed, r Record) bool
}

// Consumer returns a consumer without handlers. A role has one.
func (c *Client) Consumer() *Consumer {
	return &Consumer{
		client: c, command: make(map[string]commandHandler), rehandlers: make(map[string]rehandler),
		count: c.bus.driver.Partitions(c.role), slots: make(chan struct{}, parallelHandlers), owned: make(map[int32]*partition),
	}
}

// HandleTimers sets the handler that gets the timers of this role as they become due.
func (c *Consumer) HandleTimers(fn func(ctx context.Context, tx *Tx, key, name string) error) {
	c.timer = fn
}

// Before has fn run each time that this process gets a partition, before the first input of it is handed out; has says
// whether a key is of that partition.
func (c *Consumer) Before(fn func(ctx context.Context, has func(key string) bool) error) {
	c.before = append(c.before, fn)
}

// After has fn run each time that a partition is this process's no more, before it can be again.
func (c *Consumer) After(fn func(has func(key string) bool)) { c.after = append(c.after, fn) }

type rehandler func(key string, value []byte) func(context.Context, *Tx) error

func (c *Consumer) addRehandler(topic string, r rehandler) { c.rehandlers[topic] = r }

// Run hands inputs to handlers until ctx ends. It then begins nothing new, gives handlers in work a while to end, and
// returns. It is ready when each partition of the role has an owner that works, here or elsewhere.
func (c *Consumer) Run(ctx context.Context, ready func()) error {
	b := c.client.bus
	b.mu.Lock()
	b.consumers[c.client.role] = c
	b.notify()
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		if b.consumers[c.client.role] == c {
			delete(b.consumers, c.client.role)
		}
		b.mu.Unlock()
	}()

	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		if b.wait(running, "", c.everywhere) == nil {
			ready()
		}
	})
	err := b.driver.Own(running, c.client.role, func(ctx context.Context, o *Ownership) {
		if err := newPartition(c, o).run(ctx); err != nil && !retryable(err) {
			fail(err)
		}
	})
	if cause := context.Cause(running); err == nil && ctx.Err() == nil {
		err = cause
	}
	fail(nil)
	return err
}

// everywhere says whether each partition of the role is owned by a process. The bus's mutex is held.
func (c *Consumer) everywhere() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.client.bus
	for p := range c.count {
		if c.owned[p] != nil {
			continue
		}
		if b.Placement == nil {
			return false
		}
		if owner, found := b.Placement.Owner(c.client.role, p); !found || owner.Number == b.Self.Number {
			return false
		}
	}
	return true
}

// RunAfter is Run for a worker that has something to do, by its own commands, before it is ready. When first fails the
// consumer stops, and its error is returned.
func (c *Consumer) RunAfter(ctx context.Context, first func(context.Context) error, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	began := make(chan struct{})
	err := c.Run(ctx, func() {
		close(began)
		go func() {
			err := c.untilAvailable(ctx, first)
			if err == nil {
				ready()
			} else if ctx.Err() != nil {
				err = nil // stopped meanwhile
			}
			done <- err
			if err != nil {
				cancel()
			}
		}()
	})
	cancel() // a consumer that failed by itself does not answer first any more
	select {
	case <-began:
		if firstErr := <-done; firstErr != nil {
			return firstErr
		}
	default:
	}
	return err
}

// untilAvailable repeats what failed because something is unavailable: partitions move while processes start.
func (c *Consumer) untilAvailable(ctx context.Context, do func(context.Context) error) error {
	for pause := routePause; ; pause = min(2*pause, maxBackoff) {
		err := do(ctx)
		if err == nil || !retryable(err) || pauseFor(ctx, pause) != nil {
			return err
		}
		c.client.bus.Log.WarnContext(ctx, "bus waits", "what", "begin the work", "role", c.client.role, "error", err)
	}
}

// join takes a partition up that works now, and leave takes it out.
func (c *Consumer) join(p *partition) {
	b := c.client.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owned[p.Partition] = p
	b.watching[p] = struct{}{}
	b.notify()
}

func (c *Consumer) leave(p *partition) {
	b := c.client.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owned[p.Partition] == p {
		delete(c.owned, p.Partition)
	}
	delete(b.watching, p)
	b.notify()
}

// partitionOf returns the partition of a key if this process owns it, and its number.
func (c *Consumer) partitionOf(key string) (p *partition, number int32) {
	number = PartitionOf(key, c.count)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owned[number], number
}

// Owns says whether this process does the steps of the key.
func (c *Consumer) Owns(key string) bool {
	p, _ := c.partitionOf(key)
	return p != nil
}

// partitions returns those that this process owns, in order.
func (c *Consumer) partitions() []*partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.Collect(maps.Values(c.owned))
	slices.SortFunc(list, func(a, b *partition) int { return int(a.Partition - b.Partition) })
	return list
}
