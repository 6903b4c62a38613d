// Package session decides what happens on a flow session: which numbers messages get, which of them the flow may see, and
// how the session ends. It is pure; who calls it keeps the session in the flow's record and the payloads beside it.
//
//	         first event goes out            peer's event
//	unused ------------------------> calling -------------> open        an initiator
//	                                           Take Init -> open        a responder
//
//	open -- Close --> closed here     -- peer's Final or Close --> done
//	open -- peer's Final or Close --> closed there  -- Close --> done   (receives still get what came before)
//	any  -- Fail, peer's Error, a message that can't be delivered --> failed
//
// Each direction counts Data and Close from 1. What comes twice is dropped, what comes early waits for what is missing.
// A failed session still gives out what came in order before it failed. Either side may close first: the other one's
// receives then get session-closed instead of waiting in vain.
package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/message"
)

// Codes that flows get. The SDK has names for them.
const (
	CodeSession    = "session-error"
	CodeClosed     = "session-closed"
	CodeTimeout    = "session-timeout"
	CodeNoProtocol = "no-protocol"
	CodeTooLarge   = "too-large"
)

// Bounds of what a peer may send before it is read.
const (
	maxEarly  = 128
	maxUnread = 1024
	maxText   = 1024
)

// Problem is why an operation on a session does not succeed.
type Problem struct {
	Code   string `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint,omitempty"`
}

func (p *Problem) Error() string { return p.Code + ": " + p.Reason }

// Session is one side of a flow session.
type Session struct {
	Number    uint64        `cbor:"1,keyasint,omitempty"` // as the flow counts; 0: with the initiator of a responder
	ID        string        `cbor:"2,keyasint"`           // as both sides name it
	Peer      message.Party `cbor:"3,keyasint"`
	Initiator bool          `cbor:"4,keyasint,omitempty"`
	Init      *flow.Init    `cbor:"5,keyasint,omitempty"` // an initiator's, until it has heard from the peer

	Sent     uint64   `cbor:"6,keyasint,omitempty"` // the last number given out
	Received uint64   `cbor:"7,keyasint,omitempty"` // the last number of the unbroken run
	Read     uint64   `cbor:"8,keyasint,omitempty"` // the last number that a receive has got
	Early    []uint64 `cbor:"9,keyasint,omitempty"` // numbers beyond the run, in order
	// Last is the number of the peer's last event, 0 where it is not known. LastEmpty: it has no payload.
	Last      uint64 `cbor:"10,keyasint,omitempty"`
	LastEmpty bool   `cbor:"11,keyasint,omitempty"`

	Contacted bool     `cbor:"12,keyasint,omitempty"` // something went out to the peer
	Closed    bool     `cbor:"13,keyasint,omitempty"` // this side sends no more
	Problem   *Problem `cbor:"14,keyasint,omitempty"` // the session has failed
}

// Initiate makes the initiator's side. No event goes out before the first send or receive.
func Initiate(number uint64, id string, peer message.Party, init flow.Init) Session {
	return Session{Number: number, ID: id, Peer: peer, Initiator: true, Init: &init}
}

// Respond makes the responder's side.
func Respond(id string, peer message.Party) Session {
	return Session{ID: id, Peer: peer, Contacted: true}
}

// Send gives the event that carries a payload.
func (s *Session) Send(payload []byte) (flow.SessionEvent, *Problem) {
	if p := s.writable(); p != nil {
		return flow.SessionEvent{}, p
	}
	s.Sent++
	return s.out(flow.SessionEvent{Kind: flow.Data, Sequence: s.Sent, Payload: payload}), nil
}

func (s *Session) writable() *Problem {
	switch {
	case s.Problem != nil:
		return s.Problem
	case s.Closed:
		return &Problem{CodeClosed, "the session with " + s.Peer.Name + " was closed by this flow"}
	}
	return nil
}

func (s *Session) out(e flow.SessionEvent) flow.SessionEvent {
	e.Init = s.Init
	s.Contacted = true
	return e
}

// Call gives the event that begins the peer's flow where nothing has been sent yet, for a flow that receives first.
func (s *Session) Call() (flow.SessionEvent, bool) {
	if s.Contacted || s.Closed || s.Problem != nil {
		return flow.SessionEvent{}, false
	}
	return s.out(flow.SessionEvent{Kind: flow.Hello}), true
}

// Verdict is what becomes of an event that came in.
type Verdict uint8

// The verdicts.
const (
	Drop    Verdict = iota // it changes nothing
	Applied                // it has done what it can
	Keep                   // its payload is to be kept until a receive gets it
)

// Take takes in an event of the peer. An event that shows that the peer breaks the rules is an error: the session is to be
// failed and the peer to be told.
func (s *Session) Take(e flow.SessionEvent) (Verdict, *Problem) {
	switch e.Kind {
	case flow.Error:
		return s.takeError(e), nil
	case flow.Hello:
		return Drop, nil // the session is there, that is all it asks for
	case flow.Data, flow.Close:
		return s.takeNumbered(e)
	}
	return Drop, &Problem{CodeSession, fmt.Sprintf("an event of unknown kind %d", e.Kind)}
}

func (s *Session) takeError(e flow.SessionEvent) Verdict {
	if s.Problem != nil || s.peerDone() {
		return Drop // a session that has ended well does not fail afterwards
	}
	code := CodeSession
	reason := fmt.Sprintf("%s failed: %s: %s", s.Peer.Name, clip(e.Code), clip(e.Message))
	if e.Code == CodeNoProtocol {
		code, reason = e.Code, clip(e.Message)
	}
	s.Fail(Problem{code, reason})
	return Applied
}

func (s *Session) takeNumbered(e flow.SessionEvent) (Verdict, *Problem) {
	at, early := slices.BinarySearch(s.Early, e.Sequence)
	switch {
	case e.Sequence == 0:
		return Drop, &Problem{CodeSession, "an event without its number"}
	case s.Problem != nil || early || e.Sequence <= s.Received:
		return Drop, nil
	case s.Last > 0 && e.Sequence > s.Last:
		return Drop, &Problem{CodeSession, fmt.Sprintf("event %d follows the close, which is event %d", e.Sequence, s.Last)}
	case len(s.Early) >= maxEarly && e.Sequence != s.Received+1:
		return Drop, &Problem{CodeSession, fmt.Sprintf("event %d came while event %d was missing, as did %d before it", e.Sequence, s.Received+1, maxEarly)}
	case s.Received-s.Read >= maxUnread:
		return Drop, &Problem{CodeSession, fmt.Sprintf("%d messages were sent and not received", maxUnread)}
	}
	s.Init = nil
	if e.Kind == flow.Close || e.Final {
		if n := len(s.Early); n > 0 && s.Early[n-1] > e.Sequence {
			return Drop, &Problem{CodeSession, fmt.Sprintf("event %d came before the close, which is event %d", s.Early[n-1], e.Sequence)}
		}
		s.Last, s.LastEmpty = e.Sequence, e.Kind == flow.Close
	}
	s.Early = slices.Insert(s.Early, at, e.Sequence)
	for len(s.Early) > 0 && s.Early[0] == s.Received+1 {
		s.Received++
		s.Early = s.Early[1:]
	}
	if e.Kind == flow.Close {
		return Applied, nil
	}
	return Keep, nil
}

// peerDone says whether all that the peer will ever send is here.
func (s *Session) peerDone() bool { return s.Last > 0 && s.Received == s.Last }

// Next answers a receive: with the number of the message that it gets, or a problem. Neither means that it must wait.
func (s *Session) Next() (number uint64, p *Problem) {
	readable := s.Received
	if s.peerDone() && s.LastEmpty {
		readable--
	}
	switch {
	case s.Read < readable:
		s.Read++
		return s.Read, nil
	case s.Problem != nil:
		return 0, s.Problem
	case s.peerDone():
		return 0, &Problem{CodeClosed, s.Peer.Name + " closed the session"}
	case s.Closed:
		return 0, s.writable()
	}
	return 0, nil
}

// Finished says whether a close has its answer: a responder's at once, an initiator's when the peer is done.
func (s *Session) Finished() (bool, *Problem) {
	if s.Problem != nil {
		return true, s.Problem
	}
	return !s.Initiator || !s.Contacted || s.peerDone(), nil
}

// Close ends this side. The event is to go out where ok is true; where the last event of this step is Data of this session,
// the caller marks it Final instead and calls CloseWithData.
func (s *Session) Close() (e flow.SessionEvent, ok bool) {
	if !s.mustClose() {
		s.Closed = true
		return e, false
	}
	s.Closed = true
	s.Sent++
	return s.out(flow.SessionEvent{Kind: flow.Close, Sequence: s.Sent}), true
}

// CloseWithData ends this side with an event that is on its way out, if it is to be ended at all.
func (s *Session) CloseWithData(e *flow.SessionEvent) {
	e.Final = s.mustClose()
	s.Closed = true
}

// mustClose says whether the peer waits to be told. An initiator whose peer is done already tells it nothing.
func (s *Session) mustClose() bool {
	return s.Contacted && !s.Closed && s.Problem == nil && !(s.Initiator && s.peerDone())
}

// Fail ends the session on this side alone.
func (s *Session) Fail(p Problem) {
	if s.Problem == nil {
		p.Reason = clip(p.Reason)
		s.Problem = &p
	}
}

// Abort ends the session because the flow failed. The event tells the peer, if it does not know already.
func (s *Session) Abort(code, text string) (e flow.SessionEvent, ok bool) {
	live := s.mustClose()
	s.Fail(Problem{code, text})
	return flow.SessionEvent{Kind: flow.Error, Code: clip(code), Message: clip(text)}, live
}

// Unread lists the numbers of the kept messages that no receive has got.
func (s *Session) Unread() (numbers []uint64) {
	for n := s.Read + 1; n <= s.Received; n++ {
		if n != s.Last || !s.LastEmpty {
			numbers = append(numbers, n)
		}
	}
	for _, n := range s.Early {
		if n != s.Last || !s.LastEmpty {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// clip bounds a text and keeps it valid: a record that holds it must decode.
func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxText)], "?")
}
