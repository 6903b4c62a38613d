package flow

import (
	"context"
	"fmt"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/worker/flow/session"
	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

// Codes of errors that this worker itself sends to peers.
const (
	codeUnknownSession = "unknown-session"
	codeNotActive      = "not-active"
)

// input takes a record that the link manager has for a flow. Nothing that a peer sends makes it fail.
func (w *Worker) input(ctx context.Context, tx *bus.Tx, key string, in flow.Input) error {
	node, found := w.vnodes.Get(in.Holder)
	switch {
	case !found:
		return bus.Hold(fmt.Sprintf("virtual node %s is not known", in.Holder), w.vnodes.Until(in.Holder))
	case in.Inbound != nil && in.Inbound.Subsystem == flow.Subsystem:
		return w.inbound(ctx, tx, key, node, in.Holder, in.Inbound)
	case in.Failed != nil:
		return w.undelivered(ctx, tx, key, node, in.Failed)
	}
	w.drop(ctx, "foreign", "key", key)
	return nil
}

func (w *Worker) drop(ctx context.Context, reason string, attrs ...any) {
	w.metrics.dropped.WithLabelValues(reason).Inc()
	w.Log.InfoContext(ctx, "session message dropped", append(attrs, "reason", reason)...)
}

// arrival is a session message on its way to its flow.
type arrival struct {
	*message.Inbound
	holder        string
	slot          flow.Slot
	session       flow.ID
	fromInitiator bool
	event         flow.SessionEvent
	malformed     error // why event does not decode
}

// read checks what the link manager promises, and decodes the event.
func read(node vnode.VirtualNode, holder, key string, m *message.Inbound) (a arrival, err error) {
	a = arrival{Inbound: m, holder: holder}
	if a.session, a.fromInitiator, err = flow.ParseMessageKey(m.Key); err != nil {
		return a, err
	}
	peer, err := m.Source.Identity()
	if err != nil {
		return a, err
	}
	if a.slot, err = flow.SlotOfMessage(node.Identity, peer, m.Key); err != nil {
		return a, err
	}
	if m.Destination != message.PartyOf(node.Identity) || a.slot.Key() != key {
		return a, fmt.Errorf("the message for %s came to %s under key %s", m.Destination.Name, node.Identity.Name, key)
	}
	a.malformed = bus.Decode(m.Payload, &a.event)
	return a, nil
}

// inbound takes a session message to its flow.
func (w *Worker) inbound(ctx context.Context, tx *bus.Tx, key string, node vnode.VirtualNode, holder string, m *message.Inbound) error {
	a, err := read(node, holder, key, m)
	if err != nil {
		w.drop(ctx, "misaddressed", "message", m.ID, "error", err)
		return nil
	}
	r, err := findRun(tx, key, a.session, !a.fromInitiator, m.Source)
	if err != nil {
		return err
	}
	if r == nil {
		return w.unknown(ctx, tx, node, a)
	}
	on := r.sessionNamed(a.session.String(), !a.fromInitiator)
	switch {
	case on.Peer != m.Source:
		w.drop(ctx, "not the counterparty", "message", m.ID, "source", m.Source.Name, "session", on.ID)
		return nil
	case r.State.Terminal():
		w.late(ctx, tx, a, on)
		return nil
	}
	s, err := w.newStep(ctx, tx, key, r)
	if err != nil {
		return err
	}
	if !s.take(on, a) {
		w.drop(ctx, "duplicate", "message", m.ID)
		return nil
	}
	return s.advance()
}

// findRun finds the flow of a session: ours by the session's id, a responder by the session that it was begun with.
func findRun(tx *bus.Tx, key string, id flow.ID, initiator bool, peer message.Party) (*run, error) {
	if initiator {
		r, found, err := runs.Get(tx, key, id.Flow().String())
		if err != nil || !found || r.sessionNamed(id.String(), true) == nil {
			return nil, err
		}
		return &r, nil
	}
	there, err := runs.List(tx, key, "")
	for i := range there {
		r := &there[i].Value
		if on := r.sessionNamed(id.String(), false); on != nil && on.Peer == peer {
			return r, nil
		}
	}
	return nil, err
}

// take gives an event to its session, and says whether that changed anything.
func (s *step) take(on *session.Session, a arrival) bool {
	if a.malformed != nil {
		s.w.drop(s.ctx, "malformed", "message", a.ID, "error", a.malformed)
		s.abort(on, session.CodeSession, "a message that can't be read")
		return true
	}
	verdict, problem := on.Take(a.event)
	if problem != nil {
		s.w.drop(s.ctx, "out of order", "message", a.ID, "error", problem)
		s.abort(on, problem.Code, problem.Reason)
		return true
	}
	if verdict == session.Keep {
		s.payloads[place{on.Number, a.event.Sequence}] = a.event.Payload
	}
	return verdict != session.Drop
}

// unknown takes a message whose session is not here: the first one of a session begins a flow, any other is answered with
// an error. An error is never answered.
func (w *Worker) unknown(ctx context.Context, tx *bus.Tx, node vnode.VirtualNode, a arrival) error {
	switch {
	case a.malformed != nil:
		w.drop(ctx, "malformed", "message", a.ID, "error", a.malformed)
	case a.event.Kind == flow.Error:
		w.drop(ctx, "unknown session", "message", a.ID)
		return nil
	case a.fromInitiator && a.event.Init != nil:
		return w.respond(ctx, tx, node, a)
	default:
		w.drop(ctx, "unknown session", "message", a.ID)
	}
	w.reply(tx, a.Inbound, a.session, a.fromInitiator, codeUnknownSession, "the session is not known here")
	return nil
}

// late takes a message for a flow that has ended. What was sent before the sender could know is no news; data that nobody
// will receive is answered with an error.
func (w *Worker) late(ctx context.Context, tx *bus.Tx, a arrival, on *session.Session) {
	w.drop(ctx, "flow has ended", "message", a.ID)
	if a.malformed == nil && a.event.Kind == flow.Data && a.event.Sequence > on.Received {
		w.reply(tx, a.Inbound, a.session, a.fromInitiator, session.CodeClosed, "the flow has ended")
	}
}

// respond begins the flow that answers a peer's protocol.
func (w *Worker) respond(ctx context.Context, tx *bus.Tx, node vnode.VirtualNode, a arrival) error {
	refuse := func(code, format string, args ...any) error {
		w.drop(ctx, code, "message", a.ID)
		w.reply(tx, a.Inbound, a.session, true, code, fmt.Sprintf(format, args...))
		return nil
	}
	if !node.MayTakeSessions() {
		return refuse(codeNotActive, "%s takes no sessions now", a.Destination.Name)
	}
	pack, found := w.packages.Get(node.CPI.FileChecksum)
	if !found {
		return bus.Hold(fmt.Sprintf("the package of virtual node %s is not known", a.holder), w.packages.Until(node.CPI.FileChecksum))
	}
	init := a.event.Init
	class, module, version, err := w.modules.responder(pack, init.Protocol, init.Versions)
	if err != nil {
		return err
	}
	if class == "" {
		return refuse(session.CodeNoProtocol, "%s has no flow that answers protocol %.200q in a version that was offered", a.Destination.Name, init.Protocol)
	}
	r := newRun(tx, a.slot, node, run{Holder: a.holder, RequestID: a.session.String(), Class: class, Kind: frame.Responder, Module: module, fresh: true})
	r.State = flow.Running
	r.Sessions = []session.Session{session.Respond(a.session.String(), a.Source)}
	s, err := w.newStep(ctx, tx, a.slot.Key(), &r)
	if err != nil {
		return err
	}
	s.start = (&frame.Start{
		Kind: frame.Responder, Class: class, FlowID: r.ID, Me: r.Me.Name, Counterparty: a.Source.Name, Now: tx.Now().UnixNano(),
		Seed: newSeed(), Protocol: init.Protocol, Version: uint64(version),
	}).Append(nil)
	s.take(&r.Sessions[0], a)
	w.metrics.started.WithLabelValues("peer").Inc()
	return s.advance()
}

// undelivered tells a flow that its message will never arrive.
func (w *Worker) undelivered(ctx context.Context, tx *bus.Tx, key string, node vnode.VirtualNode, f *message.Failure) error {
	id, ours, err := flow.ParseMessageKey(f.Key)
	if err != nil {
		w.drop(ctx, "misaddressed", "message", f.ID, "error", err)
		return nil
	}
	r, err := findRun(tx, key, id, ours, f.Destination)
	if err != nil {
		return err
	}
	if r == nil || r.State.Terminal() || r.Me != message.PartyOf(node.Identity) {
		w.drop(ctx, "failure of no session", "message", f.ID)
		return nil
	}
	s, err := w.newStep(ctx, tx, key, r)
	if err != nil {
		return err
	}
	on := r.sessionNamed(id.String(), ours)
	on.Fail(session.Problem{Code: session.CodeSession, Reason: fmt.Sprintf("a message to %s was not delivered: %s: %s", on.Peer.Name, f.Code, f.Reason)})
	return s.advance()
}
