// Package session is Corda's authentication protocol, version 1, and the link sessions that it makes: sealing and
// opening messages between two members, end to end (spec/p2p-wire.md 3). It is a TLS-like exchange of two round trips.
//
// The package is pure. Ephemeral keys and time come in as arguments; messages go out as values; private keys of
// members are elsewhere, so a handshake hands out octets to be signed and takes the signature back. Whom to talk to,
// which keys a member has, what is stored and what is sent again are the link manager's business.
//
// The initiator, who has data to send:
//
//	New --Hello--> HelloSent --OnResponderHello--> Signing --Handshake--> HandshakeSent --OnResponderHandshake--> Established
//
// The responder:
//
//	New --OnInitiatorHello--> HelloReceived --Hello--> HelloSent --OnInitiatorHandshake--> Signing --Handshake--> Established
//
// An event in another state is a *StepError. Any error leaves the state as it was: a forged message cannot use up the
// place of the genuine one. To answer a repeated message the caller sends again what it sent before. It must never
// build a second handshake message from one state, since both would be encrypted under the same key and nonce:
// whoever stores a ResponderState must store the message that was built from it before sending it.
//
// A responder that has sent its hello can be stored (ResponderState), as can a session (State). An initiator cannot:
// an outbound session lives and ends with its link manager.
//
// A session carries data from initiator to responder and acknowledgements back; each side seals under its own key.
package session

import (
	"errors"
	"fmt"
)

var (
	// ErrAuthentication means that a message is not from whom it claims to be: tag, signature, MAC or key is wrong.
	ErrAuthentication = errors.New("session: authentication failed")
	// ErrMalformed means that a message does not have the form it must have.
	ErrMalformed = errors.New("session: malformed message")
	// ErrNegotiation means that an authentic peer and we cannot agree on mode or message size.
	ErrNegotiation = errors.New("session: no agreement")
	// ErrMode means that a data message is of the other protocol mode.
	ErrMode = errors.New("session: message does not fit the protocol mode")
	// ErrTooLarge means that a message is larger than was agreed.
	ErrTooLarge = errors.New("session: message is larger than agreed")
	// ErrUnsupported means that a key type or certificate mode is not supported.
	ErrUnsupported = errors.New("session: not supported")
	// ErrConfig means that the arguments of a constructor are wrong.
	ErrConfig = errors.New("session: wrong configuration")
)

// A Step is a state of a handshake.
type Step int

// The steps of both machines.
const (
	New Step = iota
	HelloReceived
	HelloSent
	Signing
	HandshakeSent
	Established
)

var stepNames = [...]string{"new", "hello received", "hello sent", "signing", "handshake sent", "established"}

// String returns the step in words.
func (s Step) String() string {
	if s < 0 || int(s) >= len(stepNames) {
		return "unknown step"
	}
	return stepNames[s]
}

// A StepError says that an event came in a state that has no place for it.
type StepError struct{ Have, Want Step }

// Error says which state the handshake is in.
func (e *StepError) Error() string {
	return fmt.Sprintf("session: handshake is at %q, must be at %q", e.Have, e.Want)
}

func at(have, want Step) error {
	if have != want {
		return &StepError{Have: have, Want: want}
	}
	return nil
}

// A Secret is key material. It prints as "[secret]"; only a conversion to []byte shows it.
type Secret []byte

const hidden = "[secret]"

// String returns "[secret]".
func (Secret) String() string { return hidden }

// GoString returns "[secret]".
func (Secret) GoString() string { return hidden }

// MarshalText returns "[secret]", so that no log or JSON document holds a key.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// A PKI is a group's sessionPki: what is asked of session certificates.
type PKI string

// NoPKI asks for no certificates and ignores those that come. Standard is not supported yet by this package;
// StandardEV3 and Corda4 are not by Corda either.
const NoPKI PKI = "NoPKI"

func (p PKI) check() error {
	if p != "" && p != NoPKI {
		return fmt.Errorf("%w: session certificates of mode %q", ErrUnsupported, string(p))
	}
	return nil
}
