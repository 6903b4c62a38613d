package linkmanager

import (
	"container/list"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/corda/session"
)

var errNoHandshake = errors.New("there is no such handshake")

// lingerTime is how long a session of ours that has ended still takes acknowledgements.
const lingerTime = 2 * time.Minute

// index finds the lane of a session that we have made, by its id.
type index struct {
	mu      sync.RWMutex
	entries map[string]*indexed
	retired []retired // in order of time
}

type indexed struct {
	runner  *runner
	session *session.Session // nil during the handshake
}

type retired struct {
	id string
	at time.Time
}

func newIndex() *index { return &index{entries: make(map[string]*indexed)} }

func (x *index) add(id string, r *runner, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.entries[id] = &indexed{runner: r}
	x.purge(now)
}

func (x *index) established(id string, s *session.Session) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.entries[id]; e != nil {
		x.entries[id] = &indexed{e.runner, s}
	}
}

func (x *index) retire(id string, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.retired = append(x.retired, retired{id, now})
	x.purge(now)
}

func (x *index) purge(now time.Time) {
	for len(x.retired) > 0 && now.Sub(x.retired[0].at) > lingerTime {
		delete(x.entries, x.retired[0].id)
		x.retired = x.retired[1:]
	}
}

func (x *index) get(id string) (indexed, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e := x.entries[id]; e != nil {
		return *e, true
	}
	return indexed{}, false
}

// newSessionID makes the id of a session: a UUID whose first 16 bits name this instance (DESIGN.md 4).
func (w *Worker) newSessionID() string {
	id := uuid.New()
	binary.BigEndian.PutUint16(id[:], w.instance)
	return id.String()
}

// instanceOf is the number by which others know this process, or a random one where there are none.
func instanceOf(self bus.Instance) uint16 {
	if self.Number != 0 {
		return self.Number
	}
	return uint16(randomBits())
}

func randomBits() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: it crashes the process instead
	return binary.BigEndian.Uint64(b[:])
}

// counter gives sequence numbers from a random start.
type counter struct {
	start uint64
	given atomic.Uint64
}

func newCounter() *counter { return &counter{start: randomBits()} }

func (c *counter) next() int64  { return int64(c.start + c.given.Add(1)) }
func (c *counter) used() uint64 { return c.given.Load() }

// lru is a bounded map that forgets what was not used for the longest time. Not safe for concurrent use.
type lru[V any] struct {
	size    int
	entries map[string]*list.Element
	order   *list.List // the last used first
}

type lruEntry[V any] struct {
	key   string
	value V
}

func newLRU[V any](size int) *lru[V] {
	return &lru[V]{size: size, entries: make(map[string]*list.Element), order: list.New()}
}

func (l *lru[V]) get(key string) (v V, found bool) {
	e, found := l.entries[key]
	if !found {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*lruEntry[V]).value, true //nolint:forcetypeassert // ours
}

func (l *lru[V]) put(key string, v V) {
	if e, found := l.entries[key]; found {
		e.Value.(*lruEntry[V]).value = v //nolint:forcetypeassert // ours
		l.order.MoveToFront(e)
		return
	}
	l.entries[key] = l.order.PushFront(&lruEntry[V]{key, v})
	if l.order.Len() > l.size {
		oldest := l.order.Back()
		l.order.Remove(oldest)
		delete(l.entries, oldest.Value.(*lruEntry[V]).key) //nolint:forcetypeassert // ours
	}
}

func (l *lru[V]) remove(key string) {
	if e, found := l.entries[key]; found {
		l.order.Remove(e)
		delete(l.entries, key)
	}
}

// removeWhere removes what the function says.
func (l *lru[V]) removeWhere(gone func(key string) bool) {
	for key := range l.entries {
		if gone(key) {
			l.remove(key)
		}
	}
}

// recent remembers the ids of messages that a peer has sent lately. It only saves work.
type recent struct {
	mu   sync.Mutex
	seen map[string]struct{}
	ring []string
	at   int
}

const recentIDs = 4096

func (r *recent) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, seen := r.seen[id]
	return seen
}

func (r *recent) add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, seen := r.seen[id]; seen {
		return
	}
	if r.seen == nil {
		r.seen = make(map[string]struct{})
	}
	r.seen[id] = struct{}{}
	if len(r.ring) < recentIDs {
		r.ring = append(r.ring, id)
		return
	}
	delete(r.seen, r.ring[r.at])
	r.ring[r.at] = id
	r.at = (r.at + 1) % recentIDs
}
