package linkmanager

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/p2p"
	"github.com/hawser-project/hawser/corda/session"
)

// inboundSessions has the sessions that peers have made. Key: the session id.
var inboundSessions = bus.State[topic.StoredSession]{Name: "linkmanager.inbound-sessions", Owner: topic.LinkManager}

const (
	maxCached         = 10_000
	lookupsPerSecond  = 500 // of sessions that are not in memory: anybody may name one
	reestablishPause  = 10 * time.Second
	reestablishExpiry = 5 * time.Minute
)

var errUnseal = errors.New("a stored session can't be unsealed")

// sessions keeps inbound sessions: sealed in state, and those in use in memory.
type sessions struct {
	w      *Worker
	aead   cipher.AEAD
	lookup *rate.Limiter

	mu     sync.Mutex
	cache  *lru[*inbound]
	recent *lru[*recent]   // by the hash of the pair
	asked  *lru[time.Time] // ReEstablishSession, by session id
}

func newSessions(w *Worker) *sessions {
	return &sessions{
		w: w, lookup: rate.NewLimiter(lookupsPerSecond, lookupsPerSecond), cache: newLRU[*inbound](maxCached), recent: newLRU[*recent](maxCached),
		asked: newLRU[time.Time](maxCached),
	}
}

// useKey sets the key under which sessions are stored.
func (s *sessions) useKey(key []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("data key of link sessions: %w", err)
	}
	s.aead, err = cipher.NewGCM(block)
	return err
}

func (s *sessions) cached(id string) (*inbound, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cache.get(id)
}

// recentOf finds the ids of messages that came lately from one to another.
func (s *sessions) recentOf(pair string) *recent {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, found := s.recent.get(pair)
	if !found {
		r = new(recent)
		s.recent.put(pair, r)
	}
	return r
}

// bound is what a sealed session cannot be moved from: its id and its parties.
func bound(id string, from, to message.Party) []byte {
	return fmt.Appendf(nil, "%q %q %q %q %q", id, from.Name, from.GroupID, to.Name, to.GroupID)
}

// store keeps a session for good, then takes it into use.
func (s *sessions) store(ctx context.Context, in *inbound, expires time.Time) error {
	plain, err := bus.Encode(in.session.State())
	if err != nil {
		return err
	}
	nonce := make([]byte, s.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails: it crashes the process instead
	id := in.session.ID()
	sealed := s.aead.Seal(nonce, nonce, plain, bound(id, in.from, in.to))
	if _, _, err := topic.StoreSession.Do(ctx, s.w.Bus, id, uuid.NewString(), in.stored(sealed, expires)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.put(id, in)
	return nil
}

// letGo forgets the sessions that another process looks after now: it may end them.
func (s *sessions) letGo(has func(id string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.removeWhere(has)
}

// keep is the command that stores a session. A session id is never used twice: who knows another's could take its place.
func (w *Worker) keep(_ context.Context, tx *bus.Tx, id string, stored topic.StoredSession) (struct{}, error) {
	if _, taken, err := inboundSessions.Get(tx, id, ""); err != nil {
		return struct{}{}, err
	} else if taken {
		return struct{}{}, fault.New(fault.Conflict, "there is a session %s already", id)
	}
	inboundSessions.Put(tx, id, "", stored)
	tx.SetTimer("expire", time.UnixMilli(stored.Expires))
	return struct{}{}, nil
}

// expire drops a stored session at its time.
func (w *Worker) expire(_ context.Context, tx *bus.Tx, id, _ string) error {
	inboundSessions.Delete(tx, id, "")
	w.sessions.mu.Lock()
	defer w.sessions.mu.Unlock()
	w.sessions.cache.remove(id)
	return nil
}

// session finds an inbound session, in memory or stored.
func (w *Worker) session(ctx context.Context, id string) (*inbound, error) {
	s := w.sessions
	if in, found := s.cached(id); found {
		return in, nil
	}
	if id == "" || len(id) > 64 {
		return nil, dropped("unknown session")
	}
	if !s.lookup.Allow() {
		return nil, dropped("too many unknown sessions")
	}
	var stored topic.StoredSession
	var found bool
	err := w.Bus.View(ctx, func(r bus.Reader) (err error) {
		stored, found, err = inboundSessions.Get(r, id, "")
		return err
	})
	if err != nil {
		return nil, err
	}
	if !found || time.Now().UnixMilli() > stored.Expires {
		return nil, dropped("unknown session")
	}
	in, err := s.restore(id, &stored)
	if errors.Is(err, errUnseal) {
		s.askAgain(id, &stored)
		return nil, dropped("session lost")
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, raced := s.cache.get(id); raced {
		return first, nil
	}
	s.cache.put(id, in)
	return in, nil
}

func (s *sessions) restore(id string, stored *topic.StoredSession) (*inbound, error) {
	size := s.aead.NonceSize()
	if len(stored.Sealed) < size {
		return nil, errUnseal
	}
	plain, err := s.aead.Open(nil, stored.Sealed[:size], stored.Sealed[size:], bound(id, stored.Source, stored.Destination))
	if err != nil {
		return nil, errUnseal
	}
	var state session.State
	if err := bus.Decode(plain, &state); err != nil {
		return nil, errUnseal
	}
	restored, err := session.Restore(state)
	if err != nil {
		return nil, errUnseal
	}
	from, err := stored.Source.Identity()
	if err != nil {
		return nil, err
	}
	to, err := stored.Destination.Identity()
	if err != nil {
		return nil, err
	}
	hash, err := session.ParseKeyHash(stored.PeerKey)
	if err != nil {
		return nil, err
	}
	in := s.w.newInbound(restored, from, to, keyName{from.GroupID, hash}, stored.Answer)
	in.answered = time.Time{}
	return in, nil
}

// askAgain asks the initiator of a session whose keys we have lost for a new one (spec/p2p-wire.md 5.2).
func (s *sessions) askAgain(id string, stored *topic.StoredSession) {
	now := time.Now()
	s.mu.Lock()
	last, asked := s.asked.get(id)
	again := !asked || now.Sub(last) >= reestablishPause
	if again {
		s.asked.put(id, now)
	}
	s.mu.Unlock()
	if !again {
		return
	}
	payload := (&p2p.ReEstablishSession{SessionID: id}).AppendEnvelope(nil)
	r := s.w.runner(message.Pair{Source: stored.Destination, Destination: stored.Source})
	d := &delivery{msg: message.Outbound{
		Source: stored.Destination, Destination: stored.Source, ID: uuid.NewString(), Key: id, Subsystem: linkManagerSubsystem,
		Expires: now.Add(reestablishExpiry).UnixMilli(), Payload: payload,
	}}
	r.do(func(now time.Time) { r.lane.add(now, r.lane.count+1, d) })
}
