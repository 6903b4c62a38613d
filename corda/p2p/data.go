package p2p

import (
	"fmt"

	"github.com/hawser-project/hawser/corda/avro"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
)

// EncryptedData carries data in mode AUTHENTICATED_ENCRYPTION: net.corda.data.p2p.crypto.AuthenticatedEncryptedDataMessage.
type EncryptedData struct{ sealed }

// NewEncryptedData returns the message.
func NewEncryptedData(header Header, ciphertext, authTag []byte) *EncryptedData {
	return &EncryptedData{sealed{header, ciphertext, authTag}}
}

func (m *EncryptedData) branch() int { return 1 }

// AuthenticatedData carries data in mode AUTHENTICATION_ONLY: net.corda.data.p2p.crypto.AuthenticatedDataMessage.
//
//	header   CommonHeader  // DATA
//	payload  bytes         // in clear
//	authTag  bytes         // HMAC-SHA256
type AuthenticatedData struct {
	Header  Header
	Payload []byte
	AuthTag []byte
}

// AppendRaw appends the fields.
func (m *AuthenticatedData) AppendRaw(b []byte) []byte {
	b = m.Header.AppendRaw(b)
	b = avro.AppendBytes(b, m.Payload)
	return avro.AppendBytes(b, m.AuthTag)
}

// CommonHeader returns the header.
func (m *AuthenticatedData) CommonHeader() *Header { return &m.Header }

func (m *AuthenticatedData) branch() int { return 0 }

func (m *AuthenticatedData) read(r *avro.Reader) {
	m.Header.read(r)
	m.Payload = r.Bytes()
	m.AuthTag = r.Bytes()
}

// An UnauthenticatedMessage comes without a link session: net.corda.data.p2p.app.InboundUnauthenticatedMessage. Nothing
// in it can be believed.
//
//	header       InboundUnauthenticatedMessageHeader
//	  subsystem  string
//	  messageId  string
//	payload      bytes
type UnauthenticatedMessage struct {
	Subsystem string
	MessageID string
	Payload   []byte
}

// AppendRaw appends the fields.
func (m *UnauthenticatedMessage) AppendRaw(b []byte) []byte {
	b = avro.AppendString(b, m.Subsystem)
	b = avro.AppendString(b, m.MessageID)
	return avro.AppendBytes(b, m.Payload)
}

// CommonHeader returns nil: there is none.
func (m *UnauthenticatedMessage) CommonHeader() *Header { return nil }

func (m *UnauthenticatedMessage) branch() int { return 6 }

func (m *UnauthenticatedMessage) read(r *avro.Reader) {
	m.Subsystem = r.String("membership")
	m.MessageID = r.String()
	m.Payload = r.Bytes()
}

// A Form is one of the two schemas of DataMessagePayload and MessageAck. Their octets differ in the fingerprint only,
// but each release of Corda reads just its own (spec/p2p-wire.md 1.7).
type Form int

const (
	// Form53 is that of Corda 5.3.
	Form53 Form = iota
	// Form52 is that of Corda 5.0 to 5.2. It also knows heartbeats, which 5.0 and 5.1 send.
	Form52
)

// FormFor returns the form that a member's platform version (corda.platformVersion) reads. It may be out of date: the
// form last seen from the member goes before it.
func FormFor(platformVersion int) Form {
	if platformVersion >= 50300 {
		return Form53
	}
	return Form52
}

// An Identity is a holding identity as it travels, its name not parsed: net.corda.data.identity.HoldingIdentity.
//
//	x500Name  string  // canonical when sent
//	groupId   string
type Identity struct {
	X500Name string
	GroupID  string
}

// IdentityOf returns an identity in its travelling form.
func IdentityOf(h identity.HoldingIdentity) Identity { return Identity{h.Name.String(), h.GroupID} }

// Parse reads the name.
func (i Identity) Parse() (identity.HoldingIdentity, error) {
	name, err := x500.Parse(i.X500Name)
	return identity.HoldingIdentity{Name: name, GroupID: i.GroupID}, err
}

func (i Identity) appendRaw(b []byte) []byte {
	return avro.AppendString(avro.AppendString(b, i.X500Name), i.GroupID)
}

// A StatusFilter says by which of the destination's member records a message is sent. It is the sender's own affair
// and not used on receipt: net.corda.data.p2p.app.MembershipStatusFilter.
type StatusFilter int

// The status filters, in wire order.
const (
	Pending StatusFilter = iota
	Active
	ActiveOrSuspended
	ActiveIfPresentOrPending
	ActiveOrSuspendedIfPresentOrPending
	statusFilterCount int = iota
)

// An AuthenticatedMessage is one member's message to another: net.corda.data.p2p.app.AuthenticatedMessage.
//
//	header          AuthenticatedMessageHeader
//	  destination   HoldingIdentity
//	  source        HoldingIdentity
//	  ttl           union[null, long]  // when it expires, epoch milliseconds
//	  messageId     string
//	  traceId       union[null, string]
//	  subsystem     string
//	  statusFilter  enum MembershipStatusFilter
//	payload         bytes
type AuthenticatedMessage struct {
	Destination  Identity
	Source       Identity
	TTL          avro.Optional[int64]
	MessageID    string
	TraceID      avro.Optional[string]
	Subsystem    string
	StatusFilter StatusFilter
	Payload      []byte
}

// AppendRaw appends the fields.
func (m *AuthenticatedMessage) AppendRaw(b []byte) []byte {
	b = m.Destination.appendRaw(b)
	b = m.Source.appendRaw(b)
	b = avro.AppendOptionalLong(b, m.TTL)
	b = avro.AppendString(b, m.MessageID)
	b = avro.AppendOptionalString(b, m.TraceID)
	b = avro.AppendString(b, m.Subsystem)
	b = avro.AppendLong(b, int64(m.StatusFilter))
	return avro.AppendBytes(b, m.Payload)
}

func (m *AuthenticatedMessage) read(r *avro.Reader) {
	m.Destination.X500Name = r.String()
	m.Destination.GroupID = r.String()
	m.Source.X500Name = r.String()
	m.Source.GroupID = r.String(m.Destination.GroupID)
	if r.Index(2) == 1 {
		m.TTL = avro.Some(r.Long())
	}
	m.MessageID = r.String()
	if r.Index(2) == 1 {
		m.TraceID = avro.Some(r.String())
	}
	m.Subsystem = r.String("flowSession", "membership", "link-manager")
	m.StatusFilter = StatusFilter(r.Index(statusFilterCount))
	m.Payload = r.Bytes()
}

// A DataPayload is the plaintext from initiator to responder: net.corda.data.p2p.DataMessagePayload.
//
//	message    union[AuthenticatedMessageAndKey]                    // 5.3
//	           union[AuthenticatedMessageAndKey, HeartbeatMessage]  // 5.0 to 5.2
//	  message  AuthenticatedMessage
//	  key      string  // of the record that the message becomes on the receiver's bus
type DataPayload struct {
	Form      Form
	Heartbeat bool // Form52 only; the other fields are then empty
	Message   AuthenticatedMessage
	Key       string
}

// AppendRaw appends the fields. A heartbeat is written in Form52 only.
func (m *DataPayload) AppendRaw(b []byte) []byte {
	if m.Heartbeat && m.Form == Form52 {
		return avro.AppendLong(b, 1)
	}
	b = m.Message.AppendRaw(avro.AppendLong(b, 0))
	return avro.AppendString(b, m.Key)
}

// AppendObject appends the plaintext of a data message.
func (m *DataPayload) AppendObject(b []byte) []byte {
	return avro.AppendObject(b, &dataMessagePayload[m.Form&1], m)
}

// DecodeDataPayload reads the single-object encoding in either form.
func DecodeDataPayload(b []byte) (*DataPayload, error) {
	m := new(DataPayload)
	form, r, err := openForm(b, &dataMessagePayload)
	if err != nil {
		return nil, fmt.Errorf("data message: %w", err)
	}
	m.Form = form
	m.Heartbeat = readBranch(&r, form)
	if !m.Heartbeat {
		m.Message.read(&r)
		m.Key = r.String()
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("data message: %w", err)
	}
	return m, nil
}

// An Ack is the plaintext from responder to initiator: net.corda.data.p2p.MessageAck.
//
//	ack          union[AuthenticatedMessageAck]                       // 5.3
//	             union[AuthenticatedMessageAck, HeartbeatMessageAck]  // 5.0 to 5.2
//	  messageId  string
//
// It has the form of the message that it acknowledges.
type Ack struct {
	Form      Form
	Heartbeat bool // Form52 only; MessageID is then empty
	MessageID string
}

// AppendRaw appends the fields. A heartbeat's acknowledgement is written in Form52 only.
func (m *Ack) AppendRaw(b []byte) []byte {
	if m.Heartbeat && m.Form == Form52 {
		return avro.AppendLong(b, 1)
	}
	return avro.AppendString(avro.AppendLong(b, 0), m.MessageID)
}

// AppendObject appends the plaintext of an acknowledgement.
func (m *Ack) AppendObject(b []byte) []byte { return avro.AppendObject(b, &messageAck[m.Form&1], m) }

// DecodeAck reads the single-object encoding in either form.
func DecodeAck(b []byte) (Ack, error) {
	var m Ack
	form, r, err := openForm(b, &messageAck)
	if err != nil {
		return m, fmt.Errorf("acknowledgement: %w", err)
	}
	m.Form = form
	m.Heartbeat = readBranch(&r, form)
	if !m.Heartbeat {
		m.MessageID = r.String()
	}
	if err := r.Err(); err != nil {
		return Ack{}, fmt.Errorf("acknowledgement: %w", err)
	}
	return m, nil
}

// openForm opens a single-object encoding whose type has two forms.
func openForm(b []byte, types *[2]avro.Type) (Form, avro.Reader, error) {
	fingerprint, record, err := avro.OpenObject(b)
	if err != nil {
		return 0, avro.Reader{}, err
	}
	for form := range types {
		if fingerprint == types[form].Object {
			return Form(form), avro.NewReader(record), nil
		}
	}
	return 0, avro.Reader{}, fmt.Errorf("%w: %x", avro.ErrUnknownType, fingerprint)
}

// readBranch reads the union that begins both records, and reports whether it is a heartbeat, which is an empty record.
func readBranch(r *avro.Reader, form Form) (heartbeat bool) {
	branches := 1
	if form == Form52 {
		branches = 2
	}
	return r.Index(branches) == 1
}

// ReEstablishSession asks the initiator to give up a session that the responder no longer has. It is the payload of an
// AuthenticatedMessage of subsystem link-manager: net.corda.data.p2p.ReEstablishSessionMessage.
//
//	sessionId  string
type ReEstablishSession struct {
	SessionID string
}

// AppendRaw appends the field.
func (m *ReEstablishSession) AppendRaw(b []byte) []byte { return avro.AppendString(b, m.SessionID) }

// AppendEnvelope appends the message's payload.
func (m *ReEstablishSession) AppendEnvelope(b []byte) []byte {
	return avro.AppendEnvelope(b, &reEstablishSession, m)
}

// DecodeReEstablishSession reads what AppendEnvelope wrote.
func DecodeReEstablishSession(b []byte) (ReEstablishSession, error) {
	record, err := avro.OpenEnvelopeOf(b, &reEstablishSession)
	if err != nil {
		return ReEstablishSession{}, fmt.Errorf("re-establish session: %w", err)
	}
	r := avro.NewReader(record)
	m := ReEstablishSession{SessionID: r.String()}
	if err := r.Err(); err != nil {
		return ReEstablishSession{}, fmt.Errorf("re-establish session: %w", err)
	}
	return m, nil
}
