package session

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/corda/p2p"
	"github.com/hawser-project/hawser/test/interop"
)

const (
	sessionID = "11111111-2222-3333-4444-555555555555"
	groupID   = "0e9f5d7a-3c1b-4b8e-9a55-0d6d4c2b1a00"
	start     = 1700000000000
)

func after(ms int64) time.Time { return time.UnixMilli(start + ms) }

var encryption = []p2p.ProtocolMode{p2p.AuthenticatedEncryption}

// A member has a session key that signs.
type member struct {
	signer crypto.Signer
	public PublicKey
}

func newMember(t testing.TB, signer crypto.Signer) member {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(signer.Public())
	must(t, err)
	public, err := ParsePublicKey(spki)
	must(t, err)
	return member{signer, public}
}

func (m member) sign(t testing.TB, message []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(message)
	signature, err := m.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	must(t, err)
	return signature
}

var aliceAndBob = sync.OnceValues(func() (alice, bob *ecdsa.PrivateKey) {
	alice, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	bob, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return alice, bob
})

func members(t testing.TB) (alice, bob member) {
	a, b := aliceAndBob()
	return newMember(t, a), newMember(t, b)
}

func x25519(t testing.TB, private []byte) *ecdh.PrivateKey {
	t.Helper()
	key, err := ecdh.X25519().NewPrivateKey(private)
	must(t, err)
	return key
}

// A handshake is both sides of one, with what a test may want to change between the steps.
type handshake struct {
	alice, bob member
	config     InitiatorConfig
	terms      Terms
	initiator  *Initiator
	responder  *Responder
}

// setup makes a handshake of the keys in the vectors, so that its secrets are known.
func setup(t testing.TB, alice, bob member, modes []p2p.ProtocolMode) *handshake {
	t.Helper()
	vectors := interop.LinkSession(t)
	h := &handshake{alice: alice, bob: bob, terms: Terms{MaxMessageSize: 1000000, Modes: modes}}
	h.config = InitiatorConfig{
		SessionID: sessionID, GroupID: groupID, KeyHash: alice.public.Hash(), ResponderKeyHash: bob.public.Hash(),
		MaxMessageSize: 1000000, Modes: modes, Ephemeral: x25519(t, vectors.Get(t, "initiator.ephemeral.private")),
	}
	var err error
	h.initiator, err = NewInitiator(h.config)
	must(t, err)
	h.responder, err = NewResponder(x25519(t, vectors.Get(t, "responder.ephemeral.private")))
	must(t, err)
	return h
}

// hellos exchanges the first two messages and returns what the initiator must sign.
func (h *handshake) hellos(t testing.TB) []byte {
	t.Helper()
	hello, err := h.initiator.Hello(after(0))
	must(t, err)
	must(t, h.responder.OnInitiatorHello(hello))
	answer, err := h.responder.Hello(after(1))
	must(t, err)
	tbs, err := h.initiator.OnResponderHello(answer)
	must(t, err)
	return tbs
}

// proven runs up to the initiator's handshake message.
func (h *handshake) proven(t testing.TB) *p2p.InitiatorHandshake {
	t.Helper()
	message, err := h.initiator.Handshake(h.alice.sign(t, h.hellos(t)), after(2))
	must(t, err)
	return message
}

// answered runs up to the responder's handshake message.
func (h *handshake) answered(t testing.TB) (*p2p.ResponderHandshake, *Session) {
	t.Helper()
	_, tbs, err := h.responder.OnInitiatorHandshake(h.proven(t), h.alice.public, h.terms)
	must(t, err)
	message, session, err := h.responder.Handshake(h.bob.sign(t, tbs), after(3))
	must(t, err)
	return message, session
}

// established runs the whole handshake.
func (h *handshake) established(t testing.TB) (initiator, responder *Session) {
	t.Helper()
	message, responder := h.answered(t)
	initiator, err := h.initiator.OnResponderHandshake(message, []PublicKey{h.alice.public, h.bob.public})
	must(t, err)
	return initiator, responder
}

func sessions(t testing.TB, mode p2p.ProtocolMode) (initiator, responder *Session) {
	t.Helper()
	alice, bob := members(t)
	return setup(t, alice, bob, []p2p.ProtocolMode{mode}).established(t)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
