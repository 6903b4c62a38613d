package bus

import (
	"context"
	"errors"
	"slices"
	"time"
)

// What a Request can be.
const (
	whatCommand  = "command"
	whatCall     = "call"
	whatOperator = "operator"
)

// routePause is how long a request waits before it is sent again to where nobody took it. It doubles, up to a bound.
const routePause, maxRoutePause = 20 * time.Millisecond, 250 * time.Millisecond

// callPatience is how long a call is made again: until a process that has died is taken for dead, and another has its keys.
// A command is repeated until its caller gives up: it has an id.
const callPatience = 12 * time.Second

// command has the owner of a key run a command, wherever that is, and however often the owner changes meanwhile: whoever it
// is finds the first reply under the command's id.
func (b *Bus) command(ctx context.Context, r Request) ([]byte, Commit, error) {
	r.Partition = PartitionOf(r.Key, b.driver.Partitions(r.Role))
	for pause := routePause; ; pause = min(2*pause, maxRoutePause) {
		var here *partition
		var there Instance
		var elsewhere bool
		err := b.wait(ctx, "worker "+string(r.Role), func() bool {
			if c := b.consumers[r.Role]; c != nil {
				here, _ = c.partitionOf(r.Key)
			}
			if here == nil && b.Placement != nil {
				there, elsewhere = b.Placement.Owner(r.Role, r.Partition)
				elsewhere = elsewhere && there.Number != b.Self.Number
			}
			return here != nil || elsewhere
		})
		if err != nil {
			return nil, Commit{}, err
		}
		if here != nil {
			octets, at, err := here.do(ctx, r)
			if !b.movedOn(here, err) {
				return octets, at, err
			}
		} else if a, err := b.Remote.Send(ctx, there, r); err == nil && !a.NotHere {
			return a.Body, a.Commit, b.errorOf(a)
		} else if err != nil && !retryable(err) { // it can't be carried, now or later
			return nil, Commit{}, err
		} else if ctx.Err() != nil {
			return nil, Commit{}, failure(kindUnavailable, "command %s: no answer yet: %w", r.Name, ctx.Err())
		}
		if err := pauseFor(ctx, pause); err != nil {
			return nil, Commit{}, failure(kindUnavailable, "command %s: no answer yet: %w", r.Name, err)
		}
	}
}

// movedOn says whether a command was given back because its partition went to another process.
func (b *Bus) movedOn(p *partition, err error) bool {
	if b.Placement == nil || !errors.Is(err, ErrClosed) && !errors.Is(err, ErrLost) {
		return false
	}
	select {
	case <-p.quit:
		return true
	default:
		return false
	}
}

// call makes a call of one of the candidates, and of another where one can't be reached.
func (b *Bus) call(ctx context.Context, r Request, once bool, candidates func() []Instance) ([]byte, error) {
	err := error(failure(kindUnavailable, "no worker that answers %s can be reached", r.Name))
	asked := make(map[uint16]bool)
	until := time.Now().Add(callPatience)
	for pause := routePause; time.Now().Before(until); pause = min(2*pause, maxRoutePause) {
		list := candidates()
		if len(list) == 0 && r.Instance != 0 {
			return nil, err // that one is gone, and nobody else is meant
		}
		for _, to := range fresh(list, asked) {
			asked[to.Number] = true
			a, sendErr := b.Remote.Send(ctx, to, r)
			switch {
			case sendErr == nil && !a.NotHere:
				return a.Body, b.errorOf(a)
			case sendErr == nil && r.Instance != 0:
				return nil, failure(kindUnavailable, "%s does not answer %s, or not yet", to.Name, r.Name)
			case sendErr == nil:
				continue
			}
			err = failure(kindUnavailable, "call %s: %w", r.Name, sendErr)
			if ctx.Err() != nil || !retryable(sendErr) || once && !errors.Is(sendErr, ErrNotSent) {
				return nil, err
			}
		}
		if len(fresh(list, asked)) == 0 {
			clear(asked)
		}
		if pauseFor(ctx, pause) != nil {
			return nil, err
		}
	}
	return nil, err
}

// fresh leaves out those that were asked.
func fresh(list []Instance, asked map[uint16]bool) []Instance {
	return slices.DeleteFunc(slices.Clone(list), func(i Instance) bool { return asked[i.Number] })
}

func (b *Bus) errorOf(a Answer) error {
	if a.Err == nil {
		return nil
	}
	return b.Errors.DecodeError(a.Err)
}

func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Serve answers a request of another process. Who carries it has proven that the asking process has the asking role.
func (b *Bus) Serve(ctx context.Context, r Request) Answer {
	switch r.What {
	case whatCommand:
		return b.serveCommand(ctx, r)
	case whatCall:
		return b.serveCall(ctx, r)
	case whatOperator:
		return b.serveOperator(ctx, r)
	}
	return b.refusal(failure(kindForbidden, "%q is no kind of request that this release knows", r.What))
}

func (b *Bus) serveCommand(ctx context.Context, r Request) Answer {
	b.mu.Lock()
	c := b.consumers[r.Role]
	b.mu.Unlock()
	if c == nil {
		return Answer{NotHere: true}
	}
	p, number := c.partitionOf(r.Key)
	if p == nil || number != r.Partition {
		return Answer{NotHere: true}
	}
	octets, at, err := p.do(ctx, r)
	if b.movedOn(p, err) {
		return Answer{NotHere: true}
	}
	if err != nil {
		return b.refusal(err)
	}
	return Answer{Body: octets, Commit: at}
}

func (b *Bus) serveCall(ctx context.Context, r Request) Answer {
	b.mu.Lock()
	a, found := b.answers[r.Name]
	consumer := b.consumers[r.Role]
	b.mu.Unlock()
	switch {
	case r.Instance != 0 && r.Instance != b.Self.Number:
		return Answer{NotHere: true}
	case !found && slices.Contains(b.Behind, r.Asker):
		return b.handOn(ctx, r)
	case !found, r.Key != "" && (consumer == nil || !consumer.Owns(r.Key)):
		return Answer{NotHere: true}
	}
	if err := (&Client{b, r.Asker}).may(a.askers, "ask for", "call", r.Name); err != nil {
		return b.refusal(err)
	}
	octets, err := a.serve(ctx, r.Body)
	if err != nil {
		return b.refusal(err)
	}
	return Answer{Body: octets}
}

func (b *Bus) refusal(err error) Answer { return Answer{Err: b.Errors.EncodeError(err)} }

// handOn makes a call in the name of a process that has no bus, of one that answers. The answerer's table of calls says
// whether it may be made.
func (b *Bus) handOn(ctx context.Context, r Request) Answer {
	role, found := b.Answerer(r.Name)
	if !found || b.Placement == nil {
		return Answer{NotHere: true}
	}
	if len(only(b.Placement.Instances(role), b.Self.Number)) > 0 {
		return Answer{NotHere: true} // it would be for us, who do not answer now: to hand it on would be to hand it round
	}
	r.Role = role
	octets, err := b.call(ctx, r, false, func() []Instance { return b.Placement.Instances(role) })
	if err != nil {
		return b.refusal(err)
	}
	return Answer{Body: octets}
}
