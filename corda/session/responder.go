package session

import (
	"crypto/ecdh"
	"crypto/hmac"
	"fmt"
	"slices"
	"time"

	"github.com/hawser-project/hawser/corda/avro"
	"github.com/hawser-project/hawser/corda/p2p"
)

// A Responder is the responder's side of one handshake. See the package comment for its states.
type Responder struct {
	ephemeral *ecdh.PrivateKey // nil once restored: it has been used
	step      Step
	state     ResponderState

	// Set by OnInitiatorHandshake.
	keys      handshakeKeys
	initiator []byte // plaintext of the initiator's handshake message, as it came
	payload   p2p.ResponderHandshakePayload
}

// A ResponderState is a handshake that waits for the initiator's handshake message. It holds the secret from which
// all keys of the session follow: seal it before storing it.
type ResponderState struct {
	SessionID string  `cbor:"1,keyasint"`
	GroupID   string  `cbor:"2,keyasint"`
	KeyHash   KeyHash `cbor:"3,keyasint"` // of the initiator's session key
	Shared    Secret  `cbor:"4,keyasint"` // X25519 result
	Hellos    []byte  `cbor:"5,keyasint"` // transcript: both hellos
}

// NewResponder returns a Responder at New. The key is a fresh X25519 key, used once.
func NewResponder(ephemeral *ecdh.PrivateKey) (*Responder, error) {
	if err := checkEphemeral(ephemeral); err != nil {
		return nil, err
	}
	return &Responder{ephemeral: ephemeral}, nil
}

// RestoreResponder returns a Responder at HelloSent.
func RestoreResponder(state ResponderState) (*Responder, error) {
	if err := checkSessionID(state.SessionID); err != nil || len(state.Shared) != keyLen || len(state.Hellos) == 0 {
		return nil, fmt.Errorf("%w: stored handshake is not complete", ErrConfig)
	}
	return &Responder{step: HelloSent, state: state}, nil
}

// Step returns where the handshake is.
func (r *Responder) Step() Step { return r.step }

// String returns session and step: a handshake never prints its keys.
func (r *Responder) String() string { return r.state.SessionID + ": " + r.step.String() }

// GoString is String, so that no verb prints keys.
func (r *Responder) GoString() string { return r.String() }

// State returns what RestoreResponder needs, at HelloSent.
func (r *Responder) State() (ResponderState, error) {
	if err := at(r.step, HelloSent); err != nil {
		return ResponderState{}, err
	}
	return r.state, nil
}

// OnInitiatorHello takes the message that opens a handshake. Nothing in it is authenticated; it costs us a key
// agreement, so the caller first sees whether it knows a member of the group with that key hash.
func (r *Responder) OnInitiatorHello(m *p2p.InitiatorHello) error {
	if err := at(r.step, New); err != nil {
		return err
	}
	if err := checkSessionID(m.Header.SessionID); err != nil {
		return err
	}
	if err := checkHeader(&m.Header, p2p.TypeInitiatorHello, m.Header.SessionID); err != nil {
		return err
	}
	keyHash, err := ParseKeyHash(m.KeyHash)
	if err != nil {
		return err
	}
	shared, err := agree(r.ephemeral, m.PublicKey)
	if err != nil {
		return err
	}
	r.state = ResponderState{SessionID: m.Header.SessionID, GroupID: m.GroupID, KeyHash: keyHash, Shared: shared, Hellos: m.AppendObject(nil)}
	r.step = HelloReceived
	return nil
}

// Hello returns the answer.
func (r *Responder) Hello(now time.Time) (*p2p.ResponderHello, error) {
	if err := at(r.step, HelloReceived); err != nil {
		return nil, err
	}
	hello := &p2p.ResponderHello{
		Header:    p2p.Header{Type: p2p.TypeResponderHello, Version: p2p.ProtocolVersion, SessionID: r.state.SessionID, Timestamp: now.UnixMilli()},
		PublicKey: appendEphemeral(nil, r.ephemeral.PublicKey()),
	}
	r.state.Hellos = hello.AppendObject(r.state.Hellos)
	r.ephemeral = nil
	r.step = HelloSent
	return hello, nil
}

// Terms are what the responder's side of a session allows.
type Terms struct {
	MaxMessageSize int32 // largest plaintext, at least MinMessageSize
	Modes          []p2p.ProtocolMode
	PKI            PKI // NoPKI or empty
}

// A Proposal is what an authenticated initiator asked for, as agreed.
type Proposal struct {
	ResponderKeyHash KeyHash // names the identity that is spoken to, and the key that must sign
	GroupID          string
	MaxMessageSize   int32
	Mode             p2p.ProtocolMode
}

// OnInitiatorHandshake takes the message that proves the initiator, whose session key is peer, and returns what was
// agreed and what our session key must sign. The caller signs only if the proposal names an identity of its own.
func (r *Responder) OnInitiatorHandshake(m *p2p.InitiatorHandshake, peer PublicKey, terms Terms) (Proposal, []byte, error) {
	if err := at(r.step, HelloSent); err != nil {
		return Proposal{}, nil, err
	}
	if err := checkTerms(terms.MaxMessageSize, terms.Modes, terms.PKI); err != nil {
		return Proposal{}, nil, err
	}
	if err := checkHeader(&m.Header, p2p.TypeInitiatorHandshake, r.state.SessionID); err != nil {
		return Proposal{}, nil, err
	}
	keys, err := deriveHandshake(r.state.Shared, r.state.Hellos)
	if err != nil {
		return Proposal{}, nil, err
	}
	plaintext, err := keys.initiator.open(&m.Header, 0, m.Ciphertext, m.AuthTag, avro.MaxField)
	if err != nil {
		return Proposal{}, nil, err
	}
	payload, err := p2p.DecodeInitiatorHandshakePayload(plaintext)
	if err != nil {
		return Proposal{}, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := r.authenticate(payload, peer, keys.initiatorMAC); err != nil {
		return Proposal{}, nil, err
	}
	proposal, err := agreeOn(payload, terms)
	if err != nil {
		return Proposal{}, nil, err
	}
	r.keys, r.initiator = keys, plaintext
	r.payload = p2p.ResponderHandshakePayload{
		MaxMessageSize: proposal.MaxMessageSize,
		SelectedMode:   proposal.Mode,
		KeyHash:        proposal.ResponderKeyHash[:],
	}
	r.step = Signing
	return proposal, toSign(responderSignaturePrefix, r.state.Hellos, r.initiator, r.payload.AppendObject(nil)), nil
}

// authenticate checks signature and MAC over the payload as we encode it: a sender that signed another encoding of the
// same values is refused, as by Corda (spec/p2p-wire.md 1.1). Group and key must also be those of the hello, which
// Corda does not check (8.4).
func (r *Responder) authenticate(payload *p2p.InitiatorHandshakePayload, peer PublicKey, macKey []byte) error {
	unsigned := *payload
	unsigned.PartyVerify, unsigned.Finished = nil, nil
	if err := peer.Verify(toSign(initiatorSignaturePrefix, r.state.Hellos, unsigned.AppendObject(nil)), payload.PartyVerify); err != nil {
		return err
	}
	unsigned.PartyVerify = payload.PartyVerify
	if !hmac.Equal(payload.Finished, finished(macKey, r.state.Hellos, unsigned.AppendObject(nil))) {
		return fmt.Errorf("%w: initiator's MAC", ErrAuthentication)
	}
	if peer.hash != r.state.KeyHash || string(payload.KeyHash) != string(r.state.KeyHash[:]) {
		return fmt.Errorf("%w: key is not that of the hello", ErrAuthentication)
	}
	if payload.GroupID != r.state.GroupID {
		return fmt.Errorf("%w: group is not that of the hello", ErrAuthentication)
	}
	return nil
}

// agreeOn takes the smaller message size and, of the common modes, encryption if it is one.
func agreeOn(payload *p2p.InitiatorHandshakePayload, terms Terms) (Proposal, error) {
	keyHash, err := ParseKeyHash(payload.ResponderKeyHash)
	if err != nil {
		return Proposal{}, err
	}
	if payload.MaxMessageSize < MinMessageSize {
		return Proposal{}, fmt.Errorf("%w: largest message of %d octets, at least %d", ErrNegotiation, payload.MaxMessageSize, MinMessageSize)
	}
	proposal := Proposal{ResponderKeyHash: keyHash, GroupID: payload.GroupID, MaxMessageSize: min(payload.MaxMessageSize, terms.MaxMessageSize)}
	for _, mode := range []p2p.ProtocolMode{p2p.AuthenticatedEncryption, p2p.AuthenticationOnly} {
		if slices.Contains(payload.SupportedModes, mode) && slices.Contains(terms.Modes, mode) {
			proposal.Mode = mode
			return proposal, nil
		}
	}
	return Proposal{}, fmt.Errorf("%w: initiator's modes %v, ours %v", ErrNegotiation, payload.SupportedModes, terms.Modes)
}

// Handshake takes our signature and returns the message that proves us, and the session.
func (r *Responder) Handshake(signature []byte, now time.Time) (*p2p.ResponderHandshake, *Session, error) {
	if err := at(r.step, Signing); err != nil {
		return nil, nil, err
	}
	r.payload.PartyVerify = slices.Clone(signature)
	r.payload.Finished = finished(r.keys.responderMAC, r.state.Hellos, r.initiator, r.payload.AppendObject(nil))
	plaintext := r.payload.AppendObject(nil)
	keys, err := deriveSession(r.state.Shared, r.state.Hellos, r.initiator, plaintext)
	if err != nil {
		return nil, nil, err
	}
	session, err := Restore(State{
		SessionID: r.state.SessionID, Mode: r.payload.SelectedMode, MaxMessageSize: r.payload.MaxMessageSize,
		SendKey: keys.responderKey, SendIV: keys.responderIV, ReceiveKey: keys.initiatorKey, ReceiveIV: keys.initiatorIV,
	})
	if err != nil {
		return nil, nil, err
	}
	header := p2p.Header{Type: p2p.TypeResponderHandshake, Version: p2p.ProtocolVersion, SessionID: r.state.SessionID,
		SequenceNo: 1, Timestamp: now.UnixMilli()}
	ciphertext, authTag := r.keys.responder.seal(&header, 0, plaintext)
	r.step = Established
	return p2p.NewResponderHandshake(header, ciphertext, authTag), session, nil
}
