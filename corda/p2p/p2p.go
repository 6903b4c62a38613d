// Package p2p has the messages that Corda clusters send each other: one struct per message, its octets and back
// (spec/p2p-wire.md 2), and the rules by which gateways name and recognise each other (sni.go). It does not decide
// what a message is answered with, and knows no keys: sealing is package session, delivery the link manager.
//
// An HTTP body is a GatewayMessage or GatewayResponse in the registry envelope. What is signed, authenticated or
// encrypted is in single-object encoding: methods named AppendObject make it, functions named Decode read it.
// Octets after a record are ignored, as Corda ignores them; anything else out of place is an error. Byte slices of a
// decoded message are parts of the input.
package p2p

import (
	"fmt"

	"github.com/hawser-project/hawser/corda/avro"
)

// ProtocolVersion is the only version there is.
const ProtocolVersion = 1

// A Header begins every link message but the unauthenticated one: net.corda.data.p2p.crypto.CommonHeader.
//
//	messageType      enum MessageType
//	protocolVersion  int     // 1
//	sessionId        string  // chosen by the initiator
//	sequenceNo       long    // 0 in hellos, 1 in handshakes, part of the nonce in data
//	timestamp        long    // sender's clock, epoch milliseconds; receivers do not check it
type Header struct {
	Type       MessageType
	Version    int32
	SessionID  string
	SequenceNo int64
	Timestamp  int64
}

// A MessageType is net.corda.data.p2p.crypto.MessageType.
type MessageType int

// The message types, in wire order.
const (
	TypeInitiatorHello MessageType = iota
	TypeResponderHello
	TypeInitiatorHandshake
	TypeResponderHandshake
	TypeData
	messageTypeCount int = iota
)

// AppendRaw appends the fields.
func (h *Header) AppendRaw(b []byte) []byte {
	b = avro.AppendLong(b, int64(h.Type))
	b = avro.AppendLong(b, int64(h.Version))
	b = avro.AppendString(b, h.SessionID)
	b = avro.AppendLong(b, h.SequenceNo)
	return avro.AppendLong(b, h.Timestamp)
}

// AppendObject appends what stands as additional data in every authenticated message.
func (h *Header) AppendObject(b []byte) []byte { return avro.AppendObject(b, &commonHeader, h) }

func (h *Header) read(r *avro.Reader) {
	h.Type = MessageType(r.Index(messageTypeCount))
	h.Version = r.Int()
	h.SessionID = r.String()
	h.SequenceNo = r.Long()
	h.Timestamp = r.Long()
}

// A Payload is what a GatewayMessage carries: one of the seven pointer types that implement it.
type Payload interface {
	avro.Record
	read(r *avro.Reader)
	branch() int
	// CommonHeader returns the header, or nil for an unauthenticated message, which has none.
	CommonHeader() *Header
}

// newPayload returns an empty payload for a branch of the union in GatewayMessage.
func newPayload(branch int) Payload {
	switch branch {
	case 0:
		return new(AuthenticatedData)
	case 1:
		return new(EncryptedData)
	case 2:
		return new(InitiatorHello)
	case 3:
		return new(InitiatorHandshake)
	case 4:
		return new(ResponderHello)
	case 5:
		return new(ResponderHandshake)
	default:
		return new(UnauthenticatedMessage)
	}
}

const payloadBranches = 7

// AppendPayload appends a payload with its union branch, as it stands in GatewayMessage and in Corda's LinkInMessage.
func AppendPayload(b []byte, payload Payload) []byte {
	return payload.AppendRaw(avro.AppendLong(b, int64(payload.branch())))
}

// DecodePayload reads what AppendPayload wrote.
func DecodePayload(b []byte) (Payload, error) {
	r := avro.NewReader(b)
	payload := readPayload(&r)
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("link message: %w", err)
	}
	return payload, nil
}

func readPayload(r *avro.Reader) Payload {
	payload := newPayload(r.Index(payloadBranches))
	payload.read(r)
	return payload
}

// A GatewayMessage is the body of a request between gateways: net.corda.data.p2p.gateway.GatewayMessage.
//
//	id       string  // for correlation only
//	payload  union   // see newPayload for the order
type GatewayMessage struct {
	ID      string
	Payload Payload
}

// AppendRaw appends the fields. The payload must not be nil.
func (m *GatewayMessage) AppendRaw(b []byte) []byte {
	return AppendPayload(avro.AppendString(b, m.ID), m.Payload)
}

// AppendBody appends the HTTP body.
func (m *GatewayMessage) AppendBody(b []byte) []byte {
	return avro.AppendEnvelope(b, &gatewayMessage, m)
}

// DecodeGatewayMessage reads an HTTP request body. The caller bounds its length.
func DecodeGatewayMessage(body []byte) (*GatewayMessage, error) {
	record, err := avro.OpenEnvelopeOf(body, &gatewayMessage)
	if err != nil {
		return nil, fmt.Errorf("gateway message: %w", err)
	}
	r := avro.NewReader(record)
	m := &GatewayMessage{ID: r.String(), Payload: readPayload(&r)}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("gateway message: %w", err)
	}
	return m, nil
}

// A GatewayResponse is the body of an answer between gateways: net.corda.data.p2p.gateway.GatewayResponse.
//
//	id       string  // of the request
//	payload  union[null, AuthenticatedEncryptedDataMessage, AuthenticatedDataMessage]  // absent before 5.2
//
// Corda always writes a null payload, and does not read answers at all.
type GatewayResponse struct {
	ID      string
	Payload Payload // nil, *EncryptedData or *AuthenticatedData
}

// AppendRaw appends the fields. A payload of any other type than the two is written as null.
func (m *GatewayResponse) AppendRaw(b []byte) []byte {
	b = avro.AppendString(b, m.ID)
	switch payload := m.Payload.(type) {
	case *EncryptedData:
		return payload.AppendRaw(avro.AppendLong(b, 1))
	case *AuthenticatedData:
		return payload.AppendRaw(avro.AppendLong(b, 2))
	}
	return avro.AppendLong(b, 0)
}

// AppendBody appends the HTTP body.
func (m *GatewayResponse) AppendBody(b []byte) []byte {
	return avro.AppendEnvelope(b, &gatewayResponse, m)
}

// DecodeGatewayResponse reads an HTTP response body in the form of 5.2 and 5.3 or in that of 5.0 and 5.1.
func DecodeGatewayResponse(body []byte) (*GatewayResponse, error) {
	fingerprint, record, err := avro.OpenEnvelope(body)
	if err != nil {
		return nil, fmt.Errorf("gateway response: %w", err)
	}
	r := avro.NewReader(record)
	m := new(GatewayResponse)
	switch fingerprint {
	case gatewayResponse.Registry:
		m.ID = r.String()
		m.readPayload(&r)
	case gatewayResponse51.Registry:
		m.ID = r.String()
	default:
		return nil, fmt.Errorf("gateway response: %w", avro.ErrUnknownType)
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("gateway response: %w", err)
	}
	return m, nil
}

func (m *GatewayResponse) readPayload(r *avro.Reader) {
	switch r.Index(3) {
	case 1:
		m.Payload = new(EncryptedData)
	case 2:
		m.Payload = new(AuthenticatedData)
	default:
		return
	}
	m.Payload.read(r)
}

// decodeObject reads a record in single-object encoding, whatever follows it.
func decodeObject(b []byte, t *avro.Type, record interface{ read(*avro.Reader) }) error {
	octets, err := avro.OpenObjectOf(b, t)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	r := avro.NewReader(octets)
	record.read(&r)
	if err := r.Err(); err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	return nil
}
