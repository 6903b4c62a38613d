package flow

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// quantum is how long a step computes before it counts as long, and how long a long one computes before others get a turn.
const quantum = 5 * time.Millisecond

// fairness is how many short steps may go before a long one that waits.
const fairness = 32

// lanes share the processors among the steps of flows. Every step begins as a short one. One that goes on beyond its
// quantum becomes long: long steps take turns among themselves and leave a processor for short ones, so that flows that
// compute without end delay each other, and nobody else.
type lanes struct {
	mu    sync.Mutex
	free  int // turns that nobody has; guarded by mu, as is all below
	long  int // turns that long steps have
	most  int // turns that long steps may have
	since int // short turns given out since a long one
	short []chan struct{}
	queue []chan struct{} // of long steps
}

func newLanes() *lanes {
	n := runtime.GOMAXPROCS(0)
	return &lanes{free: n, most: max(1, n-1)}
}

// turn is the context of one entry into a module. The module's host looks at its Err before it grants each slice of fuel,
// every millisecond or so, and that is where a step waits for others.
type turn struct {
	context.Context
	lanes *lanes
	began time.Time
	long  bool
}

// enter waits for a turn. The caller leaves it in the end.
func (l *lanes) enter(ctx context.Context) (*turn, error) {
	t := &turn{Context: ctx, lanes: l}
	if err := l.acquire(ctx, false); err != nil {
		return nil, err
	}
	t.began = time.Now()
	return t, nil
}

func (t *turn) leave() { t.lanes.release(t.long) }

// Err lets others go first when the quantum is over.
func (t *turn) Err() error {
	if err := t.Context.Err(); err != nil {
		return err
	}
	if time.Since(t.began) < quantum {
		return nil
	}
	if !t.lanes.extend(t.long) {
		t.lanes.release(t.long)
		// The turn is the caller's to leave, so it is got back even when there is no more use for it.
		_ = t.lanes.acquire(context.WithoutCancel(t.Context), true)
	}
	t.long, t.began = true, time.Now()
	return t.Context.Err()
}

// extend makes a turn a long one, or tells that it must be given up.
func (l *lanes) extend(long bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.short) > 0 || len(l.queue) > 0 || !long && l.long >= l.most {
		return false
	}
	if !long {
		l.long++
	}
	return true
}

func (l *lanes) acquire(ctx context.Context, long bool) error {
	l.mu.Lock()
	if l.free > 0 && (!long || l.long < l.most) {
		l.grant(long)
		l.mu.Unlock()
		return nil
	}
	granted := make(chan struct{})
	if long {
		l.queue = append(l.queue, granted)
	} else {
		l.short = append(l.short, granted)
	}
	l.mu.Unlock()
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	select {
	case <-granted: // at the same moment
		l.mu.Unlock()
		l.release(long)
	default:
		l.short = without(l.short, granted)
		l.queue = without(l.queue, granted)
		l.mu.Unlock()
	}
	return ctx.Err()
}

func without(list []chan struct{}, c chan struct{}) []chan struct{} {
	for i := range list {
		if list[i] == c {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	return list
}

// grant takes a free turn. l.mu is held.
func (l *lanes) grant(long bool) {
	l.free--
	if long {
		l.long++
		l.since = 0
	} else {
		l.since++
	}
}

func (l *lanes) release(long bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free++
	if long {
		l.long--
	}
	for l.free > 0 {
		mayLong := len(l.queue) > 0 && l.long < l.most
		switch {
		case len(l.short) > 0 && (!mayLong || l.since < fairness):
			close(l.short[0])
			l.short = l.short[1:]
			l.grant(false)
		case mayLong:
			close(l.queue[0])
			l.queue = l.queue[1:]
			l.grant(true)
		default:
			return
		}
	}
}
