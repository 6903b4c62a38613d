package p2p

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/corda/avro"
	"github.com/hawser-project/hawser/test/interop"
)

const (
	sessionID = "11111111-2222-3333-4444-555555555555"
	groupID   = "0e9f5d7a-3c1b-4b8e-9a55-0d6d4c2b1a00"
	alice     = "CN=Alice, O=Alice Corp, L=London, C=GB"
	bob       = "CN=Bob, O=Bob Corp, L=Paris, C=FR"
	start     = 1700000000000
)

func hello(t testing.TB) *InitiatorHello {
	vectors := interop.LinkSession(t)
	return &InitiatorHello{
		Header:    Header{TypeInitiatorHello, ProtocolVersion, sessionID, 0, start},
		PublicKey: vectors.Get(t, "initiator.ephemeral.spki"),
		KeyHash:   vectors.Get(t, "initiator.identity.hash"),
		GroupID:   groupID,
	}
}

func dataPayload() *DataPayload {
	return &DataPayload{
		Message: AuthenticatedMessage{
			Destination:  Identity{bob, groupID},
			Source:       Identity{alice, groupID},
			TTL:          avro.Some[int64](1700000300000),
			MessageID:    "m-1",
			Subsystem:    "flowSession",
			StatusFilter: Active,
			Payload:      []byte("hello"),
		},
		Key: "k-1",
	}
}

func encryptedData(t testing.TB) *EncryptedData {
	sealed := interop.LinkSession(t).Get(t, "data.sealed")
	cut := len(sealed) - 12
	return NewEncryptedData(Header{TypeData, ProtocolVersion, sessionID, 0x0123456789abcdef, start + 4}, sealed[:cut], sealed[cut:])
}

func TestMessagesHaveCordasOctets(t *testing.T) {
	t.Parallel()
	vectors := interop.LinkSession(t)
	for name, got := range map[string][]byte{
		"initiator.hello": hello(t).AppendObject(nil),
		"responder.hello": (&ResponderHello{Header{TypeResponderHello, ProtocolVersion, sessionID, 0, start + 1},
			vectors.Get(t, "responder.ephemeral.spki")}).AppendObject(nil),
		"initiator.handshake.aad": (&Header{TypeInitiatorHandshake, ProtocolVersion, sessionID, 1, start + 2}).AppendObject(nil),
		"data.aad":                (&Header{TypeData, ProtocolVersion, sessionID, 0x0123456789abcdef, start + 4}).AppendObject(nil),
		"ack.aad":                 (&Header{TypeData, ProtocolVersion, sessionID, -2, start + 5}).AppendObject(nil),
		"data.plaintext":          dataPayload().AppendObject(nil),
		"ack.plaintext":           (&Ack{MessageID: "m-1"}).AppendObject(nil),
		"body.hello":              (&GatewayMessage{"g-1", hello(t)}).AppendBody(nil),
		"body.data":               (&GatewayMessage{"g-2", encryptedData(t)}).AppendBody(nil),
		"body.response":           (&GatewayResponse{ID: "g-1"}).AppendBody(nil),
		"initiator.payload":       initiatorPayload(vectors).AppendObject(nil),
		"responder.payload":       responderPayload(vectors).AppendObject(nil),
	} {
		if want := vectors.Get(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s:\ngot  %x\nwant %x", name, got, want)
		}
	}
}

func initiatorPayload(v interop.Vectors) *InitiatorHandshakePayload {
	return &InitiatorHandshakePayload{
		ResponderKeyHash: v["responder.identity.hash"], GroupID: groupID, MaxMessageSize: 1000000,
		SupportedModes: []ProtocolMode{AuthenticatedEncryption},
		KeyHash:        v["initiator.identity.hash"], PartyVerify: v["initiator.signature"], Finished: v["initiator.mac"],
	}
}

func responderPayload(v interop.Vectors) *ResponderHandshakePayload {
	return &ResponderHandshakePayload{
		MaxMessageSize: 1000000, SelectedMode: AuthenticatedEncryption,
		KeyHash: v["responder.identity.hash"], PartyVerify: v["responder.signature"], Finished: v["responder.mac"],
	}
}

func TestFormsOf52DifferInTheFingerprintOnly(t *testing.T) {
	t.Parallel()
	old := dataPayload()
	old.Form = Form52
	for _, test := range []struct {
		about       string
		new, old    []byte
		fingerprint string
	}{
		{"data", dataPayload().AppendObject(nil), old.AppendObject(nil), "\x1f\xd5\xf4\x9e\xa0\x89\x42\xab"},
		{"acknowledgement", (&Ack{MessageID: "m-1"}).AppendObject(nil), (&Ack{Form: Form52, MessageID: "m-1"}).AppendObject(nil),
			"\x5d\xec\x6a\x4a\x8b\xa2\xfa\xce"},
	} {
		if string(test.old[2:10]) != test.fingerprint || !bytes.Equal(test.old[10:], test.new[10:]) {
			t.Errorf("%s: got %x, beside %x", test.about, test.old, test.new)
		}
	}
	if FormFor(50201) != Form52 || FormFor(50300) != Form53 {
		t.Error("platform versions 50201 and 50300 have the wrong forms")
	}
}

func TestBothFormsAndHeartbeatsAreRead(t *testing.T) {
	t.Parallel()
	for _, form := range []Form{Form53, Form52} {
		want := dataPayload()
		want.Form = form
		if got, err := DecodeDataPayload(want.AppendObject(nil)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("form %d: got %+v, %v", form, got, err)
		}
		wantAck := Ack{Form: form, MessageID: "m-1"}
		if got, err := DecodeAck(wantAck.AppendObject(nil)); err != nil || got != wantAck {
			t.Errorf("form %d: got %+v, %v", form, got, err)
		}
	}
	heartbeat, answer := DataPayload{Form: Form52, Heartbeat: true}, Ack{Form: Form52, Heartbeat: true}
	if got, err := DecodeDataPayload(heartbeat.AppendObject(nil)); err != nil || !reflect.DeepEqual(*got, heartbeat) {
		t.Errorf("heartbeat: got %+v, %v", got, err)
	}
	if got, err := DecodeAck(answer.AppendObject(nil)); err != nil || got != answer {
		t.Errorf("heartbeat's acknowledgement: got %+v, %v", got, err)
	}
	branch1 := append((&Ack{MessageID: "m"}).AppendObject(nil)[:10], 2)
	if _, err := DecodeAck(branch1); !errors.Is(err, avro.ErrMalformed) {
		t.Errorf("heartbeat in the form of 5.3: got %v, want ErrMalformed", err)
	}
}

// payloads are one of each, with every optional field filled in.
func payloads(t testing.TB) []Payload {
	vectors := interop.LinkSession(t)
	header := Header{TypeData, ProtocolVersion, sessionID, 7, start}
	return []Payload{
		&AuthenticatedData{header, []byte("payload"), []byte("tag")},
		encryptedData(t),
		hello(t),
		NewInitiatorHandshake(header, []byte("ciphertext"), []byte("tag")),
		&ResponderHello{header, vectors.Get(t, "responder.ephemeral.spki")},
		NewResponderHandshake(header, []byte("ciphertext"), []byte("tag")),
		&UnauthenticatedMessage{"membership", "m-2", []byte("payload")},
	}
}

func TestEveryPayloadReadsBackAndNoBeginningOfItDoes(t *testing.T) {
	t.Parallel()
	for i, payload := range payloads(t) {
		if payload.branch() != i {
			t.Errorf("%T has branch %d, want %d", payload, payload.branch(), i)
		}
		want := &GatewayMessage{"id", payload}
		body := want.AppendBody(nil)
		got, err := DecodeGatewayMessage(append(body, "trailing"...))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%T: got %+v, %v", payload, got, err)
		}
		raw := AppendPayload(nil, payload)
		if got, err := DecodePayload(raw); err != nil || !reflect.DeepEqual(got, payload) {
			t.Errorf("%T: got %+v, %v", payload, got, err)
		}
		refuseTruncated(t, raw, func(b []byte) error { _, err := DecodePayload(b); return err })
		refuseTruncated(t, body, func(b []byte) error { _, err := DecodeGatewayMessage(b); return err })
	}
}

func TestEveryInnerRecordReadsBackAndNoBeginningOfItDoes(t *testing.T) {
	t.Parallel()
	vectors := interop.LinkSession(t)
	initiator, responder := initiatorPayload(vectors), responderPayload(vectors)
	initiator.Certificate = avro.Some([]string{"leaf", "root"})
	responder.Certificate = avro.Some([]string{"leaf"})
	full := dataPayload()
	full.Message.TraceID = avro.Some("trace")
	for _, test := range []struct {
		want   any
		octets []byte
		decode func([]byte) (any, error)
	}{
		{initiator, initiator.AppendObject(nil), func(b []byte) (any, error) { return DecodeInitiatorHandshakePayload(b) }},
		{responder, responder.AppendObject(nil), func(b []byte) (any, error) { return DecodeResponderHandshakePayload(b) }},
		{full, full.AppendObject(nil), func(b []byte) (any, error) { return DecodeDataPayload(b) }},
		{Ack{MessageID: "m-1"}, (&Ack{MessageID: "m-1"}).AppendObject(nil), func(b []byte) (any, error) { return DecodeAck(b) }},
		{ReEstablishSession{sessionID}, (&ReEstablishSession{sessionID}).AppendEnvelope(nil),
			func(b []byte) (any, error) { return DecodeReEstablishSession(b) }},
	} {
		if got, err := test.decode(append(bytes.Clone(test.octets), "trailing"...)); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%T: got %+v, %v, want %+v", test.want, got, err, test.want)
		}
		refuseTruncated(t, test.octets, func(b []byte) error { _, err := test.decode(b); return err })
	}
}

func TestGatewayResponsesOfAllReleasesAreRead(t *testing.T) {
	t.Parallel()
	for _, want := range []*GatewayResponse{
		{ID: "g-1"}, {"g-2", encryptedData(t)}, {"g-3", payloads(t)[0]},
	} {
		body := want.AppendBody(nil)
		if got, err := DecodeGatewayResponse(body); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		refuseTruncated(t, body, func(b []byte) error { _, err := DecodeGatewayResponse(b); return err })
	}
	old := avro.AppendEnvelope(nil, &gatewayResponse51, &ReEstablishSession{"g-4"}) // the same one string field
	if got, err := DecodeGatewayResponse(old); err != nil || got.ID != "g-4" || got.Payload != nil {
		t.Errorf("form of 5.1: got %+v, %v", got, err)
	}
}

func TestUnknownFingerprintsAreRefused(t *testing.T) {
	t.Parallel()
	other := (&ReEstablishSession{sessionID}).AppendEnvelope(nil)
	object := (&Header{SessionID: sessionID}).AppendObject(nil)
	for about, decode := range map[string]func() error{
		"gateway message":     func() error { _, err := DecodeGatewayMessage(other); return err },
		"gateway response":    func() error { _, err := DecodeGatewayResponse(other); return err },
		"data":                func() error { _, err := DecodeDataPayload(object); return err },
		"acknowledgement":     func() error { _, err := DecodeAck(object); return err },
		"initiator's payload": func() error { _, err := DecodeInitiatorHandshakePayload(object); return err },
		"responder's payload": func() error { _, err := DecodeResponderHandshakePayload(object); return err },
	} {
		if err := decode(); !errors.Is(err, avro.ErrUnknownType) {
			t.Errorf("%s: got %v, want ErrUnknownType", about, err)
		}
	}
}

func TestLargestFieldIsFiveMillionOctets(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		octets int
		want   error
	}{{avro.MaxField - 200, nil}, {avro.MaxField + 1, avro.ErrTooLarge}} {
		message := &UnauthenticatedMessage{"membership", "m", make([]byte, test.octets)}
		if _, err := DecodeGatewayMessage((&GatewayMessage{"g", message}).AppendBody(nil)); !errors.Is(err, test.want) {
			t.Errorf("%d octets: got %v, want %v", test.octets, err, test.want)
		}
	}
}

func refuseTruncated(t *testing.T, octets []byte, decode func([]byte) error) {
	t.Helper()
	for n := range octets {
		if err := decode(octets[:n]); !errors.Is(err, avro.ErrTruncated) {
			t.Errorf("%d octets of %d: got %v, want ErrTruncated", n, len(octets), err)
			return
		}
	}
}

func FuzzDecodeGatewayMessage(f *testing.F) {
	for _, payload := range payloads(f) {
		f.Add((&GatewayMessage{"id", payload}).AppendBody(nil))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		message, err := DecodeGatewayMessage(body)
		if err != nil {
			return
		}
		if again, err := DecodeGatewayMessage(message.AppendBody(nil)); err != nil || !reflect.DeepEqual(again, message) {
			t.Errorf("%+v reads back as %+v, %v", message, again, err)
		}
	})
}

func FuzzDecodeGatewayResponse(f *testing.F) {
	f.Add((&GatewayResponse{ID: "g-1"}).AppendBody(nil))
	f.Add((&GatewayResponse{"g-2", encryptedData(f)}).AppendBody(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		response, err := DecodeGatewayResponse(body)
		if err != nil {
			return
		}
		if again, err := DecodeGatewayResponse(response.AppendBody(nil)); err != nil || !reflect.DeepEqual(again, response) {
			t.Errorf("%+v reads back as %+v, %v", response, again, err)
		}
	})
}

func FuzzDecodeInnerRecords(f *testing.F) {
	vectors := interop.LinkSession(f)
	f.Add(dataPayload().AppendObject(nil))
	f.Add((&Ack{Form: Form52, Heartbeat: true}).AppendObject(nil))
	f.Add((&ReEstablishSession{sessionID}).AppendEnvelope(nil))
	f.Add(vectors.Get(f, "initiator.payload"))
	f.Add(vectors.Get(f, "responder.payload"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := DecodeDataPayload(b); err == nil {
			again, err := DecodeDataPayload(m.AppendObject(nil))
			same(t, m, again, err)
		}
		if m, err := DecodeAck(b); err == nil {
			again, err := DecodeAck(m.AppendObject(nil))
			same(t, m, again, err)
		}
		if m, err := DecodeReEstablishSession(b); err == nil {
			again, err := DecodeReEstablishSession(m.AppendEnvelope(nil))
			same(t, m, again, err)
		}
		if m, err := DecodeInitiatorHandshakePayload(b); err == nil {
			again, err := DecodeInitiatorHandshakePayload(m.AppendObject(nil))
			same(t, m, again, err)
		}
		if m, err := DecodeResponderHandshakePayload(b); err == nil {
			again, err := DecodeResponderHandshakePayload(m.AppendObject(nil))
			same(t, m, again, err)
		}
	})
}

func same(t *testing.T, want, got any, err error) {
	t.Helper()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v reads back as %+v, %v", want, got, err)
	}
}

func BenchmarkEncodeDataPayload1KiB(b *testing.B) {
	payload := dataPayload()
	payload.Message.Payload = []byte(strings.Repeat("x", 1024))
	buffer := payload.AppendObject(nil)
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		buffer = payload.AppendObject(buffer[:0])
	}
}

func BenchmarkDecodeDataPayload1KiB(b *testing.B) {
	payload := dataPayload()
	payload.Message.Payload = []byte(strings.Repeat("x", 1024))
	octets := payload.AppendObject(nil)
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeDataPayload(octets); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeGatewayMessage1KiB(b *testing.B) {
	message := &GatewayMessage{sessionID, NewEncryptedData(encryptedData(b).Header, make([]byte, 1400), make([]byte, 12))}
	buffer := message.AppendBody(nil)
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		buffer = message.AppendBody(buffer[:0])
	}
}

func BenchmarkDecodeGatewayMessage1KiB(b *testing.B) {
	body := (&GatewayMessage{sessionID, NewEncryptedData(encryptedData(b).Header, make([]byte, 1400), make([]byte, 12))}).AppendBody(nil)
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeGatewayMessage(body); err != nil {
			b.Fatal(err)
		}
	}
}
