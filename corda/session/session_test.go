package session

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/hawser-project/hawser/corda/p2p"
	"github.com/hawser-project/hawser/test/interop"
)

func TestTagMayBeCutAnywhere(t *testing.T) {
	t.Parallel()
	initiator, responder := sessions(t, p2p.AuthenticatedEncryption)
	message, err := initiator.Seal(1, start, []byte("hello"))
	must(t, err)
	sealed := message.(*p2p.EncryptedData)
	if len(sealed.AuthTag) != 12 {
		t.Errorf("got an authTag of %d octets, want 12", len(sealed.AuthTag))
	}
	joined := append(bytes.Clone(sealed.Ciphertext), sealed.AuthTag...)
	for cut := range len(joined) + 1 {
		if got, err := responder.Open(p2p.NewEncryptedData(sealed.Header, joined[:cut], joined[cut:])); err != nil || string(got) != "hello" {
			t.Errorf("authTag of %d octets: got %q, %v", len(joined)-cut, got, err)
		}
	}
	for n := range joined {
		_, err := responder.Open(p2p.NewEncryptedData(sealed.Header, joined[:n], nil))
		if !errors.Is(err, ErrAuthentication) && !errors.Is(err, ErrMalformed) {
			t.Errorf("%d octets of %d: got %v", n, len(joined), err)
		}
	}
}

func TestChangedDataIsRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []p2p.ProtocolMode{p2p.AuthenticatedEncryption, p2p.AuthenticationOnly} {
		initiator, responder := sessions(t, mode)
		for _, test := range []struct {
			about  string
			change func(header *p2p.Header, body, tag []byte)
			want   error
		}{
			{"sequence", func(h *p2p.Header, _, _ []byte) { h.SequenceNo++ }, ErrAuthentication},
			{"timestamp", func(h *p2p.Header, _, _ []byte) { h.Timestamp++ }, ErrAuthentication},
			{"type", func(h *p2p.Header, _, _ []byte) { h.Type = p2p.TypeInitiatorHandshake }, ErrMalformed},
			{"version", func(h *p2p.Header, _, _ []byte) { h.Version = 2 }, ErrMalformed},
			{"session", func(h *p2p.Header, _, _ []byte) { h.SessionID = "other" }, ErrMalformed},
			{"body", func(_ *p2p.Header, body, _ []byte) { body[0] ^= 1 }, ErrAuthentication},
			{"tag", func(_ *p2p.Header, _, tag []byte) { tag[0] ^= 1 }, ErrAuthentication},
		} {
			message, err := initiator.Seal(1, start, []byte("hello"))
			must(t, err)
			switch m := message.(type) {
			case *p2p.EncryptedData:
				test.change(&m.Header, m.Ciphertext, m.AuthTag)
			case *p2p.AuthenticatedData:
				test.change(&m.Header, m.Payload, m.AuthTag)
			}
			if _, err := responder.Open(message); !errors.Is(err, test.want) {
				t.Errorf("%v, %s: got %v, want %v", mode, test.about, err, test.want)
			}
		}
	}
}

func TestMessagesOfTheOtherModeAreRefused(t *testing.T) {
	t.Parallel()
	_, encrypted := sessions(t, p2p.AuthenticatedEncryption)
	_, clear := sessions(t, p2p.AuthenticationOnly)
	header := p2p.Header{Type: p2p.TypeData, Version: 1, SessionID: sessionID}
	for _, test := range []struct {
		session *Session
		payload p2p.Payload
	}{
		{encrypted, &p2p.AuthenticatedData{Header: header}},
		{clear, p2p.NewEncryptedData(header, nil, nil)},
		{encrypted, &p2p.UnauthenticatedMessage{}},
		{clear, &p2p.InitiatorHello{}},
		{encrypted, nil},
	} {
		if _, err := test.session.Open(test.payload); !errors.Is(err, ErrMode) {
			t.Errorf("%T in mode %v: got %v, want ErrMode", test.payload, test.session.Mode(), err)
		}
	}
}

func TestAgreedSizeIsEnforcedOnBothSides(t *testing.T) {
	t.Parallel()
	for _, mode := range []p2p.ProtocolMode{p2p.AuthenticatedEncryption, p2p.AuthenticationOnly} {
		initiator, responder := sessions(t, mode)
		message, err := initiator.Seal(1, start, make([]byte, 1000000))
		must(t, err)
		if _, err := responder.Open(message); err != nil {
			t.Errorf("%v: largest message: %v", mode, err)
		}
		if _, err := initiator.Seal(2, start, make([]byte, 1000001)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: got %v, want ErrTooLarge", mode, err)
		}
		state := initiator.State()
		state.MaxMessageSize++
		lax, err := Restore(state)
		must(t, err)
		message, err = lax.Seal(3, start, make([]byte, 1000001))
		must(t, err)
		if _, err := responder.Open(message); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: got %v, want ErrTooLarge", mode, err)
		}
	}
}

func TestEmptyPlaintextPasses(t *testing.T) {
	t.Parallel()
	for _, mode := range []p2p.ProtocolMode{p2p.AuthenticatedEncryption, p2p.AuthenticationOnly} {
		initiator, responder := sessions(t, mode)
		message, err := initiator.Seal(1, start, nil)
		must(t, err)
		if got, err := responder.Open(message); err != nil || len(got) != 0 {
			t.Errorf("%v: got %x, %v", mode, got, err)
		}
	}
}

func TestEqualInputIsSealedToEqualOctets(t *testing.T) {
	t.Parallel()
	_, responder := sessions(t, p2p.AuthenticatedEncryption)
	first, err := responder.Seal(9, start, []byte("ack"))
	must(t, err)
	again, err := responder.Seal(9, start, []byte("ack"))
	must(t, err)
	if !bytes.Equal(first.AppendRaw(nil), again.AppendRaw(nil)) {
		t.Error("an acknowledgement made twice is not the same octets")
	}
}

func TestSessionIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	initiator, responder := sessions(t, p2p.AuthenticatedEncryption)
	var group sync.WaitGroup
	for worker := range int64(4) {
		group.Go(func() {
			for i := range int64(50) {
				message, err := initiator.Seal(worker<<32|i, start, []byte("hello"))
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := responder.Open(message); err != nil || string(got) != "hello" {
					t.Errorf("got %q, %v", got, err)
				}
			}
		})
	}
	group.Wait()
}

func TestReplayWindowForgetsTheOldest(t *testing.T) {
	t.Parallel()
	w := NewReplayWindow(3)
	for _, step := range []struct {
		number int64
		fresh  bool
	}{
		{5, true}, {5, false}, {-9, true}, {7, true}, {5, false}, {8, true}, {-9, false}, {5, true}, {-9, true}, {8, false},
	} {
		if got := w.Add(step.number); got != step.fresh {
			t.Errorf("%d: got new %v, want %v", step.number, got, step.fresh)
		}
		if len(w.seen) > 3 || len(w.order) > 3 {
			t.Fatalf("the window holds %d numbers, at most 3", len(w.seen))
		}
	}
	if !w.Seen(8) || w.Seen(7) {
		t.Error("the window holds the wrong numbers")
	}
}

func FuzzOpen(f *testing.F) {
	_, responder := sessions(f, p2p.AuthenticatedEncryption)
	_, clear := sessions(f, p2p.AuthenticationOnly)
	message, err := p2p.DecodeGatewayMessage(interop.LinkSession(f).Get(f, "body.data"))
	must(f, err)
	f.Add(p2p.AppendPayload(nil, message.Payload))
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, err := p2p.DecodePayload(b)
		if err != nil {
			return
		}
		for _, session := range []*Session{responder, clear} {
			if _, err := session.Open(payload); err == nil {
				t.Errorf("a forged message opens: %x", b)
			}
		}
	})
}

// FuzzHandshake gives decoded messages of anyone to a responder, and to an initiator's two waiting steps.
func FuzzHandshake(f *testing.F) {
	alice, bob := members(f)
	h := setup(f, alice, bob, encryption)
	hello, err := h.initiator.Hello(after(0))
	must(f, err)
	f.Add(p2p.AppendPayload(nil, hello))
	h = setup(f, alice, bob, encryption)
	f.Add(p2p.AppendPayload(nil, h.proven(f)))
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, err := p2p.DecodePayload(b)
		if err != nil {
			return
		}
		fresh, waiting := setup(t, alice, bob, encryption), setup(t, alice, bob, encryption)
		waiting.proven(t)
		switch m := payload.(type) {
		case *p2p.InitiatorHello:
			if fresh.responder.OnInitiatorHello(m) == nil {
				_, err := fresh.responder.Hello(after(1))
				must(t, err)
			}
		case *p2p.ResponderHello:
			_, err := fresh.initiator.Hello(after(0))
			must(t, err)
			_, _ = fresh.initiator.OnResponderHello(m)
		case *p2p.ResponderHandshake:
			if _, err := waiting.initiator.OnResponderHandshake(m, []PublicKey{bob.public}); err == nil {
				t.Errorf("a forged handshake is taken: %x", b)
			}
		case *p2p.InitiatorHandshake:
			_, _, _ = waiting.responder.OnInitiatorHandshake(m, alice.public, waiting.terms)
		}
	})
}

// FuzzHandshakePlaintext is what a member may send under encryption before it has proven itself.
func FuzzHandshakePlaintext(f *testing.F) {
	alice, bob := members(f)
	f.Add(interop.LinkSession(f).Get(f, "initiator.payload"))
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		h := setup(t, alice, bob, encryption)
		h.proven(t)
		if _, _, err := h.responder.OnInitiatorHandshake(h.reseal(plaintext), bob.public, h.terms); err == nil {
			t.Errorf("a forged payload is taken: %x", plaintext)
		}
	})
}

func benchmarkSeal(b *testing.B, mode p2p.ProtocolMode) {
	initiator, _ := sessions(b, mode)
	plaintext := make([]byte, 1024)
	b.SetBytes(1024)
	b.ReportAllocs()
	var sequenceNo int64
	for b.Loop() {
		sequenceNo++
		if _, err := initiator.Seal(sequenceNo, start, plaintext); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkOpen(b *testing.B, mode p2p.ProtocolMode) {
	initiator, responder := sessions(b, mode)
	message, err := initiator.Seal(1, start, make([]byte, 1024))
	must(b, err)
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := responder.Open(message); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal1KiB(b *testing.B)              { benchmarkSeal(b, p2p.AuthenticatedEncryption) }
func BenchmarkOpen1KiB(b *testing.B)              { benchmarkOpen(b, p2p.AuthenticatedEncryption) }
func BenchmarkSeal1KiBAuthenticated(b *testing.B) { benchmarkSeal(b, p2p.AuthenticationOnly) }
func BenchmarkOpen1KiBAuthenticated(b *testing.B) { benchmarkOpen(b, p2p.AuthenticationOnly) }

// BenchmarkHandshake is both sides of one, signatures included.
func BenchmarkHandshake(b *testing.B) {
	alice, bob := members(b)
	for b.Loop() {
		setup(b, alice, bob, encryption).established(b)
	}
}
