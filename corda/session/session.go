package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/hawser-project/hawser/corda/p2p"
)

// A Session seals messages to a peer and opens those that come from it. It is safe for concurrent use.
type Session struct {
	state         State
	send, receive *sealer // nil in mode AUTHENTICATION_ONLY
}

// A State is a session with its keys, for storing. Seal it before storing it. As text or JSON it does not show the
// keys and cannot be read back.
type State struct {
	SessionID      string           `cbor:"1,keyasint"`
	Mode           p2p.ProtocolMode `cbor:"2,keyasint"`
	MaxMessageSize int32            `cbor:"3,keyasint"`
	SendKey        Secret           `cbor:"4,keyasint"`
	SendIV         Secret           `cbor:"5,keyasint"`
	ReceiveKey     Secret           `cbor:"6,keyasint"`
	ReceiveIV      Secret           `cbor:"7,keyasint"`
}

// Restore returns the session of a State.
func Restore(state State) (*Session, error) {
	s := &Session{state: state}
	if err := checkSessionID(state.SessionID); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	send, err := newSealer(state.SendKey, state.SendIV)
	if err != nil {
		return nil, err
	}
	receive, err := newSealer(state.ReceiveKey, state.ReceiveIV)
	if err != nil {
		return nil, err
	}
	switch state.Mode {
	case p2p.AuthenticatedEncryption:
		s.send, s.receive = send, receive
	case p2p.AuthenticationOnly: // the keys are MAC keys then
	default:
		return nil, fmt.Errorf("%w: %v", ErrConfig, state.Mode)
	}
	return s, nil
}

// State returns the session's keys with the rest, for Restore. It is the only way to see them.
func (s *Session) State() State { return s.state }

// String returns the session's id.
func (s *Session) String() string { return s.state.SessionID }

// GoString returns the session's id, so that no verb prints keys.
func (s *Session) GoString() string { return s.state.SessionID }

// ID returns the session's id.
func (s *Session) ID() string { return s.state.SessionID }

// Mode returns the agreed mode.
func (s *Session) Mode() p2p.ProtocolMode { return s.state.Mode }

// MaxMessageSize returns the agreed size of the largest plaintext, header and key of the message included.
func (s *Session) MaxMessageSize() int { return int(s.state.MaxMessageSize) }

// Seal returns the message that carries a plaintext, a *p2p.EncryptedData or *p2p.AuthenticatedData. The timestamp is in
// epoch milliseconds.
//
// The sequence number makes the nonce. Two different plaintexts must never be sealed under one number by the same side
// of a session: whoever sees both messages would learn the plaintexts' difference and could forge messages. Octets that
// are equal throughout, timestamp included, may be made twice.
func (s *Session) Seal(sequenceNo, timestamp int64, plaintext []byte) (p2p.Payload, error) {
	if len(plaintext) > s.MaxMessageSize() {
		return nil, fmt.Errorf("%w: %d octets, at most %d", ErrTooLarge, len(plaintext), s.MaxMessageSize())
	}
	header := p2p.Header{Type: p2p.TypeData, Version: p2p.ProtocolVersion, SessionID: s.state.SessionID,
		SequenceNo: sequenceNo, Timestamp: timestamp}
	if s.send == nil {
		m := &p2p.AuthenticatedData{Header: header, Payload: plaintext}
		m.AuthTag = authenticate(s.state.SendKey, m)
		return m, nil
	}
	m := p2p.NewEncryptedData(header, nil, nil)
	m.Ciphertext, m.AuthTag = s.send.seal(&m.Header, sequenceNo, plaintext)
	return m, nil
}

// Open returns the plaintext of a message, which is part of the message in mode AUTHENTICATION_ONLY. A message that
// has come before opens again: see ReplayWindow.
func (s *Session) Open(payload p2p.Payload) ([]byte, error) {
	switch m := payload.(type) {
	case *p2p.EncryptedData:
		if s.receive == nil {
			return nil, fmt.Errorf("%w: encrypted", ErrMode)
		}
		if err := checkHeader(&m.Header, p2p.TypeData, s.state.SessionID); err != nil {
			return nil, err
		}
		return s.receive.open(&m.Header, m.Header.SequenceNo, m.Ciphertext, m.AuthTag, s.MaxMessageSize())
	case *p2p.AuthenticatedData:
		return s.openClear(m)
	}
	return nil, fmt.Errorf("%w: no data message", ErrMode)
}

func (s *Session) openClear(m *p2p.AuthenticatedData) ([]byte, error) {
	if s.receive != nil {
		return nil, fmt.Errorf("%w: not encrypted", ErrMode)
	}
	if err := checkHeader(&m.Header, p2p.TypeData, s.state.SessionID); err != nil {
		return nil, err
	}
	if len(m.Payload) > s.MaxMessageSize() {
		return nil, fmt.Errorf("%w: %d octets, at most %d", ErrTooLarge, len(m.Payload), s.MaxMessageSize())
	}
	if !hmac.Equal(m.AuthTag, authenticate(s.state.ReceiveKey, m)) {
		return nil, fmt.Errorf("%w: MAC of a message under %s", ErrAuthentication, s.state.SessionID)
	}
	return m.Payload, nil
}

// authenticate returns the MAC over header and payload.
func authenticate(key []byte, m *p2p.AuthenticatedData) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(m.Header.AppendObject(make([]byte, 0, headerRoom+len(m.Header.SessionID))))
	mac.Write(m.Payload)
	return mac.Sum(nil)
}
