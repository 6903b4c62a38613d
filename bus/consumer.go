package bus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
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

// Consumer hands inputs to the handlers of one role. Handlers are added before Run.
type Consumer struct {
	client  *Client
	readers []*feed
	timer   func(ctx context.Context, tx *Tx, key, name string) error
	command map[string]commandHandler
	// rehandlers make the handler of an input that comes back from having been set aside, by topic.
	rehandlers map[string]rehandler

	mu       sync.Mutex
	keys     map[string]*queue    // keys in work
	blocked  map[string]*blockade // keys with inputs set aside
	flying   map[string]struct{}  // timers in work, by input id
	commands int
	stopping bool
	// dueFrom is at or below the due time of every timer: what lies before it was deleted, and a scan need not walk over
	// it. dueSet is the earliest due time of those set since the last scan began; such a scan may not have seen them.
	dueFrom  string
	dueSet   string
	nextScan time.Time // when the feed looks next, at the latest

	work  sync.WaitGroup
	slots chan struct{}
	wake  chan struct{}   // a timer was set
	holds chan struct{}   // an input was set aside
	ctx   context.Context // ends when handlers must stop
	quit  <-chan struct{} // closed when no new work is begun
}

// Consumer returns a consumer without handlers. A role has one.
func (c *Client) Consumer() *Consumer {
	return &Consumer{
		client: c, command: make(map[string]commandHandler),
		keys: make(map[string]*queue), blocked: make(map[string]*blockade), flying: make(map[string]struct{}),
		slots: make(chan struct{}, parallelHandlers), wake: make(chan struct{}, 1), holds: make(chan struct{}, 1),
		rehandlers: make(map[string]rehandler),
	}
}

// HandleTimers sets the handler that gets the timers of this role as they become due.
func (c *Consumer) HandleTimers(fn func(ctx context.Context, tx *Tx, key, name string) error) {
	c.timer = fn
}

type rehandler func(key string, value []byte) func(context.Context, *Tx) error

func (c *Consumer) addRehandler(topic string, r rehandler) { c.rehandlers[topic] = r }

// input is one thing to be handled.
type input struct {
	Input
	size   int
	handle func(ctx context.Context, tx *Tx) error
	// finish adds to a step what marks the input as done.
	finish func(tx *Tx)
	// aside is what is stored when the input is set aside; nil for a command, which is answered instead.
	aside *heldInput
	// refuse makes the step that ends a command whose handler refused it.
	refuse func(ctx context.Context, err error) *Tx
	// done is told once, at the end.
	done func(Commit, error)
}

// queue is what waits behind the input of a key that is in work.
type queue struct{ waiting []*input }

// Run takes up what was left, then hands inputs to handlers until ctx ends. It then begins nothing new, gives handlers
// in work a while to end, and returns.
func (c *Consumer) Run(ctx context.Context, ready func()) error {
	handlers, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	c.ctx, c.quit = handlers, ctx.Done()
	if err := c.loadBlocked(ctx); err != nil {
		return err
	}
	feeders := c.feeders()
	errs := make(chan error, len(feeders))
	var feeding sync.WaitGroup
	feedCtx, stopFeeding := context.WithCancel(ctx)
	defer stopFeeding()
	for _, feed := range feeders {
		feeding.Go(func() {
			if err := feed(feedCtx); err != nil && feedCtx.Err() == nil {
				errs <- err
			}
		})
	}
	c.join()
	ready()
	var err error
	select {
	case <-ctx.Done():
	case err = <-errs:
	}
	c.leave()
	stopFeeding()
	feeding.Wait()
	c.drain(cancel)
	return err
}

// RunAfter is Run for a worker that has something to do, by its own commands, before it is ready. When first fails the
// consumer stops, and its error is returned.
func (c *Consumer) RunAfter(ctx context.Context, first func(context.Context) error, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	began := false
	err := c.Run(ctx, func() {
		began = true
		go func() {
			err := first(ctx)
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
	if began {
		if firstErr := <-done; firstErr != nil {
			return firstErr
		}
	}
	return err
}

func (c *Consumer) feeders() []func(context.Context) error {
	feeders := []func(context.Context) error{c.feedTimers, c.expireReplies, c.retryHeld}
	for _, f := range c.readers {
		feeders = append(feeders, f.run)
	}
	return feeders
}

func (c *Consumer) join() {
	b := c.client.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	b.consumers[c.client.role] = c
	b.notify()
}

func (c *Consumer) leave() {
	b := c.client.bus
	b.mu.Lock()
	delete(b.consumers, c.client.role)
	b.mu.Unlock()
	c.mu.Lock()
	c.stopping = true
	c.mu.Unlock()
}

// drain waits for the handlers in work, and cancels them when they take too long.
func (c *Consumer) drain(cancel context.CancelFunc) {
	ended := make(chan struct{})
	go func() { c.work.Wait(); close(ended) }()
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		cancel()
		<-ended
	}
}

// enqueue puts an input behind those with the same key. It reports false when the consumer takes no more.
func (c *Consumer) enqueue(in *input) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return false
	}
	if q, busy := c.keys[in.Key]; busy {
		q.waiting = append(q.waiting, in)
		return true
	}
	c.keys[in.Key] = &queue{}
	c.work.Add(1)
	go c.workOff(in)
	return true
}

// workOff handles an input and all that comes to wait behind it.
func (c *Consumer) workOff(in *input) {
	defer c.work.Done()
	for in != nil {
		c.slots <- struct{}{}
		c.run(in)
		<-c.slots
		in = c.next(in.Key)
	}
}

func (c *Consumer) next(key string) *input {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.keys[key]
	if len(q.waiting) == 0 {
		delete(c.keys, key)
		return nil
	}
	in := q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	return in
}

// run handles one input until it is done, set aside, or the consumer stops.
func (c *Consumer) run(in *input) {
	panics := 0
	backoff := minBackoff
	for in.Attempt = 1; ; in.Attempt++ {
		if c.mustStop() {
			in.done(Commit{}, ErrClosed)
			return
		}
		if in.aside != nil && c.passBlockade(in) {
			return
		}
		commit, err := c.try(in)
		var hold *holdError
		var broken *panicError
		switch {
		case err == nil:
			in.done(commit, nil)
			return
		case errors.Is(err, ErrConflict):
			c.client.bus.metrics.conflicts.WithLabelValues(string(c.client.role)).Inc()
			continue
		case in.aside == nil:
			c.answer(in, err)
			return
		case errors.As(err, &hold):
			if c.setAside(in, hold.reason, hold) {
				return
			}
		case retryable(err):
			c.log(in, "input waits", err)
		case errors.As(err, &broken) && panics == 0:
			panics++
			c.log(in, "handler panicked", err)
		default:
			c.log(in, "input is poison", err)
			if c.setAside(in, err.Error(), nil) {
				return
			}
		}
		backoff = c.pause(backoff)
	}
}

// try runs the handler once and commits what it wants.
func (c *Consumer) try(in *input) (Commit, error) {
	start := time.Now()
	tx := newTx(c.ctx, c.client, in.Input)
	if err := invoke(c.ctx, tx, in.handle); err != nil {
		return Commit{}, err
	}
	if in.finish != nil {
		in.finish(tx)
	}
	commit, err := c.commit(tx)
	c.client.bus.metrics.step.WithLabelValues(string(c.client.role)).Observe(time.Since(start).Seconds())
	return commit, err
}

// commit seals and commits a step, and wakes what it concerns.
func (c *Consumer) commit(tx *Tx) (Commit, error) {
	if err := c.writeTimers(tx); err != nil {
		return Commit{}, err
	}
	step, err := tx.seal()
	if err != nil {
		return Commit{}, err
	}
	commit, err := c.client.bus.commit(context.WithoutCancel(c.ctx), step)
	if err == nil && len(tx.timers) > 0 {
		c.timersSet(tx.input.Key, tx.timers)
	}
	return commit, err
}

// invoke calls a handler and turns a panic into an error.
func invoke(ctx context.Context, tx *Tx, handle func(context.Context, *Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p, stack: debug.Stack()}
		}
	}()
	if err := handle(ctx, tx); err != nil {
		return err
	}
	return tx.err
}

type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// answer ends a command whose handler returned an error: what may succeed later is given back without a trace, what was
// refused is kept as the reply.
func (c *Consumer) answer(in *input, cause error) {
	if retryable(cause) || in.refuse == nil {
		in.done(Commit{}, cause)
		return
	}
	commit, err := c.commit(in.refuse(c.ctx, cause))
	if err != nil {
		in.done(Commit{}, err)
		return
	}
	in.done(commit, cause)
}

func (c *Consumer) mustStop() bool {
	select {
	case <-c.quit:
		return true
	case <-c.ctx.Done():
		return true
	default:
		return false
	}
}

// pause sleeps for a back-off, or until the consumer stops, and returns the next back-off.
func (c *Consumer) pause(backoff time.Duration) time.Duration {
	timer := time.NewTimer(backoff)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.quit:
	}
	return min(2*backoff, maxBackoff)
}

func (c *Consumer) log(in *input, what string, err error) {
	c.client.bus.log.WarnContext(c.ctx, "input not handled", "what", what, "role", c.client.role, "input", in.ID, "attempt", in.Attempt, "error", err)
}
