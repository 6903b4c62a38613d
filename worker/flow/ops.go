package flow

import (
	"fmt"
	"math"
	"slices"

	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
	"github.com/hawser-project/hawser/worker/flow/session"
	"github.com/hawser-project/hawser/worker/flow/wasm"
	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

// Bounds of one flow.
const (
	maxSessions = 128
	maxPending  = 1024
	maxVersions = 64
	// maxEvent is the largest payload of a session message: a record holds it with room to spare.
	maxEvent = 900 << 10
)

// Codes that the SDK has names for, beside those of package session.
const (
	codeUnknownPeer = "unknown-peer"
	codeBadMessage  = "bad-message"
)

// outgoing is an event on its way to a peer.
type outgoing struct {
	session uint64
	event   flow.SessionEvent
}

// apply does what a command frame asks for, in its order. An error says how the module broke the rules.
func (s *step) apply(a *wasm.Answer) error {
	for i, c := range a.List {
		last := a.Mode == frame.Ended && i == len(a.List)-1
		if ends := c.Op == frame.Complete || c.Op == frame.Fail; ends != last {
			return fmt.Errorf("%w: %s is command %d of %d, mode %d", errBroken, opNames[c.Op], i+1, len(a.List), a.Mode)
		}
		if err := s.do(c); err != nil {
			return err
		}
	}
	if a.Mode == frame.Ended && len(a.List) == 0 {
		return fmt.Errorf("%w: it ended without a result", errBroken)
	}
	s.run.Mode, s.run.Await = a.Mode, slices.Clone(a.Await)
	for _, id := range a.Await {
		if !s.has(id) && s.pending(id) < 0 {
			return fmt.Errorf("%w: it waits for command %d, which has no answer to come", errBroken, id)
		}
	}
	return nil
}

func (s *step) do(c frame.Command) error {
	switch c.Op {
	case frame.OpenSession:
		return s.open(c)
	case frame.SendData:
		return s.send(c.Body)
	case frame.ReceiveData, frame.CloseSession:
		return s.wait(c)
	case frame.StorePut:
		return s.put(c.Body)
	case frame.StoreGet:
		return s.get(c)
	case frame.StoreList:
		return s.list(c)
	case frame.Complete:
		s.complete(slices.Clone(c.Body))
		return nil
	case frame.Fail:
		f, err := frame.DecodeFailure(c.Body)
		if err == nil {
			s.fail(typeFlow, f.Type, f.Message)
		}
		return err
	}
	return fmt.Errorf("%w: op %d is not known", errBroken, c.Op)
}

func (s *step) answer(id uint64, body []byte) { s.answers[id] = frame.Completion{ID: id, Body: body} }

func (s *step) refuse(id uint64, code, format string, args ...any) {
	s.answers[id] = frame.Completion{ID: id, Code: code, Message: fmt.Sprintf(format, args...)}
}

// open makes a session. Its peer hears of it with the first message.
func (s *step) open(c frame.Command) error {
	o, err := frame.DecodeOpen(c.Body)
	if err != nil {
		return err
	}
	if o.Session == 0 || o.Session > math.MaxUint32 || s.run.session(o.Session) != nil {
		return fmt.Errorf("%w: session %d is taken, or not a number for a session", errBroken, o.Session)
	}
	peer, why, err := s.peer(o.Peer)
	switch {
	case err != nil:
		s.unread = err
		return err
	case why != "":
		s.refuse(c.ID, codeUnknownPeer, "%s", why)
		return nil
	case o.Protocol == "" || len(o.Versions) == 0 || len(o.Versions) > maxVersions:
		s.refuse(c.ID, session.CodeNoProtocol, "protocol %q with %d versions: want a name and 1 to %d versions", o.Protocol, len(o.Versions), maxVersions)
		return nil
	case len(s.run.Sessions) >= maxSessions:
		s.refuse(c.ID, session.CodeSession, "the flow has %d sessions, which is the most", maxSessions)
		return nil
	}
	id, err := flow.ParseID(s.run.ID)
	if err != nil {
		return err
	}
	init := flow.Init{Protocol: o.Protocol, Class: s.run.Class}
	for _, v := range o.Versions {
		init.Versions = append(init.Versions, int(min(v, math.MaxInt32)))
	}
	named := id.Session(uint32(o.Session)).String()
	s.run.Sessions = append(s.run.Sessions, session.Initiate(o.Session, named, message.PartyOf(peer), init))
	s.answer(c.ID, nil)
	return nil
}

// peer finds a member by the name that the flow gives, or says why it can't be talked to. The table may lag behind what the
// client who started the flow has seen: before it is said that there is no such member it is caught up with.
func (s *step) peer(name string) (peer identity.HoldingIdentity, why string, err error) {
	parsed, err := x500.Parse(name)
	if err != nil {
		return peer, err.Error(), nil //nolint:nilerr // it is for the flow
	}
	peer = identity.HoldingIdentity{Name: parsed, GroupID: s.node.Identity.GroupID}
	if why = s.unfit(peer); why == "" {
		return peer, "", nil
	}
	if err := s.w.members.WaitCurrent(s.ctx); err != nil {
		return peer, "", err
	}
	return peer, s.unfit(peer), nil
}

// unfit says why a member can't be talked to.
func (s *step) unfit(peer identity.HoldingIdentity) string {
	record, found := s.w.members.Get(s.run.Holder + "/" + peer.ShortHash().String())
	if !found {
		return fmt.Sprintf("the group has no member %s", peer.Name)
	}
	if st := record.Info.Status(); st == member.Suspended || st == member.Pending {
		return fmt.Sprintf("member %s is %s", peer.Name, st)
	}
	return ""
}

// send adds a message. What goes wrong is told at the next receive or close.
func (s *step) send(body []byte) error {
	d, err := frame.DecodeSend(body)
	if err != nil {
		return err
	}
	to := s.run.session(d.Session)
	if to == nil {
		return nil
	}
	if len(d.Payload) > maxEvent {
		s.abort(to, session.CodeTooLarge, fmt.Sprintf("a message of %d octets is over the limit of %d", len(d.Payload), maxEvent))
		return nil
	}
	if e, p := to.Send(slices.Clone(d.Payload)); p == nil {
		s.out = append(s.out, outgoing{to.Number, e})
		s.size += len(d.Payload)
	} else {
		to.Fail(*p)
	}
	return nil
}

// wait notes a receive or a close.
func (s *step) wait(c frame.Command) error {
	d, err := frame.DecodeSend(c.Body)
	if err != nil {
		return err
	}
	if len(s.run.Pending) >= maxPending {
		return fmt.Errorf("%w: it waits for %d messages at once", errBroken, maxPending)
	}
	deadline := s.tx.Now().Add(s.w.SessionTimeout).UnixMilli()
	s.run.Pending = append(s.run.Pending, pending{ID: c.ID, Op: c.Op, Session: d.Session, Deadline: deadline})
	on := s.run.session(d.Session)
	switch {
	case on == nil:
	case c.Op == frame.CloseSession:
		s.close(on)
	default:
		if e, first := on.Call(); first {
			s.out = append(s.out, outgoing{on.Number, e})
		}
	}
	return nil
}

// close ends this side of a session: with the last message of this step if there is one.
func (s *step) close(on *session.Session) {
	for i := len(s.out) - 1; i >= 0; i-- {
		if o := &s.out[i]; o.session == on.Number {
			if o.event.Kind == flow.Data && !o.event.Final {
				on.CloseWithData(&o.event)
				return
			}
			break
		}
	}
	if e, ok := on.Close(); ok {
		s.out = append(s.out, outgoing{on.Number, e})
	}
}

// abort fails a session and tells the peer.
func (s *step) abort(on *session.Session, code, text string) {
	if e, ok := on.Abort(code, text); ok {
		s.out = append(s.out, outgoing{on.Number, e})
	}
}

// flush lets puts and messages take effect.
func (s *step) flush() {
	for key, value := range s.puts {
		store.Put(s.tx, s.run.Holder, key, value)
	}
	for _, o := range s.out {
		s.w.sendEvent(s.tx, s.run.Me, s.run.session(o.session), o.event)
	}
	clear(s.puts)
	s.out = nil
}
