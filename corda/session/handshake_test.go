package session

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/corda/avro"
	"github.com/hawser-project/hawser/corda/p2p"
)

func TestHandshakeWorksForEveryKeyTypeAndMode(t *testing.T) {
	t.Parallel()
	_, bob := members(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	signers := []crypto.Signer{rsaKey}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		must(t, err)
		signers = append(signers, key)
	}
	for _, signer := range signers {
		for _, mode := range []p2p.ProtocolMode{p2p.AuthenticationOnly, p2p.AuthenticatedEncryption} {
			h := setup(t, newMember(t, signer), bob, []p2p.ProtocolMode{mode})
			initiator, responder := h.established(t)
			if initiator.Mode() != mode || h.initiator.Step() != Established || h.responder.Step() != Established {
				t.Errorf("%T: got mode %v, steps %v and %v", signer, initiator.Mode(), h.initiator.Step(), h.responder.Step())
			}
			exchange(t, initiator, responder)
			exchange(t, responder, initiator)
		}
	}
}

func exchange(t *testing.T, from, to *Session) {
	t.Helper()
	message, err := from.Seal(-7, start, []byte("hello"))
	must(t, err)
	if got, err := to.Open(message); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := from.Open(message); !errors.Is(err, ErrAuthentication) {
		t.Errorf("sender opens its own message: got %v, want ErrAuthentication", err)
	}
}

func TestResponderRefusesBadHellos(t *testing.T) {
	t.Parallel()
	alice, bob := members(t)
	for _, test := range []struct {
		about  string
		change func(*p2p.InitiatorHello)
	}{
		{"hash of 31 octets", func(m *p2p.InitiatorHello) { m.KeyHash = m.KeyHash[:31] }},
		{"hash of 33 octets", func(m *p2p.InitiatorHello) { m.KeyHash = append(bytes.Clone(m.KeyHash), 0) }},
		{"key of 31 octets", func(m *p2p.InitiatorHello) { m.PublicKey = m.PublicKey[:43] }},
		{"key that is no SPKI", func(m *p2p.InitiatorHello) { m.PublicKey = m.PublicKey[12:] }},
		{"zero key", func(m *p2p.InitiatorHello) { m.PublicKey = append(bytes.Clone(ephemeralPrefix), make([]byte, 32)...) }},
		{"other message type", func(m *p2p.InitiatorHello) { m.Header.Type = p2p.TypeData }},
		{"other version", func(m *p2p.InitiatorHello) { m.Header.Version = 2 }},
		{"no session id", func(m *p2p.InitiatorHello) { m.Header.SessionID = "" }},
		{"endless session id", func(m *p2p.InitiatorHello) { m.Header.SessionID = strings.Repeat("x", 65) }},
	} {
		h := setup(t, alice, bob, encryption)
		hello, err := h.initiator.Hello(after(0))
		must(t, err)
		bad := *hello
		test.change(&bad)
		if err := h.responder.OnInitiatorHello(&bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", test.about, err)
		}
		if err := h.responder.OnInitiatorHello(hello); err != nil {
			t.Errorf("%s: the good hello after the bad one: %v", test.about, err)
		}
	}
}

func TestInitiatorRefusesBadHellos(t *testing.T) {
	t.Parallel()
	alice, bob := members(t)
	for _, test := range []struct {
		about  string
		change func(*p2p.ResponderHello)
	}{
		{"other session", func(m *p2p.ResponderHello) { m.Header.SessionID = "other" }},
		{"other message type", func(m *p2p.ResponderHello) { m.Header.Type = p2p.TypeInitiatorHello }},
		{"zero key", func(m *p2p.ResponderHello) { m.PublicKey = append(bytes.Clone(ephemeralPrefix), make([]byte, 32)...) }},
		{"no key", func(m *p2p.ResponderHello) { m.PublicKey = nil }},
	} {
		h := setup(t, alice, bob, encryption)
		hello, err := h.initiator.Hello(after(0))
		must(t, err)
		must(t, h.responder.OnInitiatorHello(hello))
		good, err := h.responder.Hello(after(1))
		must(t, err)
		bad := *good
		test.change(&bad)
		if _, err := h.initiator.OnResponderHello(&bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", test.about, err)
		}
		if _, err := h.initiator.OnResponderHello(good); err != nil {
			t.Errorf("%s: the good hello after the bad one: %v", test.about, err)
		}
	}
}

// forge encrypts a changed payload as the initiator would. If sign is set it is signed and authenticated after the change.
func (h *handshake) forge(t *testing.T, sign bool, change func(*p2p.InitiatorHandshakePayload)) *p2p.InitiatorHandshake {
	t.Helper()
	h.proven(t)
	i := h.initiator
	if sign {
		i.payload.PartyVerify, i.payload.Finished = nil, nil
		change(&i.payload)
		i.payload.PartyVerify = h.alice.sign(t, toSign(initiatorSignaturePrefix, i.hellos, i.payload.AppendObject(nil)))
		i.payload.Finished = finished(i.keys.initiatorMAC, i.hellos, i.payload.AppendObject(nil))
	} else {
		change(&i.payload)
	}
	return h.reseal(i.payload.AppendObject(nil))
}

func (h *handshake) reseal(plaintext []byte) *p2p.InitiatorHandshake {
	header := p2p.Header{Type: p2p.TypeInitiatorHandshake, Version: 1, SessionID: sessionID, SequenceNo: 1, Timestamp: start}
	ciphertext, authTag := h.initiator.keys.initiator.seal(&header, 0, plaintext)
	h.initiator.plaintext = plaintext
	return p2p.NewInitiatorHandshake(header, ciphertext, authTag)
}

func TestResponderRefusesForgedHandshakes(t *testing.T) {
	t.Parallel()
	alice, bob := members(t)
	for _, test := range []struct {
		about  string
		sign   bool
		change func(*p2p.InitiatorHandshakePayload)
		want   error
	}{
		{"signature with a bit flipped", false, func(p *p2p.InitiatorHandshakePayload) { p.PartyVerify[20] ^= 1 }, ErrAuthentication},
		{"signature that is no DER", false, func(p *p2p.InitiatorHandshakePayload) { p.PartyVerify = []byte("x") }, ErrAuthentication},
		{"no signature", false, func(p *p2p.InitiatorHandshakePayload) { p.PartyVerify = nil }, ErrAuthentication},
		{"MAC with a bit flipped", false, func(p *p2p.InitiatorHandshakePayload) { p.Finished[0] ^= 1 }, ErrAuthentication},
		{"no MAC", false, func(p *p2p.InitiatorHandshakePayload) { p.Finished = nil }, ErrAuthentication},
		{"size changed after signing", false, func(p *p2p.InitiatorHandshakePayload) { p.MaxMessageSize++ }, ErrAuthentication},
		{"group not of the hello", true, func(p *p2p.InitiatorHandshakePayload) { p.GroupID = "other" }, ErrAuthentication},
		{"key hash not of the hello", true, func(p *p2p.InitiatorHandshakePayload) { p.KeyHash = p.ResponderKeyHash }, ErrAuthentication},
		{"responder's hash of 31 octets", true, func(p *p2p.InitiatorHandshakePayload) { p.ResponderKeyHash = p.ResponderKeyHash[:31] }, ErrMalformed},
		{"size of 9999", true, func(p *p2p.InitiatorHandshakePayload) { p.MaxMessageSize = MinMessageSize - 1 }, ErrNegotiation},
		{"negative size", true, func(p *p2p.InitiatorHandshakePayload) { p.MaxMessageSize = -1 }, ErrNegotiation},
		{"no mode", true, func(p *p2p.InitiatorHandshakePayload) { p.SupportedModes = nil }, ErrNegotiation},
		{"no common mode", true, func(p *p2p.InitiatorHandshakePayload) {
			p.SupportedModes = []p2p.ProtocolMode{p2p.AuthenticationOnly}
		}, ErrNegotiation},
		{"certificate, which is ignored", true, func(p *p2p.InitiatorHandshakePayload) { p.Certificate = avro.Some([]string{"x"}) }, nil},
	} {
		h := setup(t, alice, bob, encryption)
		if _, _, err := h.responder.OnInitiatorHandshake(h.forge(t, test.sign, test.change), alice.public, h.terms); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.about, err, test.want)
		} else if test.want != nil && h.responder.Step() != HelloSent {
			t.Errorf("%s: the handshake went on to %v", test.about, h.responder.Step())
		}
	}
}

func TestEncodingThatWasNotSignedIsRefused(t *testing.T) {
	t.Parallel()
	alice, bob := members(t)
	both := []p2p.ProtocolMode{p2p.AuthenticationOnly, p2p.AuthenticatedEncryption}
	oneBlock, twoBlocks := []byte{4, 0, 2, 0}, []byte{2, 0, 2, 2, 0}

	// Signed over the form we encode, sent in two blocks with octets after it: taken, and part of the transcript as sent.
	h := setup(t, alice, bob, both)
	h.proven(t)
	sent := append(bytes.Replace(h.initiator.plaintext, oneBlock, twoBlocks, 1), "trailing"...)
	_, tbs, err := h.responder.OnInitiatorHandshake(h.reseal(sent), alice.public, h.terms)
	must(t, err)
	reply, inbound, err := h.responder.Handshake(bob.sign(t, tbs), after(3))
	must(t, err)
	outbound, err := h.initiator.OnResponderHandshake(reply, []PublicKey{bob.public})
	must(t, err)
	exchange(t, outbound, inbound)

	// Signed over the two blocks: refused.
	h = setup(t, alice, bob, both)
	h.proven(t)
	i := h.initiator
	i.payload.PartyVerify, i.payload.Finished = nil, nil
	unsigned := bytes.Replace(i.payload.AppendObject(nil), oneBlock, twoBlocks, 1)
	i.payload.PartyVerify = alice.sign(t, toSign(initiatorSignaturePrefix, i.hellos, unsigned))
	sent = bytes.Replace(i.payload.AppendObject(nil), oneBlock, twoBlocks, 1)
	if _, _, err := h.responder.OnInitiatorHandshake(h.reseal(sent), alice.public, h.terms); !errors.Is(err, ErrAuthentication) {
		t.Errorf("got %v, want ErrAuthentication", err)
	}
}

func TestResponderRefusesWhatDoesNotDecrypt(t *testing.T) {
	t.Parallel()
	alice, bob := members(t)
	for _, test := range []struct {
		about  string
		change func(*p2p.InitiatorHandshake)
		want   error
	}{
		{"ciphertext", func(m *p2p.InitiatorHandshake) { m.Ciphertext[0] ^= 1 }, ErrAuthentication},
		{"tag", func(m *p2p.InitiatorHandshake) { m.AuthTag[11] ^= 1 }, ErrAuthentication},
		{"timestamp", func(m *p2p.InitiatorHandshake) { m.Header.Timestamp++ }, ErrAuthentication},
		{"sequence", func(m *p2p.InitiatorHandshake) { m.Header.SequenceNo++ }, ErrAuthentication},
		{"session", func(m *p2p.InitiatorHandshake) { m.Header.SessionID = "other" }, ErrMalformed},
		{"type", func(m *p2p.InitiatorHandshake) { m.Header.Type = p2p.TypeData }, ErrMalformed},
		{"version", func(m *p2p.InitiatorHandshake) { m.Header.Version = 0 }, ErrMalformed},
		{"length", func(m *p2p.InitiatorHandshake) { m.Ciphertext = nil }, ErrMalformed},
	} {
		h := setup(t, alice, bob, encryption)
		message := h.proven(t)
		test.change(message)
		if _, _, err := h.responder.OnInitiatorHandshake(message, alice.public, h.terms); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.about, err, test.want)
		}
	}
	h := setup(t, alice, bob, encryption)
	message := h.proven(t)
	if _, _, err := h.responder.OnInitiatorHandshake(message, bob.public, h.terms); !errors.Is(err, ErrAuthentication) {
		t.Errorf("key of another member: got %v, want ErrAuthentication", err)
	}
	full := h.initiator.plaintext
	for n := range full {
		if _, _, err := h.responder.OnInitiatorHandshake(h.reseal(full[:n]), alice.public, h.terms); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d octets of %d: got %v, want ErrMalformed", n, len(full), err)
		}
	}
	unknown := bytes.Clone(full)
	unknown[2] ^= 1
	if _, _, err := h.responder.OnInitiatorHandshake(h.reseal(unknown), alice.public, h.terms); !errors.Is(err, avro.ErrUnknownType) {
		t.Errorf("unknown fingerprint: got %v, want ErrUnknownType", err)
	}
}

func TestInitiatorRefusesForgedHandshakes(t *testing.T) {
	t.Parallel()
	alice, bob := members(t)
	for _, test := range []struct {
		about  string
		sign   bool
		change func(*p2p.ResponderHandshakePayload)
		want   error
	}{
		{"signature", false, func(p *p2p.ResponderHandshakePayload) { p.PartyVerify[20] ^= 1 }, ErrAuthentication},
		{"MAC", false, func(p *p2p.ResponderHandshakePayload) { p.Finished[0] ^= 1 }, ErrAuthentication},
		{"key of nobody", true, func(p *p2p.ResponderHandshakePayload) { p.KeyHash = make([]byte, 40) }, ErrAuthentication},
		{"key of another", true, func(p *p2p.ResponderHandshakePayload) { p.KeyHash = alice.public.hash[:] }, ErrAuthentication},
		{"size above the proposal", true, func(p *p2p.ResponderHandshakePayload) { p.MaxMessageSize++ }, ErrNegotiation},
		{"size of 9999", true, func(p *p2p.ResponderHandshakePayload) { p.MaxMessageSize = 9999 }, ErrNegotiation},
		{"mode that was not proposed", true, func(p *p2p.ResponderHandshakePayload) { p.SelectedMode = p2p.AuthenticationOnly }, ErrNegotiation},
	} {
		h := setup(t, alice, bob, encryption)
		good, _ := h.answered(t)
		r, payload := h.responder, h.responder.payload
		payload.PartyVerify, payload.Finished = bytes.Clone(payload.PartyVerify), bytes.Clone(payload.Finished)
		test.change(&payload)
		if test.sign {
			payload.PartyVerify, payload.Finished = nil, nil
			payload.PartyVerify = bob.sign(t, toSign(responderSignaturePrefix, r.state.Hellos, r.initiator, payload.AppendObject(nil)))
			payload.Finished = finished(r.keys.responderMAC, r.state.Hellos, r.initiator, payload.AppendObject(nil))
		}
		ciphertext, authTag := r.keys.responder.seal(&good.Header, 0, payload.AppendObject(nil))
		forged := p2p.NewResponderHandshake(good.Header, ciphertext, authTag)
		keys := []PublicKey{alice.public, bob.public}
		if _, err := h.initiator.OnResponderHandshake(forged, keys); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.about, err, test.want)
		}
		if _, err := h.initiator.OnResponderHandshake(good, keys); err != nil {
			t.Errorf("%s: the good message after the bad one: %v", test.about, err)
		}
	}
}

func TestSmallerSizeAndEncryptionAreAgreed(t *testing.T) {
	t.Parallel()
	alice, bob := members(t)
	h := setup(t, alice, bob, []p2p.ProtocolMode{p2p.AuthenticationOnly, p2p.AuthenticatedEncryption})
	h.terms.MaxMessageSize = 20_000
	initiator, responder := h.established(t)
	for _, s := range []*Session{initiator, responder} {
		if s.MaxMessageSize() != 20_000 || s.Mode() != p2p.AuthenticatedEncryption {
			t.Errorf("got %d octets, %v", s.MaxMessageSize(), s.Mode())
		}
	}
}

func TestHandshakeGoesOnFromStoredState(t *testing.T) {
	t.Parallel()
	alice, bob := members(t)
	h := setup(t, alice, bob, encryption)
	message := h.proven(t)
	state, err := h.responder.State()
	must(t, err)
	h.responder, err = RestoreResponder(state)
	must(t, err)
	_, tbs, err := h.responder.OnInitiatorHandshake(message, alice.public, h.terms)
	must(t, err)
	reply, responder, err := h.responder.Handshake(bob.sign(t, tbs), after(3))
	must(t, err)
	initiator, err := h.initiator.OnResponderHandshake(reply, []PublicKey{bob.public})
	must(t, err)
	restored, err := Restore(responder.State())
	must(t, err)
	exchange(t, initiator, restored)
	exchange(t, restored, initiator)

	for about, err := range map[string]error{
		"empty handshake": second(RestoreResponder(ResponderState{})),
		"empty session":   second(Restore(State{})),
		"unknown mode":    second(Restore(State{SessionID: "x", Mode: 7, SendKey: make([]byte, 32), SendIV: make([]byte, 12), ReceiveKey: make([]byte, 32), ReceiveIV: make([]byte, 12)})),
	} {
		if err == nil || !(errors.Is(err, ErrConfig)) {
			t.Errorf("%s: got %v, want ErrConfig", about, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestEventsInTheWrongStepAreErrors(t *testing.T) {
	t.Parallel()
	alice, bob := members(t)
	h := setup(t, alice, bob, encryption)
	initiator := func() map[Step]error {
		_, hello := h.initiator.Hello(after(0))
		_, onHello := h.initiator.OnResponderHello(&p2p.ResponderHello{})
		_, proof := h.initiator.Handshake(nil, after(0))
		_, onProof := h.initiator.OnResponderHandshake(&p2p.ResponderHandshake{}, nil)
		return map[Step]error{New: hello, HelloSent: onHello, Signing: proof, HandshakeSent: onProof}
	}
	responder := func() map[Step]error {
		_, hello := h.responder.Hello(after(0))
		_, state := h.responder.State()
		_, _, proof := h.responder.Handshake(nil, after(0))
		return map[Step]error{New: h.responder.OnInitiatorHello(&p2p.InitiatorHello{}), HelloReceived: hello, HelloSent: state, Signing: proof}
	}
	h.established(t)
	for side, events := range map[string]map[Step]error{"initiator": initiator(), "responder": responder()} {
		for want, err := range events {
			var wrong *StepError
			if !errors.As(err, &wrong) || *wrong != (StepError{Have: Established, Want: want}) {
				t.Errorf("%s, event of %q: got %v", side, want, err)
			}
		}
	}
}

func TestWrongConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	alice, bob := members(t)
	for _, test := range []struct {
		about  string
		change func(*InitiatorConfig)
		want   error
	}{
		{"no session id", func(c *InitiatorConfig) { c.SessionID = "" }, ErrConfig},
		{"small messages", func(c *InitiatorConfig) { c.MaxMessageSize = 9999 }, ErrConfig},
		{"no mode", func(c *InitiatorConfig) { c.Modes = nil }, ErrConfig},
		{"no key", func(c *InitiatorConfig) { c.Ephemeral = nil }, ErrConfig},
		{"certificates", func(c *InitiatorConfig) { c.PKI = "Standard" }, ErrUnsupported},
	} {
		config := setup(t, alice, bob, encryption).config
		test.change(&config)
		if _, err := NewInitiator(config); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.about, err, test.want)
		}
	}
	p256, err := ecdh.P256().GenerateKey(rand.Reader)
	must(t, err)
	if _, err := NewResponder(p256); !errors.Is(err, ErrConfig) {
		t.Errorf("P-256 as ephemeral key: got %v, want ErrConfig", err)
	}
	h := setup(t, alice, bob, encryption)
	h.terms.PKI = "StandardEV3"
	if _, _, err := h.responder.OnInitiatorHandshake(h.proven(t), alice.public, h.terms); !errors.Is(err, ErrUnsupported) {
		t.Errorf("certificates: got %v, want ErrUnsupported", err)
	}
}

func TestUnsupportedSessionKeysAreRefused(t *testing.T) {
	t.Parallel()
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	spki := func(key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		must(t, err)
		return der
	}
	koblitz, err := hex.DecodeString("3056301006072a8648ce3d020106052b8104000a034200" + "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798" +
		"483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8")
	must(t, err)
	for about, der := range map[string][]byte{
		"P-224": spki(p224.Public()), "Ed25519": spki(edwards), "secp256k1": koblitz, "nothing": nil,
	} {
		if _, err := ParsePublicKey(der); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: got %v, want ErrUnsupported", about, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	alice, bob := members(t)
	h := setup(t, alice, bob, encryption)
	h.proven(t)
	waiting, err := h.responder.State()
	must(t, err)
	_, responder := sessions(t, p2p.AuthenticatedEncryption)
	encoded, err := json.Marshal([]any{responder.State(), waiting})
	must(t, err)
	texts := []string{string(encoded)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		texts = append(texts, fmt.Sprintf(verb, responder.State()), fmt.Sprintf(verb, responder), fmt.Sprintf(verb, waiting),
			fmt.Sprintf(verb, h.initiator), fmt.Sprintf(verb, h.responder))
	}
	for _, secret := range []Secret{responder.State().SendKey, waiting.Shared} {
		for _, form := range []string{"%x", "%d", "%#v"} {
			shown := strings.Trim(fmt.Sprintf(form, []byte(secret[:4])), "[]{}byte")
			for _, text := range texts {
				if strings.Contains(text, shown) {
					t.Errorf("a key is printed: %s", text)
				}
			}
		}
	}
}
