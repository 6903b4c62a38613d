package flow

import (
	"encoding/json"
	"fmt"

	"github.com/hawser-project/hawser/sdk/internal/engine"
	"github.com/hawser-project/hawser/sdk/internal/frame"
)

// Session is a conversation with one peer's flow. Messages arrive once and in order.
type Session struct {
	ctx      *Ctx
	number   uint64
	peer     string
	protocol string
	version  int
	closed   bool
}

// Counterparty is the peer's X.500 name. In a responder it is authenticated: the peer is who it says.
func (s *Session) Counterparty() string { return s.peer }

// Protocol is the name of the protocol that the session speaks.
func (s *Session) Protocol() string { return s.protocol }

// Version is the protocol's version that was agreed on; 0 on the initiating side.
func (s *Session) Version() int { return s.version }

// Send sends a value. It does not wait: it goes out when the flow next waits or ends, together with everything else
// that the flow did since it last waited, or not at all. An error of the session shows at the next Receive or Close.
func (s *Session) Send(v any) error {
	p, err := s.payload(v)
	if err != nil {
		return err
	}
	s.emit(frame.SendData, p)
	return nil
}

// Receive waits for the peer's next message and decodes it into v.
func (s *Session) Receive(v any) error {
	if s.closed {
		return s.closedError()
	}
	return s.await(s.emit(frame.ReceiveData, nil), v)
}

// SendReceive sends one value and waits for the peer's next message.
func (s *Session) SendReceive(send, receive any) error {
	if err := s.Send(send); err != nil {
		return err
	}
	return s.Receive(receive)
}

// Close ends the session. The initiator waits until the peer is done with it; a responder does not wait. Sessions
// that a flow leaves open are closed when it ends, so Close is for those who want to know of an error.
func (s *Session) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	_, err := s.ctx.task.Wait(s.emit(frame.CloseSession, nil))
	return public(err)
}

func (s *Session) payload(v any) ([]byte, error) {
	if s.closed {
		return nil, s.closedError()
	}
	p, err := encode(v)
	if err != nil {
		return nil, fmt.Errorf("send to %s: %w", s.peer, err)
	}
	return p, nil
}

func (s *Session) emit(op frame.Op, payload []byte) uint64 {
	body := frame.Send{Session: s.number, Payload: payload}
	return s.ctx.task.Emit(op, body.Append(make([]byte, 0, len(payload)+24)))
}

func (s *Session) await(id uint64, v any) error {
	p, err := s.ctx.task.Wait(id)
	if err != nil {
		return fmt.Errorf("receive from %s: %w", s.peer, public(err))
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(p, v); err != nil {
		return fmt.Errorf("receive from %s: %w", s.peer, &Error{Code: CodeBadMessage, Message: err.Error()})
	}
	return nil
}

func (s *Session) closedError() error {
	return &Error{Code: CodeClosed, Message: "the session with " + s.peer + " was closed by this flow"}
}

var _ engine.Coded = (*Error)(nil)
