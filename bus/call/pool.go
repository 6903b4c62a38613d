package call

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Back-off of an address that can't be reached: that long nobody tries again, so that callers go elsewhere at once.
const (
	minBackOff = 100 * time.Millisecond
	maxBackOff = time.Second
)

// A peer that has as much to do as it takes is waited for a little: nobody else may have what it has. It also bridges the
// moment in which a new connection does not know yet how much that is.
const (
	fullTime  = time.Second
	fullPause = 5 * time.Millisecond
)

var errFull = fmt.Errorf("%d connections have as many requests as they take", maxLinks)

func backOff(failures int, most time.Duration) time.Duration {
	d := min(minBackOff<<min(failures-1, 10), most)
	return d - time.Duration(rand.Int64N(int64(d)/4))
}

// pool has the connections that this process has opened to others.
type pool struct {
	config    ClientConfig
	side      *side
	transport *http.Transport
	dials     sync.WaitGroup

	mu        sync.Mutex
	addresses map[string]*address
	stopped   bool
}

// address is a process to which there are, were or may be connections. Its pool's mutex guards it.
type address struct {
	links    []*link
	dialing  chan struct{} // closed when the dial that is under way has ended; nil: there is none
	failures int
	until    time.Time // no dial before
	err      error     // of the last dial
}

func newPool(c ClientConfig, s *side) *pool {
	return &pool{config: c, side: s, transport: newTransport(idleTime, c.Limits), addresses: make(map[string]*address)}
}

// take returns a connection to an address, with a place for one request reserved on it.
func (p *pool) take(ctx context.Context, to string) (*link, error) {
	for began := time.Now(); ; {
		l, dialing, err := p.find(to)
		if errors.Is(err, errFull) && time.Since(began) < fullTime && pause(ctx, fullPause) == nil {
			continue
		}
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-dialing:
		case <-ctx.Done():
			return nil, notSent("dial %s: %w", to, ctx.Err())
		}
	}
}

// find returns a connection with a place, or the dial to wait for, or why there is neither.
func (p *pool) find(to string) (*link, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil, nil, notSent("%s: this process is stopping", to)
	}
	a := p.addresses[to]
	if a == nil {
		a = new(address)
		p.addresses[to] = a
	}
	for _, l := range a.links {
		if l.Reserve() == nil {
			return l, nil, nil
		}
	}
	switch {
	case a.dialing != nil:
	case time.Now().Before(a.until):
		return nil, nil, notSent("%s can't be reached: %w", to, a.err)
	case len(a.links) >= maxLinks:
		return nil, nil, notSent("%s: %w", to, errFull)
	default:
		a.dialing = make(chan struct{})
		p.dials.Go(func() { p.dial(to, a) })
	}
	return nil, a.dialing, nil
}

// dial opens one more connection. Nobody's context bounds it: whoever comes next may want it too.
func (p *pool) dial(to string, a *address) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	var l *link
	c, err := dial(ctx, to, p.config.TLS.Client(protocolOrdinary), p.side.connections)
	if err == nil {
		l, err = newLink(ctx, p.transport, c)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	close(a.dialing)
	a.dialing = nil
	if err != nil {
		a.failures++
		a.err, a.until = err, time.Now().Add(backOff(a.failures, maxBackOff))
		p.tidy(to)
		return
	}
	a.failures, a.until, a.err = 0, time.Time{}, nil
	a.links = append(a.links, l)
	go func() {
		<-c.closed
		p.forget(to, a, l)
	}()
}

func (p *pool) forget(to string, a *address, l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.links = slices.DeleteFunc(a.links, func(other *link) bool { return other == l })
	if len(a.links) == 0 && a.dialing == nil && a.failures == 0 && p.addresses[to] == a {
		delete(p.addresses, to)
	}
}

// tidy drops what is remembered of addresses that nobody has asked for in a while. p.mu is held.
func (p *pool) tidy(but string) {
	for name, a := range p.addresses {
		if name != but && len(a.links) == 0 && a.dialing == nil && time.Since(a.until) > idleTime {
			delete(p.addresses, name)
		}
	}
}

// stop lets what is in flight end for a while, and closes all connections.
func (p *pool) stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.dials.Wait()
	p.mu.Lock()
	var links []*link
	for _, a := range p.addresses {
		links = append(links, a.links...)
	}
	p.mu.Unlock()
	closeAll(links)
}

// closeAll closes connections once nothing is in flight on them, or after a while.
func closeAll(links []*link) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	for _, l := range links {
		for l.Err() == nil && l.InFlight() > 0 && pause(ctx, 5*time.Millisecond) == nil {
			continue
		}
		_ = l.Close()
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
