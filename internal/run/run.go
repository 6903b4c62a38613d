// Package run has the life cycle that every worker shares: a Service runs until its context ends, says when it is ready,
// and returns only when all its goroutines have ended. It starts nothing by itself.
package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Service runs until ctx ends. It calls ready once it can take work, and returns when all its goroutines have ended.
type Service interface {
	Run(ctx context.Context, ready func()) error
}

// Func makes a Service of a function.
type Func func(ctx context.Context, ready func()) error

// Run calls f.
func (f Func) Run(ctx context.Context, ready func()) error { return f(ctx, ready) }

// Named is a Service with the name that errors and readiness reports use.
type Named struct {
	Name    string
	Service Service
}

// Group runs services that start one after the other and stop in the reverse order.
type Group struct {
	mu    sync.Mutex
	state map[string]State
}

// State is where in its life a service is.
type State string

// The states of a service, in the order in which it passes them.
const (
	Waiting  State = "waiting"
	Starting State = "starting"
	Ready    State = "ready"
	Stopping State = "stopping"
	Stopped  State = "stopped"
	Failed   State = "failed"
)

// States returns the state of every service that Run was given.
func (g *Group) States() map[string]State {
	g.mu.Lock()
	defer g.mu.Unlock()
	states := make(map[string]State, len(g.state))
	for name, s := range g.state {
		states[name] = s
	}
	return states
}

func (g *Group) set(name string, s State) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == nil {
		g.state = make(map[string]State)
	}
	g.state[name] = s
}

// Run starts the services in order, each when the one before is ready, and calls ready when all are. When ctx ends or
// one of them fails, it stops them in reverse order, giving each up to grace to end, and returns the first failure.
func (g *Group) Run(ctx context.Context, grace time.Duration, ready func(), services ...Named) error {
	for _, s := range services {
		g.set(s.Name, Waiting)
	}
	failed := make(chan error, len(services))
	var started []running
	var first error
	for _, s := range services {
		r := g.start(ctx, s, failed)
		started = append(started, r)
		select {
		case <-r.ready:
			g.set(s.Name, Ready)
			continue
		case first = <-failed:
		case <-ctx.Done():
		}
		break
	}
	if first == nil && ctx.Err() == nil {
		ready()
		select {
		case first = <-failed:
		case <-ctx.Done():
		}
	}
	for i := len(started) - 1; i >= 0; i-- {
		if err := g.stop(started[i], grace); err != nil && first == nil {
			first = err
		}
	}
	return first
}

type running struct {
	name   string
	cancel context.CancelFunc
	ready  chan struct{}
	ended  chan error
}

// start runs a service under a context of its own, which outlives the group's, so that stop can keep the order.
func (g *Group) start(ctx context.Context, s Named, failed chan<- error) running {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := running{name: s.Name, cancel: cancel, ready: make(chan struct{}), ended: make(chan error, 1)}
	g.set(s.Name, Starting)
	go func() {
		var once sync.Once
		err := s.Service.Run(own, func() { once.Do(func() { close(r.ready) }) })
		if own.Err() == nil {
			if err == nil {
				err = errors.New("ended by itself")
			}
			err = fmt.Errorf("%s: %w", s.Name, err)
			g.set(s.Name, Failed)
			failed <- err
		}
		r.ended <- err
	}()
	return r
}

func (g *Group) stop(r running, grace time.Duration) error {
	g.set(r.name, Stopping)
	r.cancel()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case err := <-r.ended:
		if err != nil && !errors.Is(err, context.Canceled) {
			g.set(r.name, Failed)
			return err
		}
		g.set(r.name, Stopped)
		return nil
	case <-timer.C:
		g.set(r.name, Failed)
		return fmt.Errorf("%s: did not stop within %s", r.name, grace)
	}
}
