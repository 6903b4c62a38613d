package bustest

import (
	"context"
	"sync"

	"github.com/hawser-project/hawser/bus"
)

// fate says what becomes of a step.
type fate int

const (
	lives      fate = iota
	diesBefore      // the process dies before the step is committed
	diesAfter       // the process dies when the step is committed, before anybody hears of it
)

// mortal is a driver of a process that can die: from then on nothing of the process reaches the store, and nobody hears of
// what has. Who waits in the process is told that it has lost its partition, so that the test can end.
type mortal struct {
	bus.Driver
	fate func(*bus.Step) fate

	dead context.Context // ends when it dies
	die  context.CancelCauseFunc
}

func newMortal(d bus.Driver, of func(*bus.Step) fate) *mortal {
	m := &mortal{Driver: d, fate: of}
	m.dead, m.die = context.WithCancelCause(context.Background())
	return m
}

// kill ends the process.
func (m *mortal) kill() { m.die(bus.ErrLost) }

// Submit implements bus.Driver.
func (m *mortal) Submit(step *bus.Step) {
	of := lives
	if m.fate != nil {
		of = m.fate(step)
	}
	if of == diesBefore {
		m.kill()
	}
	if m.dead.Err() != nil {
		step.Done(bus.Commit{}, bus.ErrLost)
		return
	}
	told := *step
	told.Done = func(c bus.Commit, err error) {
		if of == diesAfter {
			m.kill()
		}
		if m.dead.Err() != nil {
			c, err = bus.Commit{}, bus.ErrLost
		}
		step.Done(c, err)
	}
	m.Driver.Submit(&told)
}

// Own implements bus.Driver.
func (m *mortal) Own(ctx context.Context, role bus.Role, run func(context.Context, *bus.Ownership)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.dead, cancel)()
	return m.Driver.Own(ctx, role, func(ctx context.Context, o *bus.Ownership) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(m.dead, func() { cancel(bus.ErrLost) })()
		run(ctx, o)
	})
}

// oncePer gives the first step that writes a key's state a fate, and lets all others live.
func oncePer(what fate, key string) func(*bus.Step) fate {
	var once sync.Once
	return func(step *bus.Step) (of fate) {
		for _, w := range step.Writes {
			if w.Kind == sums.Name && w.Key == key {
				once.Do(func() { of = what })
			}
		}
		return of
	}
}
