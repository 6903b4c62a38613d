package bus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// partition is the work of one partition of a role's keys while this process owns it.
type partition struct {
	*Ownership
	consumer *Consumer
	client   *Client

	mu       sync.Mutex
	keys     map[string]*queue    // keys in work
	blocked  map[string]*blockade // keys with inputs set aside
	flying   map[string]struct{}  // timers in work, by input id
	stopping bool
	// dueFrom is at or below the due time of every timer: what lies before it was deleted, and a scan need not walk over
	// it. dueSet is the earliest due time of those set since the last scan began; such a scan may not have seen them.
	dueFrom  string
	dueSet   string
	nextScan time.Time // when the feed looks next, at the latest
	changes  map[Until]struct{}
	journal  map[int64]int64 // octets of notes by hour

	took         time.Time
	journalKnown bool // what journal had at the start is in it
	work         sync.WaitGroup
	wake         chan struct{}   // a timer was set
	holds        chan struct{}   // an input was set aside
	changed      chan struct{}   // an entry of a table changed that somebody waits for
	ctx          context.Context // ends when handlers must stop
	quit         <-chan struct{} // closed when no new work is begun
}

func newPartition(c *Consumer, o *Ownership) *partition {
	return &partition{
		Ownership: o, consumer: c, client: c.client,
		keys: make(map[string]*queue), blocked: make(map[string]*blockade), flying: make(map[string]struct{}), changes: make(map[Until]struct{}),
		journal: make(map[int64]int64), took: time.Now(),
		wake: make(chan struct{}, 1), holds: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
}

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

// kind names a kind of rows of the bus's own that only this partition's owner writes.
func (p *partition) kind(what string) string { return partitionKind(what, p.Role, p.Partition) }

func partitionKind(what string, role Role, partition int32) string {
	return fmt.Sprintf("_%s:%s/%d", what, role, partition)
}

// run takes up what was left, then hands inputs to handlers until ctx ends.
func (p *partition) run(ctx context.Context) error {
	handlers, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	p.ctx, p.quit = handlers, ctx.Done()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), ErrLost) {
			cancel() // nothing of what is in work can be committed
		}
	})()
	defer func() {
		for _, fn := range p.consumer.after {
			fn(p.has)
		}
	}()
	if err := p.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	feeders := []func(context.Context) error{p.feedTimers, p.expire, p.retryHeld}
	for _, s := range p.consumer.topics {
		f := newFeed(p, s)
		feeders = append(feeders, f.run)
		defer f.forget()
	}
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
	p.consumer.join(p)
	var err error
	select {
	case <-ctx.Done():
	case err = <-errs:
	}
	p.consumer.leave(p)
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	stopFeeding()
	feeding.Wait()
	p.drain(cancel)
	return err
}

// prepare reads what was set aside, and has the worker read what it keeps in memory.
func (p *partition) prepare(ctx context.Context) error {
	steps := []func(context.Context) error{p.loadBlocked}
	for _, fn := range p.consumer.before {
		steps = append(steps, func(ctx context.Context) error { return fn(ctx, p.has) })
	}
	for _, step := range steps {
		if err := p.persevere(ctx, "take up a partition", step); err != nil {
			return err
		}
	}
	return nil
}

// persevere repeats what failed because something is unavailable.
func (p *partition) persevere(ctx context.Context, what string, do func(context.Context) error) error {
	for backoff := minBackoff; ; {
		err := do(ctx)
		if err == nil || !retryable(err) || ctx.Err() != nil {
			return err
		}
		p.client.bus.Log.WarnContext(ctx, "bus waits", "what", what, "role", p.Role, "partition", p.Partition, "error", err)
		backoff = p.pause(backoff)
	}
}

func (p *partition) has(key string) bool { return PartitionOf(key, p.consumer.count) == p.Partition }

// drain waits for the handlers in work, and cancels them when they take too long.
func (p *partition) drain(cancel context.CancelFunc) {
	ended := make(chan struct{})
	go func() { p.work.Wait(); close(ended) }()
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		cancel()
		<-ended
	}
}

// enqueue puts an input behind those with the same key. It reports false when the partition takes no more.
func (p *partition) enqueue(in *input) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return false
	}
	if q, busy := p.keys[in.Key]; busy {
		q.waiting = append(q.waiting, in)
		return true
	}
	p.keys[in.Key] = &queue{}
	p.work.Add(1)
	go p.workOff(in)
	return true
}

// workOff handles an input and all that comes to wait behind it.
func (p *partition) workOff(in *input) {
	defer p.work.Done()
	for in != nil {
		p.takeTurn(in)
		in = p.next(in.Key)
	}
}

// takeTurn handles an input when one of the role's slots is free. A partition that stops waits for none.
func (p *partition) takeTurn(in *input) {
	select {
	case p.consumer.slots <- struct{}{}:
		defer func() { <-p.consumer.slots }()
	case <-p.quit:
	}
	p.handle(in)
}

func (p *partition) next(key string) *input {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.keys[key]
	if len(q.waiting) == 0 {
		delete(p.keys, key)
		return nil
	}
	in := q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	return in
}

// handle handles one input until it is done, set aside, or the partition stops.
func (p *partition) handle(in *input) {
	panics := 0
	backoff := minBackoff
	for in.Attempt = 1; ; in.Attempt++ {
		if p.mustStop() {
			in.done(Commit{}, ErrClosed)
			return
		}
		if in.aside != nil && p.passBlockade(in) {
			return
		}
		commit, err := p.try(in)
		var hold *holdError
		var broken *panicError
		switch {
		case err == nil:
			in.done(commit, nil)
			return
		case errors.Is(err, ErrConflict):
			p.client.bus.metrics.conflicts.WithLabelValues(string(p.Role)).Inc()
			continue
		case errors.Is(err, ErrLost):
			in.done(Commit{}, ErrLost)
			return
		case in.aside == nil:
			p.answer(in, err)
			return
		case errors.As(err, &hold):
			if p.setAside(in, hold.reason, hold) {
				return
			}
		case retryable(err):
			p.log(in, "input waits", err)
		case errors.As(err, &broken) && panics == 0:
			panics++
			p.log(in, "handler panicked", err)
		default:
			p.log(in, "input is poison", err)
			if p.setAside(in, err.Error(), nil) {
				return
			}
		}
		backoff = p.pause(backoff)
	}
}

// try runs the handler once and commits what it wants.
func (p *partition) try(in *input) (Commit, error) {
	start := time.Now()
	tx := newTx(p.ctx, p, in.Input)
	if err := invoke(p.ctx, tx, in.handle); err != nil {
		if errors.Is(err, ErrLost) || errors.Is(err, ErrConflict) { // of something that the handler did, not of this step
			err = failure(kindUnavailable, "%v", err)
		}
		return Commit{}, err
	}
	if in.finish != nil {
		in.finish(tx)
	}
	commit, err := p.commit(tx)
	p.client.bus.metrics.step.WithLabelValues(string(p.Role)).Observe(time.Since(start).Seconds())
	return commit, err
}

// commit seals and commits a step, and wakes what it concerns.
func (p *partition) commit(tx *Tx) (Commit, error) {
	if err := p.writeTimers(tx); err != nil {
		return Commit{}, err
	}
	step, err := tx.seal()
	if err != nil {
		return Commit{}, err
	}
	commit, err := p.client.bus.commit(context.WithoutCancel(p.ctx), step)
	if err == nil && len(tx.timers) > 0 {
		p.timersSet(tx.input.Key, tx.timers)
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
func (p *partition) answer(in *input, cause error) {
	if retryable(cause) || in.refuse == nil {
		in.done(Commit{}, cause)
		return
	}
	commit, err := p.commit(in.refuse(p.ctx, cause))
	if err != nil {
		in.done(Commit{}, err)
		return
	}
	in.done(commit, cause)
}

func (p *partition) mustStop() bool {
	select {
	case <-p.quit:
		return true
	case <-p.ctx.Done():
		return true
	default:
		return false
	}
}

// pause sleeps for a back-off, or until the partition stops, and returns the next back-off.
func (p *partition) pause(backoff time.Duration) time.Duration {
	timer := time.NewTimer(backoff)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.quit:
	}
	return min(2*backoff, maxBackoff)
}

func (p *partition) log(in *input, what string, err error) {
	p.client.bus.Log.WarnContext(p.ctx, "input not handled", "what", what, "role", p.Role, "input", in.ID, "attempt", in.Attempt, "error", err)
}
