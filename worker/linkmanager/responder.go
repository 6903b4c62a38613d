package linkmanager

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/p2p"
	"github.com/hawser-project/hawser/corda/session"
)

// Bounds of what peers can have us do before they have proven anything.
const (
	maxHalfOpen     = 10_000
	hellosPerSecond = 500 // of all peers; each costs a key agreement
	hellosPerKey    = 20  // a second, of one claimed key
	resendGuard     = 2 * time.Second
)

// responder is the other side of peers' handshakes.
type responder struct {
	w *Worker

	mu     sync.Mutex
	half   map[string]*halfOpen
	order  []*halfOpen // in order of expiry
	hellos *rate.Limiter
	perKey *lru[*rate.Limiter]
}

// halfOpen is a handshake that is not finished, or was a moment ago.
type halfOpen struct {
	id      string
	expires time.Time
	name    keyName // of the initiator
	reverse *runner // through whom the hello is answered

	mu       sync.Mutex // held during the handshake
	machine  *session.Responder
	reply    []byte
	replied  time.Time
	finished bool
}

func newResponder(w *Worker) *responder {
	return &responder{w: w, half: make(map[string]*halfOpen), hellos: rate.NewLimiter(hellosPerSecond, hellosPerSecond), perKey: newLRU[*rate.Limiter](4096)}
}

// hello takes the message that opens a handshake. Nothing in it is authenticated.
func (p *responder) hello(_ context.Context, m *p2p.InitiatorHello) error {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire(now)
	if h, known := p.half[m.Header.SessionID]; known {
		h.again(now, session.HelloSent)
		return nil
	}
	hash, err := session.ParseKeyHash(m.KeyHash)
	if err != nil {
		return dropped("malformed")
	}
	name := keyName{m.GroupID, hash}
	viewers := p.w.directory.identify(m.GroupID, hash)
	if len(viewers) == 0 {
		return dropped("unknown initiator")
	}
	if !p.limiter(name).AllowN(now, 1) || !p.hellos.AllowN(now, 1) || len(p.half) >= maxHalfOpen {
		return dropped("too many hellos")
	}
	if _, exists := p.w.sessions.cached(m.Header.SessionID); exists {
		return dropped("session exists")
	}
	ours, peer, ok := p.w.directory.parties(viewers[0].record)
	if !ok {
		return dropped("not hosted")
	}
	h, err := newHalfOpen(now, m)
	if err != nil {
		return dropped("hello refused")
	}
	h.name, h.expires = name, now.Add(p.w.tuning.HalfOpen)
	h.reverse = p.w.runner(message.Pair{Source: message.PartyOf(ours), Destination: message.PartyOf(peer)})
	p.half[h.id] = h
	p.order = append(p.order, h)
	h.reverse.answer(h.reply)
	h.reverse.heard()
	return nil
}

func newHalfOpen(now time.Time, m *p2p.InitiatorHello) (*halfOpen, error) {
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	machine, err := session.NewResponder(ephemeral)
	if err != nil {
		return nil, err
	}
	if err := machine.OnInitiatorHello(m); err != nil {
		return nil, err
	}
	reply, err := machine.Hello(now)
	if err != nil {
		return nil, err
	}
	return &halfOpen{id: m.Header.SessionID, machine: machine, reply: gatewayBody(m.Header.SessionID, reply), replied: now}, nil
}

// again sends the reply of a step again, unless it was sent just now.
func (h *halfOpen) again(now time.Time, step session.Step) {
	if !h.mu.TryLock() {
		return
	}
	defer h.mu.Unlock()
	if h.machine.Step() == step && now.Sub(h.replied) >= resendGuard {
		h.replied = now
		h.reverse.answer(h.reply)
	}
}

func (p *responder) limiter(name keyName) *rate.Limiter {
	id := name.group + string(name.hash[:])
	l, found := p.perKey.get(id)
	if !found {
		l = rate.NewLimiter(hellosPerKey, hellosPerKey)
		p.perKey.put(id, l)
	}
	return l
}

func (p *responder) expire(now time.Time) {
	for len(p.order) > 0 && now.After(p.order[0].expires) {
		delete(p.half, p.order[0].id)
		p.order[0] = nil
		p.order = p.order[1:]
	}
}

// letGo forgets the handshakes that go on at another process.
func (p *responder) letGo(has func(id string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.half {
		if has(id) {
			delete(p.half, id)
		}
	}
}

func (p *responder) find(id string) *halfOpen {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire(time.Now())
	return p.half[id]
}

func (p *responder) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.half, id)
}

// handshake takes the message that proves an initiator. The session is stored before it is answered.
func (p *responder) handshake(ctx context.Context, m *p2p.InitiatorHandshake) error {
	id := m.CommonHeader().SessionID
	h := p.find(id)
	if h == nil {
		return p.repeat(ctx, id)
	}
	if !h.mu.TryLock() {
		return nil // the same message is in work
	}
	defer h.mu.Unlock()
	now := time.Now()
	if h.finished {
		if now.Sub(h.replied) >= resendGuard {
			h.replied = now
			h.reverse.answer(h.reply)
		}
		return nil
	}
	reason, err := p.prove(ctx, h, m)
	switch {
	case err != nil:
		p.forget(id)
		return err
	case reason != "":
		if h.machine.Step() != session.HelloSent {
			p.forget(id)
		}
		if p.repeat(ctx, id) == nil {
			return nil // the handshake was finished by another process before; the hello came again
		}
		return dropped(reason)
	}
	return nil
}

// prove goes through the checks of spec/p2p-wire.md 3.5 and ends the handshake. A reason is why the message is of no use;
// an error is trouble of our own.
func (p *responder) prove(ctx context.Context, h *halfOpen, m *p2p.InitiatorHandshake) (reason string, err error) {
	w := p.w
	viewers := w.directory.identify(h.name.group, h.name.hash)
	if len(viewers) == 0 {
		return "unknown initiator", nil
	}
	terms := session.Terms{MaxMessageSize: maxMessage, Modes: []p2p.ProtocolMode{p2p.AuthenticatedEncryption, p2p.AuthenticationOnly}}
	if modes, _, err := w.directory.terms(h.reverse.source.ShortHash()); err == nil {
		terms.Modes = modes
	} else {
		return "no policy", nil
	}
	proposal, toSign, err := h.machine.OnInitiatorHandshake(m, viewers[0].key, terms)
	if err != nil {
		return "handshake refused", nil
	}
	ours, key, found := w.directory.ourIdentity(proposal.GroupID, proposal.ResponderKeyHash)
	if !found {
		return "not hosted", nil
	}
	to, err := ours.Party.Identity()
	if err != nil {
		return "not hosted", nil
	}
	from, reason := w.initiatorFor(to, h.name)
	if reason != "" {
		return reason, nil
	}
	signature, err := w.sign(ctx, key, toSign)
	if err != nil {
		return "", fmt.Errorf("sign a handshake: %w", err)
	}
	reply, established, err := h.machine.Handshake(signature, time.Now())
	if err != nil {
		return "", err
	}
	body := gatewayBody(h.id, reply)
	in := w.newInbound(established, from, to, h.name, body)
	if err := w.sessions.store(ctx, in, time.Now().Add(w.tuning.KeepInbound)); err != nil {
		return "", fmt.Errorf("store a session: %w", err)
	}
	h.reply, h.replied, h.finished, h.reverse = body, time.Now(), true, in.reverse
	w.metrics.sessions.WithLabelValues("responder").Inc()
	w.Log.InfoContext(ctx, "link session of a peer is up", "session", h.id, "peer", from.Name.String())
	in.reverse.answer(body)
	return "", nil
}

// initiatorFor finds the member with the key in the list of an identity of ours, and says whether they may talk.
func (w *Worker) initiatorFor(to identity.HoldingIdentity, name keyName) (from identity.HoldingIdentity, reason string) {
	for _, s := range w.directory.identify(name.group, name.hash) {
		ours, peer, ok := w.directory.parties(s.record)
		if !ok || ours != to {
			continue
		}
		return peer, w.directory.accepts(to.ShortHash(), peer.ShortHash(), name)
	}
	return from, "unknown initiator"
}

// repeat answers a handshake message whose session exists already: its answer was lost, perhaps with our process.
func (p *responder) repeat(ctx context.Context, id string) error {
	in, err := p.w.session(ctx, id)
	if err != nil {
		return dropped("no such handshake")
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if now := time.Now(); now.Sub(in.answered) >= resendGuard {
		in.answered = now
		in.reverse.answer(in.answer)
	}
	return nil
}

// newInbound makes the form of a session that is in memory.
func (w *Worker) newInbound(s *session.Session, from, to identity.HoldingIdentity, name keyName, answer []byte) *inbound {
	in := &inbound{
		session: s, source: from, destination: to, from: message.PartyOf(from), to: message.PartyOf(to), peerKey: name,
		holder: string(to.ShortHash()), window: session.NewReplayWindow(replayWindow), answer: answer, answered: time.Now(),
	}
	back := message.Pair{Source: in.to, Destination: in.from}
	in.reverse = w.runner(back)
	in.seenIDs = w.sessions.recentOf(back.Key())
	return in
}

// stored makes the record of a session.
func (in *inbound) stored(sealed []byte, expires time.Time) topic.StoredSession {
	return topic.StoredSession{
		Source: in.from, Destination: in.to, Sealed: sealed, Answer: in.answer, Expires: expires.UnixMilli(), PeerKey: in.peerKey.hash[:],
	}
}
