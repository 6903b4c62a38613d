package admin

import (
	"context"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/topic"
)

// Limits of password checks (DESIGN.md 6). There is no lock-out by name alone, or anybody could lock anybody out.
const (
	maxChecksWaiting = 200
	firstDelay       = 100 * time.Millisecond // after the first wrong password; doubles
	maxDelay         = 30 * time.Second
	freeTries        = 3 // wrong passwords without delay
	forgetAfter      = 15 * time.Minute
	maxRemembered    = 10_000 // (name, source) pairs and sources with wrong passwords
)

// checkPassword takes the same time for a name that does not exist.
func (w *Worker) checkPassword(ctx context.Context, req topic.Login) (topic.LoginResult, error) {
	login := rbac.NormalLogin(req.Name)
	leave, err := w.guard.enter(ctx, login, network(req.Source))
	if err != nil {
		return topic.LoginResult{}, err
	}
	var stored rbac.Credential
	err = w.Bus.View(ctx, func(r bus.Reader) (err error) {
		stored, _, err = credentials.Get(r, topic.RBACKey, login)
		return err
	})
	if err != nil {
		leave(true)
		return topic.LoginResult{}, err
	}
	hash := stored.Hash
	if hash.IsZero() {
		hash = rbac.Decoy()
	}
	right, _, err := rbac.CheckPassword(req.Password, hash)
	right = right && !stored.Hash.IsZero()
	leave(right)
	return topic.LoginResult{Right: right, Version: stored.Version}, err
}

// guard bounds password checks: one at a time per name, half the cores at most, a short queue, and a growing delay for
// those who give wrong ones.
type guard struct {
	slots chan struct{}

	mu      sync.Mutex
	waiting int
	names   map[string]*nameLock
	wrong   map[attempt]*failures
}

// nameLock lets one check of a name in at a time.
type nameLock struct {
	held  chan struct{}
	users int
}

// attempt is a name with the source of the request, or a source alone.
type attempt struct{ name, source string }

type failures struct {
	count int
	until time.Time // no check before
	last  time.Time
}

func newGuard() *guard {
	return &guard{
		slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		names: make(map[string]*nameLock), wrong: make(map[attempt]*failures),
	}
}

// enter waits for a place, or refuses. The caller must leave, and say whether the password was right.
func (g *guard) enter(ctx context.Context, name, source string) (leave func(right bool), err error) {
	lock, err := g.join(name, source)
	if err != nil {
		return nil, err
	}
	if err := acquire(ctx, lock.held); err != nil {
		g.part(name, lock)
		return nil, err
	}
	if err := g.delayed(name, source); err != nil { // by checks that were let in before this one
		<-lock.held
		g.part(name, lock)
		return nil, err
	}
	if err := acquire(ctx, g.slots); err != nil {
		<-lock.held
		g.part(name, lock)
		return nil, err
	}
	return func(right bool) {
		g.record(name, source, right) // before the next one of the name looks
		<-g.slots
		<-lock.held
		g.part(name, lock)
	}, nil
}

func acquire(ctx context.Context, slot chan struct{}) error {
	select {
	case slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "waiting to check a password: %w", ctx.Err())
	}
}

func (g *guard) join(name, source string) (*nameLock, error) {
	if err := g.delayed(name, source); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting >= maxChecksWaiting {
		return nil, tooMany(time.Second)
	}
	g.waiting++
	lock := g.names[name]
	if lock == nil {
		lock = &nameLock{held: make(chan struct{}, 1)}
		g.names[name] = lock
	}
	lock.users++
	return lock, nil
}

// delayed says whether the name from the source, or the source, has to wait.
func (g *guard) delayed(name, source string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for _, a := range attempts(name, source) {
		if f := g.wrong[a]; f != nil && now.Before(f.until) {
			return tooMany(f.until.Sub(now))
		}
	}
	return nil
}

func (g *guard) part(name string, lock *nameLock) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	if lock.users--; lock.users == 0 {
		delete(g.names, name)
	}
}

func (g *guard) record(name, source string, right bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if right {
		delete(g.wrong, attempt{name, source})
		return
	}
	now := time.Now()
	g.forget(now)
	for _, a := range attempts(name, source) {
		f := g.wrong[a]
		if f == nil || now.Sub(f.last) > forgetAfter {
			f = &failures{}
			g.wrong[a] = f
		}
		f.count++
		f.last = now
		free := freeTries
		if a.name == "" {
			free = 10 * freeTries // many people may share a source
		}
		if over := f.count - free; over > 0 {
			f.until = now.Add(min(firstDelay<<min(over-1, 20), maxDelay))
		}
	}
}

// forget drops what is old, and when there is too much of it, anything.
func (g *guard) forget(now time.Time) {
	if len(g.wrong) < maxRemembered {
		return
	}
	for a, f := range g.wrong {
		if now.Sub(f.last) > forgetAfter || len(g.wrong) >= 2*maxRemembered {
			delete(g.wrong, a)
		}
	}
}

// network is what one who asks can be taken to have of addresses: one of IPv4, and a whole /64 of IPv6.
func network(source string) string {
	at, err := netip.ParseAddr(source)
	if err != nil {
		return source
	}
	if at = at.WithZone("").Unmap(); at.Is6() {
		at = netip.PrefixFrom(at, 64).Masked().Addr()
	}
	return at.String()
}

func attempts(name, source string) []attempt {
	if source == "" {
		return []attempt{{name, ""}}
	}
	return []attempt{{name, source}, {"", source}}
}

func tooMany(wait time.Duration) error {
	seconds := int(wait.Seconds()) + 1
	return fault.New(fault.TooMany, "too many password checks; try again in %d s", seconds).With("retryAfter", strconv.Itoa(seconds))
}
