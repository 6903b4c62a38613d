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

// An InitiatorConfig says who opens a session with whom.
type InitiatorConfig struct {
	SessionID        string  // a fresh UUID in lower case
	GroupID          string  // of both members
	KeyHash          KeyHash // of our session key, which will sign
	ResponderKeyHash KeyHash // of the first session key in the responder's member record
	MaxMessageSize   int32   // largest plaintext, at least MinMessageSize
	Modes            []p2p.ProtocolMode
	PKI              PKI              // NoPKI or empty
	Ephemeral        *ecdh.PrivateKey // X25519, fresh, used once
}

func (c *InitiatorConfig) check() error {
	if err := checkSessionID(c.SessionID); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := checkTerms(c.MaxMessageSize, c.Modes, c.PKI); err != nil {
		return err
	}
	return checkEphemeral(c.Ephemeral)
}

func checkTerms(size int32, modes []p2p.ProtocolMode, pki PKI) error {
	if size < MinMessageSize || size > avro.MaxField {
		return fmt.Errorf("%w: largest message of %d octets", ErrConfig, size)
	}
	if len(modes) == 0 {
		return fmt.Errorf("%w: no protocol mode", ErrConfig)
	}
	return pki.check()
}

// maxSessionID bounds the ids that we store for peers. Corda's are UUIDs of 36 octets.
const maxSessionID = 64

func checkSessionID(id string) error {
	if id == "" || len(id) > maxSessionID {
		return fmt.Errorf("%w: session id of %d octets", ErrMalformed, len(id))
	}
	return nil
}

// checkHeader refuses what Corda lets pass: a header that belongs to another message (spec/p2p-wire.md 8.4).
func checkHeader(h *p2p.Header, want p2p.MessageType, sessionID string) error {
	if h.Type != want || h.Version != p2p.ProtocolVersion || h.SessionID != sessionID {
		return fmt.Errorf("%w: header of type %d, version %d, session %q", ErrMalformed, h.Type, h.Version, h.SessionID)
	}
	return nil
}

// An Initiator is the initiator's side of one handshake. See the package comment for its states.
type Initiator struct {
	config InitiatorConfig
	step   Step
	hello  p2p.InitiatorHello

	// Set by OnResponderHello.
	shared  []byte // X25519 result
	hellos  []byte // transcript: both hellos
	keys    handshakeKeys
	payload p2p.InitiatorHandshakePayload

	plaintext []byte // of our handshake message; set by Handshake
}

// NewInitiator returns an Initiator at New.
func NewInitiator(config InitiatorConfig) (*Initiator, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	config.Modes = slices.Clone(config.Modes)
	return &Initiator{config: config}, nil
}

// Step returns where the handshake is.
func (i *Initiator) Step() Step { return i.step }

// String returns session and step: a handshake never prints its keys.
func (i *Initiator) String() string { return i.config.SessionID + ": " + i.step.String() }

// GoString is String, so that no verb prints keys.
func (i *Initiator) GoString() string { return i.String() }

// Hello returns the message that opens the handshake.
func (i *Initiator) Hello(now time.Time) (*p2p.InitiatorHello, error) {
	if err := at(i.step, New); err != nil {
		return nil, err
	}
	i.hello = p2p.InitiatorHello{
		Header:    p2p.Header{Type: p2p.TypeInitiatorHello, Version: p2p.ProtocolVersion, SessionID: i.config.SessionID, Timestamp: now.UnixMilli()},
		PublicKey: appendEphemeral(nil, i.config.Ephemeral.PublicKey()),
		KeyHash:   i.config.KeyHash[:],
		GroupID:   i.config.GroupID,
	}
	i.step = HelloSent
	hello := i.hello
	return &hello, nil
}

// OnResponderHello takes the answer and returns what our session key must sign. The answer is not authenticated yet.
func (i *Initiator) OnResponderHello(m *p2p.ResponderHello) (tbs []byte, err error) {
	if err := at(i.step, HelloSent); err != nil {
		return nil, err
	}
	if err := checkHeader(&m.Header, p2p.TypeResponderHello, i.config.SessionID); err != nil {
		return nil, err
	}
	shared, err := agree(i.config.Ephemeral, m.PublicKey)
	if err != nil {
		return nil, err
	}
	hellos := m.AppendObject(i.hello.AppendObject(nil))
	keys, err := deriveHandshake(shared, hellos)
	if err != nil {
		return nil, err
	}
	i.shared, i.hellos, i.keys = shared, hellos, keys
	i.payload = p2p.InitiatorHandshakePayload{
		ResponderKeyHash: i.config.ResponderKeyHash[:],
		GroupID:          i.config.GroupID,
		MaxMessageSize:   i.config.MaxMessageSize,
		SupportedModes:   i.config.Modes,
		KeyHash:          i.config.KeyHash[:],
	}
	i.step = Signing
	return toSign(initiatorSignaturePrefix, hellos, i.payload.AppendObject(nil)), nil
}

// Handshake takes our signature and returns the message that proves us.
func (i *Initiator) Handshake(signature []byte, now time.Time) (*p2p.InitiatorHandshake, error) {
	if err := at(i.step, Signing); err != nil {
		return nil, err
	}
	i.payload.PartyVerify = slices.Clone(signature)
	i.payload.Finished = finished(i.keys.initiatorMAC, i.hellos, i.payload.AppendObject(nil))
	i.plaintext = i.payload.AppendObject(nil)
	header := p2p.Header{Type: p2p.TypeInitiatorHandshake, Version: p2p.ProtocolVersion, SessionID: i.config.SessionID,
		SequenceNo: 1, Timestamp: now.UnixMilli()}
	ciphertext, authTag := i.keys.initiator.seal(&header, 0, i.plaintext)
	i.step = HandshakeSent
	return p2p.NewInitiatorHandshake(header, ciphertext, authTag), nil
}

// OnResponderHandshake takes the message that proves the responder, and returns the session. The responder may answer
// under any of its session keys; peerKeys are those in its member record that we can use.
func (i *Initiator) OnResponderHandshake(m *p2p.ResponderHandshake, peerKeys []PublicKey) (*Session, error) {
	if err := at(i.step, HandshakeSent); err != nil {
		return nil, err
	}
	if err := checkHeader(&m.Header, p2p.TypeResponderHandshake, i.config.SessionID); err != nil {
		return nil, err
	}
	plaintext, err := i.keys.responder.open(&m.Header, 0, m.Ciphertext, m.AuthTag, avro.MaxField)
	if err != nil {
		return nil, err
	}
	payload, err := p2p.DecodeResponderHandshakePayload(plaintext)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := i.authenticate(payload, peerKeys); err != nil {
		return nil, err
	}
	if payload.MaxMessageSize < MinMessageSize || payload.MaxMessageSize > i.config.MaxMessageSize {
		return nil, fmt.Errorf("%w: largest message of %d octets, we proposed %d", ErrNegotiation, payload.MaxMessageSize, i.config.MaxMessageSize)
	}
	if !slices.Contains(i.config.Modes, payload.SelectedMode) {
		return nil, fmt.Errorf("%w: mode %v was not proposed", ErrNegotiation, payload.SelectedMode)
	}
	return i.establish(payload, plaintext)
}

// authenticate checks signature and MAC over the payload as we encode it, which is how Corda checks ours.
func (i *Initiator) authenticate(payload *p2p.ResponderHandshakePayload, peerKeys []PublicKey) error {
	n := slices.IndexFunc(peerKeys, func(k PublicKey) bool { return string(k.hash[:]) == string(payload.KeyHash) })
	if n < 0 {
		return fmt.Errorf("%w: key %x is none of the responder's", ErrAuthentication, payload.KeyHash[:min(len(payload.KeyHash), len(KeyHash{}))])
	}
	unsigned := *payload
	unsigned.PartyVerify, unsigned.Finished = nil, nil
	err := peerKeys[n].Verify(toSign(responderSignaturePrefix, i.hellos, i.plaintext, unsigned.AppendObject(nil)), payload.PartyVerify)
	if err != nil {
		return err
	}
	unsigned.PartyVerify = payload.PartyVerify
	if !hmac.Equal(payload.Finished, finished(i.keys.responderMAC, i.hellos, i.plaintext, unsigned.AppendObject(nil))) {
		return fmt.Errorf("%w: responder's MAC", ErrAuthentication)
	}
	return nil
}

func (i *Initiator) establish(payload *p2p.ResponderHandshakePayload, plaintext []byte) (*Session, error) {
	keys, err := deriveSession(i.shared, i.hellos, i.plaintext, plaintext)
	if err != nil {
		return nil, err
	}
	session, err := Restore(State{
		SessionID: i.config.SessionID, Mode: payload.SelectedMode, MaxMessageSize: payload.MaxMessageSize,
		SendKey: keys.initiatorKey, SendIV: keys.initiatorIV, ReceiveKey: keys.responderKey, ReceiveIV: keys.responderIV,
	})
	if err != nil {
		return nil, err
	}
	i.step = Established
	return session, nil
}
