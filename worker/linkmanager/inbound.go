package linkmanager

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/p2p"
	"github.com/hawser-project/hawser/corda/session"
)

const (
	linkManagerSubsystem = "link-manager"
	maxID                = 1024 // octets of a message id or key
	replayWindow         = 8192
)

// inbound is a session that a peer has made, in memory.
type inbound struct {
	session     *session.Session
	source      identity.HoldingIdentity // the peer
	destination identity.HoldingIdentity // hosted here
	from, to    message.Party
	peerKey     keyName
	holder      string
	reverse     *runner // from the destination to the source
	seenIDs     *recent // of the pair
	answer      []byte  // the message that ended the handshake

	mu       sync.Mutex
	window   *session.ReplayWindow
	answered time.Time

	verdict atomic.Pointer[verdict]
}

// verdict is whether messages are taken, at one state of the tables.
type verdict struct {
	generation uint64
	reason     string
}

// taking is what the messages of one delivery come to.
type taking struct {
	records []bus.Keyed[flow.Input]
	fresh   []taken
	acks    []acknowledgement
	acked   map[*runner][]string // acknowledgements of our messages
}

// taken is a message that is to be remembered and acknowledged once it is durable.
type taken struct {
	from *inbound
	seq  int64
	id   string
	ack  acknowledgement
}

type acknowledgement struct {
	to      *inbound
	payload p2p.Payload
}

// drop counts what was of no use.
func (w *Worker) drop(reason string) { w.metrics.dropped.WithLabelValues(reason).Inc() }

// receiveAnswers takes link messages that came back in the answer to a request.
func (w *Worker) receiveAnswers(ctx context.Context, payloads [][]byte) {
	var t taking
	for _, octets := range payloads {
		w.guard(func() error {
			payload, err := p2p.DecodePayload(octets)
			if err != nil {
				return dropped("malformed")
			}
			return w.receive(ctx, &t, payload)
		})
	}
	if _, err := w.conclusion(ctx, &t, false); err != nil {
		w.Log.WarnContext(ctx, "messages in an answer", "error", err)
	}
}

// dropped is the reason why a message is of no use.
type dropped string

func (d dropped) Error() string { return string(d) }

// guard runs what looks at a peer's octets, so that nothing in them can stop the worker.
func (w *Worker) guard(fn func() error) {
	defer func() {
		if p := recover(); p != nil {
			w.drop("panic")
			w.Log.Error("a link message made us panic", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	switch err := fn().(type) { //nolint:errorlint // made here
	case nil:
	case dropped:
		w.drop(string(err))
	default:
		w.drop("not understood")
		w.Log.Debug("link message dropped", "error", err)
	}
}

// receive looks at one link message.
func (w *Worker) receive(ctx context.Context, t *taking, payload p2p.Payload) error {
	switch m := payload.(type) {
	case *p2p.InitiatorHello:
		return w.responder.hello(ctx, m)
	case *p2p.InitiatorHandshake:
		return w.responder.handshake(ctx, m)
	case *p2p.ResponderHello:
		return w.toOpening(m.Header.SessionID, func(r *runner, now time.Time) error { return r.lane.responderHello(now, m) })
	case *p2p.ResponderHandshake:
		return w.toOpening(m.CommonHeader().SessionID, func(r *runner, now time.Time) error {
			return r.lane.responderHandshake(now, m, newCounter())
		})
	case *p2p.EncryptedData, *p2p.AuthenticatedData:
		return w.data(ctx, t, payload)
	}
	return dropped("unauthenticated message")
}

// toOpening takes an answer of a responder to the lane that waits for it.
func (w *Worker) toOpening(id string, fn func(r *runner, now time.Time) error) error {
	e, found := w.index.get(id)
	if !found || e.session != nil {
		return dropped("no such handshake")
	}
	e.runner.do(func(now time.Time) {
		w.guard(func() error {
			if fn(e.runner, now) != nil {
				return dropped("handshake refused")
			}
			return nil
		})
	})
	return nil
}

// data opens a data message: an acknowledgement of ours, or a message of a peer.
func (w *Worker) data(ctx context.Context, t *taking, payload p2p.Payload) error {
	id := payload.CommonHeader().SessionID
	if e, found := w.index.get(id); found {
		if e.session == nil {
			return dropped("session not established")
		}
		return w.acknowledged(t, e, payload)
	}
	in, err := w.session(ctx, id)
	if err != nil {
		return err
	}
	if reason := w.judge(in); reason != "" {
		return dropped(reason)
	}
	plaintext, err := in.session.Open(payload)
	if err != nil {
		return dropped("not authentic")
	}
	m, err := p2p.DecodeDataPayload(plaintext)
	if err != nil {
		return dropped("malformed")
	}
	in.reverse.form.Store(int32(m.Form) + 1)
	return w.message(t, in, payload, m)
}

// acknowledged takes note of an acknowledgement.
func (w *Worker) acknowledged(t *taking, e indexed, payload p2p.Payload) error {
	plaintext, err := e.session.Open(payload)
	if err != nil {
		return dropped("not authentic")
	}
	ack, err := p2p.DecodeAck(plaintext)
	if err != nil {
		return dropped("malformed")
	}
	if e.runner.current.Load().standing == refused {
		return dropped("not allowed")
	}
	if t.acked == nil {
		t.acked = make(map[*runner][]string)
	}
	t.acked[e.runner] = append(t.acked[e.runner], ack.MessageID)
	return nil
}

// judge says whether messages of the session may be taken now.
func (w *Worker) judge(in *inbound) (reason string) {
	generation := w.directory.generation.Load()
	if v := in.verdict.Load(); v != nil && v.generation == generation {
		return v.reason
	}
	reason = w.directory.accepts(in.destination.ShortHash(), in.source.ShortHash(), in.peerKey)
	in.verdict.Store(&verdict{generation, reason})
	return reason
}

// message takes a peer's message.
func (w *Worker) message(t *taking, in *inbound, payload p2p.Payload, m *p2p.DataPayload) error {
	header := payload.CommonHeader()
	reply, err := in.session.Seal(header.SequenceNo, header.Timestamp,
		(&p2p.Ack{Form: m.Form, Heartbeat: m.Heartbeat, MessageID: m.Message.MessageID}).AppendObject(nil))
	if err != nil {
		return dropped("no acknowledgement")
	}
	ack := acknowledgement{in, reply}
	if m.Heartbeat {
		t.acks = append(t.acks, ack)
		return nil
	}
	if len(m.Message.MessageID) > maxID || len(m.Key) > maxID {
		return dropped("id too long")
	}
	if !in.binds(&m.Message) {
		return dropped("source or destination forged")
	}
	in.mu.Lock()
	seen := in.window.Seen(header.SequenceNo)
	in.mu.Unlock()
	if seen || in.seenIDs.has(m.Message.MessageID) {
		w.metrics.received.WithLabelValues("again").Inc()
		t.acks = append(t.acks, ack)
		return nil
	}
	switch m.Message.Subsystem {
	case flow.Subsystem:
	case linkManagerSubsystem:
		return w.reestablish(t, in, m, ack)
	default:
		return dropped("subsystem")
	}
	slot, err := flow.SlotOfMessage(in.destination, in.source, m.Key)
	if err != nil {
		return dropped("message key")
	}
	t.records = append(t.records, bus.Keyed[flow.Input]{Key: slot.Key(), Value: flow.Input{Holder: in.holder, Inbound: &message.Inbound{
		Source: in.from, Destination: in.to, ID: m.Message.MessageID, Key: m.Key, Subsystem: m.Message.Subsystem, Payload: m.Message.Payload,
	}}})
	t.fresh = append(t.fresh, taken{in, header.SequenceNo, m.Message.MessageID, ack})
	return nil
}

// binds says whether the message is from and for whom the session is.
func (in *inbound) binds(m *p2p.AuthenticatedMessage) bool {
	return same(m.Source, in.from, in.source) && same(m.Destination, in.to, in.destination)
}

func same(claimed p2p.Identity, p message.Party, h identity.HoldingIdentity) bool {
	if claimed.GroupID != p.GroupID {
		return false
	}
	if claimed.X500Name == p.Name {
		return true
	}
	parsed, err := claimed.Parse()
	return err == nil && parsed == h
}

// reestablish ends a session of ours that its counterparty does not have any more (spec/p2p-wire.md 5.2).
func (w *Worker) reestablish(t *taking, in *inbound, m *p2p.DataPayload, ack acknowledgement) error {
	ask, err := p2p.DecodeReEstablishSession(m.Message.Payload)
	if err != nil {
		return dropped("malformed")
	}
	lost := topic.LostSession{Session: ask.SessionID, Pair: in.reverse.pair}
	if maker, named := makerOf(ask.SessionID); named && topic.SessionLost.At(w.Bus, maker) {
		w.tasks.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), lostTime)
			defer cancel()
			if _, err := topic.SessionLost.DoAt(ctx, w.Bus, maker, lost); err != nil {
				w.Log.WarnContext(ctx, "a lost session's maker could not be told", "session", ask.SessionID, "error", err)
			}
		})
	}
	_, _ = w.sessionLost(context.Background(), lost) // never fails; not ours changes nothing
	t.acks = append(t.acks, ack)
	return nil
}

// lostTime bounds how long another link manager is told of a session that is lost: the peer says it again.
const lostTime = 5 * time.Second

// sessionLost ends a session of ours that its peer does not have.
func (w *Worker) sessionLost(_ context.Context, lost topic.LostSession) (struct{}, error) {
	if e, found := w.index.get(lost.Session); found && e.runner.pair == lost.Pair {
		e.runner.do(func(now time.Time) { e.runner.lane.lost(now, lost.Session) })
	}
	return struct{}{}, nil
}

// conclusion publishes what was taken, and only then acknowledges it.
func (w *Worker) conclusion(ctx context.Context, t *taking, inReply bool) (topic.Receipt, error) {
	for r, ids := range t.acked {
		r.do(func(now time.Time) { r.lane.acked(now, ids...) })
	}
	failed := w.roomFor(ctx, t.records)
	if len(t.records) > 0 && failed == nil {
		if _, err := topic.FlowIn.Publish(ctx, w.Bus, t.records...); err != nil {
			failed = fault.New(fault.Unavailable, "publish messages of peers: %w", err)
		} else {
			w.metrics.received.WithLabelValues("new").Add(float64(len(t.fresh)))
			for _, f := range t.fresh {
				f.from.remember(f.seq, f.id)
				t.acks = append(t.acks, f.ack)
			}
		}
	}
	var receipt topic.Receipt
	for _, a := range t.acks {
		a.to.reverse.heard()
		if inReply {
			receipt.Acks = append(receipt.Acks, p2p.AppendPayload(nil, a.payload))
		} else {
			a.to.reverse.answer(gatewayBody(a.to.session.ID(), a.payload))
		}
	}
	return receipt, failed
}

// roomFor says whether flows keep up. While they do not, nothing more is taken, and peers keep what they have.
func (w *Worker) roomFor(ctx context.Context, records []bus.Keyed[flow.Input]) error {
	for _, r := range records {
		if err := topic.FlowIn.Busy(ctx, w.Bus, r.Key); err != nil {
			return err
		}
	}
	return nil
}

// remember notes a message that is durable.
func (in *inbound) remember(seq int64, id string) {
	in.mu.Lock()
	in.window.Add(seq)
	in.mu.Unlock()
	in.seenIDs.add(id)
}

// heard says that something came from the peer: a lane that has given up on it for now tries again.
func (r *runner) heard() {
	if r.away.Load() {
		r.do(func(now time.Time) { r.lane.reachable(now) })
	}
}
