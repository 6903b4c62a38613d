package session

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/hawser-project/hawser/corda/p2p"
	"github.com/hawser-project/hawser/test/interop"
)

// A transcript checks values against the vectors by name.
type transcript struct {
	testing.TB
	vectors interop.Vectors
}

func (c transcript) check(name string, got []byte) {
	c.Helper()
	if want := c.vectors.Get(c, name); !bytes.Equal(got, want) {
		c.Errorf("%s:\ngot  %x\nwant %x", name, got, want)
	}
}

// vectorMembers are the members of the vectors, who cannot sign but whose signatures are known.
func vectorMember(c transcript, name string) member {
	public, err := ParsePublicKey(c.vectors.Get(c, name+".identity.spki"))
	must(c, err)
	hash := public.Hash()
	c.check(name+".identity.hash", hash[:])
	return member{public: public}
}

func TestHandshakeHasCordasTranscript(t *testing.T) {
	t.Parallel()
	c := transcript{t, interop.LinkSession(t)}
	h := setup(t, vectorMember(c, "initiator"), vectorMember(c, "responder"), encryption)

	hello, err := h.initiator.Hello(after(0))
	must(t, err)
	c.check("initiator.hello", hello.AppendObject(nil))
	c.check("initiator.ephemeral.spki", hello.PublicKey)

	must(t, h.responder.OnInitiatorHello(hello))
	answer, err := h.responder.Hello(after(1))
	must(t, err)
	c.check("responder.hello", answer.AppendObject(nil))
	c.check("responder.ephemeral.spki", answer.PublicKey)

	tbs, err := h.initiator.OnResponderHello(answer)
	must(t, err)
	c.check("shared", h.initiator.shared)
	c.check("initiator.tosign", tbs)
	c.check("client.handshake.mac.key", h.initiator.keys.initiatorMAC)
	c.check("server.handshake.mac.key", h.initiator.keys.responderMAC)
	c.check("client.handshake.enc.iv", h.initiator.keys.initiator.iv[:])
	c.check("server.handshake.enc.iv", h.initiator.keys.responder.iv[:])
	x := newExpander(h.initiator.shared, h.initiator.hellos)
	c.check("client.handshake.enc.key", x.expand(labelInitiatorHandshakeKey, keyLen))
	c.check("server.handshake.enc.key", x.expand(labelResponderHandshakeKey, keyLen))

	proof, err := h.initiator.Handshake(c.vectors.Get(t, "initiator.signature"), after(2))
	must(t, err)
	c.check("initiator.payload", h.initiator.plaintext)
	c.check("initiator.mac", h.initiator.payload.Finished)
	c.check("initiator.handshake.aad", proof.Header.AppendObject(nil))
	c.check("initiator.handshake.sealed", append(bytes.Clone(proof.Ciphertext), proof.AuthTag...))
	if len(proof.AuthTag) != splitLen {
		t.Errorf("got an authTag of %d octets, want %d", len(proof.AuthTag), splitLen)
	}

	proposal, tbs, err := h.responder.OnInitiatorHandshake(proof, h.alice.public, h.terms)
	must(t, err)
	c.check("responder.tosign", tbs)
	if want := (Proposal{h.bob.public.Hash(), groupID, 1000000, p2p.AuthenticatedEncryption}); proposal != want {
		t.Errorf("got proposal %+v, want %+v", proposal, want)
	}
	reply, inbound, err := h.responder.Handshake(c.vectors.Get(t, "responder.signature"), after(3))
	must(t, err)
	c.check("responder.mac", h.responder.payload.Finished)
	c.check("responder.payload", h.responder.payload.AppendObject(nil))
	c.check("responder.handshake.sealed", append(bytes.Clone(reply.Ciphertext), reply.AuthTag...))
	c.check("transcript.hash", hash(h.responder.state.Hellos, h.initiator.plaintext, h.responder.payload.AppendObject(nil)))

	outbound, err := h.initiator.OnResponderHandshake(reply, []PublicKey{h.bob.public})
	must(t, err)
	for _, end := range []struct{ client, server State }{
		{outbound.State(), State{SendKey: outbound.State().ReceiveKey, SendIV: outbound.State().ReceiveIV}},
		{State{SendKey: inbound.State().ReceiveKey, SendIV: inbound.State().ReceiveIV}, inbound.State()},
	} {
		c.check("client.session.key", end.client.SendKey)
		c.check("client.session.iv", end.client.SendIV)
		c.check("server.session.key", end.server.SendKey)
		c.check("server.session.iv", end.server.SendIV)
	}
}

// vectorSession is the session of the vectors, seen from one side.
func vectorSession(c transcript, send, receive string, mode p2p.ProtocolMode) *Session {
	s, err := Restore(State{
		SessionID: sessionID, Mode: mode, MaxMessageSize: 1000000,
		SendKey: c.vectors.Get(c, send+".session.key"), SendIV: c.vectors.Get(c, send+".session.iv"),
		ReceiveKey: c.vectors.Get(c, receive+".session.key"), ReceiveIV: c.vectors.Get(c, receive+".session.iv"),
	})
	must(c, err)
	return s
}

func TestDataAndAcknowledgementHaveCordasOctets(t *testing.T) {
	t.Parallel()
	c := transcript{t, interop.LinkSession(t)}
	for _, test := range []struct {
		name, send, receive string
		sequenceNo, offset  int64
	}{
		{"data", "client", "server", 0x0123456789abcdef, 4},
		{"ack", "server", "client", -2, 5},
	} {
		sender := vectorSession(c, test.send, test.receive, p2p.AuthenticatedEncryption)
		plaintext := c.vectors.Get(t, test.name+".plaintext")
		message, err := sender.Seal(test.sequenceNo, start+test.offset, plaintext)
		must(t, err)
		sealed := message.(*p2p.EncryptedData)
		c.check(test.name+".aad", sealed.Header.AppendObject(nil))
		c.check(test.name+".sealed", append(bytes.Clone(sealed.Ciphertext), sealed.AuthTag...))

		receiver := vectorSession(c, test.receive, test.send, p2p.AuthenticatedEncryption)
		if got, err := receiver.Open(message); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%s: got %x, %v", test.name, got, err)
		}
	}
	sender := vectorSession(c, "client", "server", p2p.AuthenticatedEncryption)
	nonce, _ := sender.send.inputs(nil, &p2p.Header{}, 0x0123456789abcdef)
	c.check("data.nonce", nonce)

	message, err := vectorSession(c, "client", "server", p2p.AuthenticationOnly).Seal(0x0123456789abcdef, start+4, c.vectors.Get(t, "data.plaintext"))
	must(t, err)
	c.check("data.mac", message.(*p2p.AuthenticatedData).AuthTag)
}

func TestDataOpensFromTheHTTPBody(t *testing.T) {
	t.Parallel()
	c := transcript{t, interop.LinkSession(t)}
	message, err := p2p.DecodeGatewayMessage(c.vectors.Get(t, "body.data"))
	must(t, err)
	plaintext, err := vectorSession(c, "server", "client", p2p.AuthenticatedEncryption).Open(message.Payload)
	must(t, err)
	c.check("data.plaintext", plaintext)
}

// RFC 5869, A.2: a salt longer than the hash's block, as transcripts are.
func TestHKDFWithALongSalt(t *testing.T) {
	t.Parallel()
	sequence := func(from, n int) []byte {
		octets := make([]byte, n)
		for i := range octets {
			octets[i] = byte(from + i)
		}
		return octets
	}
	x := newExpander(sequence(0x00, 80), sequence(0x60, 80))
	if got := hex.EncodeToString(x.key); got != "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244" {
		t.Errorf("got extracted key %s", got)
	}
	const want = "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
	octets, err := hkdf.Expand(sha256.New, x.key, string(sequence(0xb0, 80)), 82)
	if got := hex.EncodeToString(octets); err != nil || got != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}
