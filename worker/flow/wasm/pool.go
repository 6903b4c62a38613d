package wasm

import (
	"container/list"
	"context"
	"errors"
	"sync"
)

// A Pool keeps instances for the next flow of the same program and owner: making one costs several times what a
// short flow does. Instances never pass from one owner to another. It is safe for concurrent use.
type Pool struct {
	perOwner, total int

	mu     sync.Mutex
	idle   map[slot]*list.List // of *list.Element in recent, newest last; guarded by mu, as is all below
	recent *list.List          // of *Instance, longest idle first
	closed bool
}

type slot struct {
	program *Program
	owner   string
}

// NewPool makes a pool that keeps at most so many idle instances of a program for one owner, and in total.
func NewPool(perOwner, total int) *Pool {
	return &Pool{perOwner: perOwner, total: total, idle: map[slot]*list.List{}, recent: list.New()}
}

// Get gives an instance in the state of the program's image.
func (p *Pool) Get(ctx context.Context, program *Program, owner string) (*Instance, error) {
	if i := p.reuse(slot{program, owner}); i != nil {
		return i, nil
	}
	return program.instantiate(ctx, owner, program.image)
}

func (p *Pool) reuse(s slot) *Instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.idle[s]
	if l == nil {
		return nil
	}
	return p.remove(l.Back().Value.(*list.Element))
}

// remove takes an instance out of both lists. The caller holds mu.
func (p *Pool) remove(e *list.Element) *Instance {
	i := p.recent.Remove(e).(*Instance)
	s := slot{i.program, i.owner}
	l := p.idle[s]
	for x := l.Back(); x != nil; x = x.Prev() {
		if x.Value.(*list.Element) == e {
			l.Remove(x)
			break
		}
	}
	if l.Len() == 0 {
		delete(p.idle, s)
	}
	return i
}

// Put takes an instance back, whatever state it is in. One that cannot be brought back to its image is closed. The
// caller must not use it again.
func (p *Pool) Put(i *Instance) error {
	if !i.reset() {
		return i.Close()
	}
	var drop []*Instance
	p.mu.Lock()
	s := slot{i.program, i.owner}
	if l := p.idle[s]; p.closed || p.perOwner <= 0 || p.total <= 0 {
		drop = append(drop, i)
	} else {
		if l == nil {
			l = list.New()
			p.idle[s] = l
		}
		l.PushBack(p.recent.PushBack(i))
		if l.Len() > p.perOwner {
			drop = append(drop, p.remove(l.Front().Value.(*list.Element)))
		}
		if p.recent.Len() > p.total {
			drop = append(drop, p.remove(p.recent.Front()))
		}
	}
	p.mu.Unlock()
	return closeAll(drop)
}

// Drop closes the idle instances that match: of a virtual node that is gone, or a program that is to be unloaded.
func (p *Pool) Drop(match func(program *Program, owner string) bool) error {
	p.mu.Lock()
	var drop []*Instance
	for e := p.recent.Front(); e != nil; {
		next := e.Next()
		if i := e.Value.(*Instance); match(i.program, i.owner) {
			drop = append(drop, p.remove(e))
		}
		e = next
	}
	p.mu.Unlock()
	return closeAll(drop)
}

// Idle is how many instances wait.
func (p *Pool) Idle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.recent.Len()
}

// Close closes the idle instances; those that come back later are closed too.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	return p.Drop(func(*Program, string) bool { return true })
}

func closeAll(drop []*Instance) error {
	var errs []error
	for _, i := range drop {
		errs = append(errs, i.Close())
	}
	return errors.Join(errs...)
}

// reset brings the instance back to its image. It tells false for one that must not be used again: dead, or with
// more memory than the image, which cannot be given back.
func (i *Instance) reset() bool {
	img := i.program.image
	if i.dead || int(i.memory().Size()) != len(img.octets) || !i.mapped.restore(img) {
		return false
	}
	i.writeGlobals(img.globals)
	i.Log, i.begun, i.state, i.step = nil, false, state{}, step{}
	return true
}
