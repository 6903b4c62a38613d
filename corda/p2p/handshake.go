package p2p

import "github.com/hawser-project/hawser/corda/avro"

// An InitiatorHello opens a handshake: net.corda.data.p2p.crypto.InitiatorHelloMessage.
//
//	header              CommonHeader  // INITIATOR_HELLO, sequence 0
//	initiatorPublicKey  bytes         // ephemeral X25519 key, SubjectPublicKeyInfo
//	source              internal.InitiatorHandshakeIdentity
//	  initiatorPublicKeyHash  bytes   // SHA-256 of the initiator's session key, SubjectPublicKeyInfo
//	  groupId                 string
type InitiatorHello struct {
	Header    Header
	PublicKey []byte
	KeyHash   []byte
	GroupID   string
}

// AppendRaw appends the fields.
func (m *InitiatorHello) AppendRaw(b []byte) []byte {
	b = m.Header.AppendRaw(b)
	b = avro.AppendBytes(b, m.PublicKey)
	b = avro.AppendBytes(b, m.KeyHash)
	return avro.AppendString(b, m.GroupID)
}

// AppendObject appends what stands in the handshake's transcript.
func (m *InitiatorHello) AppendObject(b []byte) []byte {
	return avro.AppendObject(b, &initiatorHello, m)
}

// CommonHeader returns the header.
func (m *InitiatorHello) CommonHeader() *Header { return &m.Header }

func (m *InitiatorHello) branch() int { return 2 }

func (m *InitiatorHello) read(r *avro.Reader) {
	m.Header.read(r)
	m.PublicKey = r.Bytes()
	m.KeyHash = r.Bytes()
	m.GroupID = r.String()
}

// A ResponderHello answers an InitiatorHello: net.corda.data.p2p.crypto.ResponderHelloMessage.
//
//	header              CommonHeader  // RESPONDER_HELLO, sequence 0
//	responderPublicKey  bytes         // ephemeral X25519 key, SubjectPublicKeyInfo
type ResponderHello struct {
	Header    Header
	PublicKey []byte
}

// AppendRaw appends the fields.
func (m *ResponderHello) AppendRaw(b []byte) []byte {
	return avro.AppendBytes(m.Header.AppendRaw(b), m.PublicKey)
}

// AppendObject appends what stands in the handshake's transcript.
func (m *ResponderHello) AppendObject(b []byte) []byte {
	return avro.AppendObject(b, &responderHello, m)
}

// CommonHeader returns the header.
func (m *ResponderHello) CommonHeader() *Header { return &m.Header }

func (m *ResponderHello) branch() int { return 4 }

func (m *ResponderHello) read(r *avro.Reader) {
	m.Header.read(r)
	m.PublicKey = r.Bytes()
}

// sealed is the form that three messages share: ciphertext and tag, cut in two somewhere within the tag. Corda cuts
// twelve octets before the end; a reader joins the two again (spec/p2p-wire.md 3.4).
//
//	header         CommonHeader
//	encryptedData  bytes  // encryptedPayload in AuthenticatedEncryptedDataMessage
//	authTag        bytes
type sealed struct {
	Header     Header
	Ciphertext []byte
	AuthTag    []byte
}

// AppendRaw appends the fields.
func (m *sealed) AppendRaw(b []byte) []byte {
	b = m.Header.AppendRaw(b)
	b = avro.AppendBytes(b, m.Ciphertext)
	return avro.AppendBytes(b, m.AuthTag)
}

// CommonHeader returns the header.
func (m *sealed) CommonHeader() *Header { return &m.Header }

func (m *sealed) read(r *avro.Reader) {
	m.Header.read(r)
	m.Ciphertext = r.Bytes()
	m.AuthTag = r.Bytes()
}

// An InitiatorHandshake proves the initiator: net.corda.data.p2p.crypto.InitiatorHandshakeMessage, an encrypted
// InitiatorHandshakePayload under header INITIATOR_HANDSHAKE, sequence 1.
type InitiatorHandshake struct{ sealed }

// NewInitiatorHandshake returns the message.
func NewInitiatorHandshake(header Header, ciphertext, authTag []byte) *InitiatorHandshake {
	return &InitiatorHandshake{sealed{header, ciphertext, authTag}}
}

func (m *InitiatorHandshake) branch() int { return 3 }

// A ResponderHandshake proves the responder: net.corda.data.p2p.crypto.ResponderHandshakeMessage, an encrypted
// ResponderHandshakePayload under header RESPONDER_HANDSHAKE, sequence 1.
type ResponderHandshake struct{ sealed }

// NewResponderHandshake returns the message.
func NewResponderHandshake(header Header, ciphertext, authTag []byte) *ResponderHandshake {
	return &ResponderHandshake{sealed{header, ciphertext, authTag}}
}

func (m *ResponderHandshake) branch() int { return 5 }

// A ProtocolMode is net.corda.data.p2p.crypto.ProtocolMode.
type ProtocolMode int

// The protocol modes, in wire order.
const (
	AuthenticationOnly ProtocolMode = iota
	AuthenticatedEncryption
	protocolModeCount int = iota
)

// String returns Corda's word.
func (m ProtocolMode) String() string {
	switch m {
	case AuthenticationOnly:
		return "AUTHENTICATION_ONLY"
	case AuthenticatedEncryption:
		return "AUTHENTICATED_ENCRYPTION"
	}
	return "unknown mode"
}

func appendMode(b []byte, mode ProtocolMode) []byte { return avro.AppendLong(b, int64(mode)) }

func readMode(r *avro.Reader) ProtocolMode { return ProtocolMode(r.Index(protocolModeCount)) }

// An InitiatorHandshakePayload is what the initiator says under encryption:
// net.corda.data.p2p.crypto.internal.InitiatorHandshakePayload.
//
//	initiatorEncryptedExtensions  internal.InitiatorEncryptedExtensions
//	  responderPublicKeyHash      bytes  // of the responder's first session key
//	  groupId                     string
//	  maxMessageSize              int
//	  initiatorCertificate        union[null, array of string]  // PEM, leaf first
//	  supportedModes              array of ProtocolMode
//	initiatorPublicKeyHash        bytes
//	initiatorPartyVerify          bytes  // signature
//	initiatorFinished             bytes  // MAC
type InitiatorHandshakePayload struct {
	ResponderKeyHash []byte
	GroupID          string
	MaxMessageSize   int32
	Certificate      avro.Optional[[]string]
	SupportedModes   []ProtocolMode
	KeyHash          []byte
	PartyVerify      []byte
	Finished         []byte
}

// AppendRaw appends the fields.
func (m *InitiatorHandshakePayload) AppendRaw(b []byte) []byte {
	b = avro.AppendBytes(b, m.ResponderKeyHash)
	b = avro.AppendString(b, m.GroupID)
	b = avro.AppendLong(b, int64(m.MaxMessageSize))
	b = appendCertificate(b, m.Certificate)
	b = avro.AppendArray(b, m.SupportedModes, appendMode)
	b = avro.AppendBytes(b, m.KeyHash)
	b = avro.AppendBytes(b, m.PartyVerify)
	return avro.AppendBytes(b, m.Finished)
}

// AppendObject appends what is encrypted, signed and authenticated.
func (m *InitiatorHandshakePayload) AppendObject(b []byte) []byte {
	return avro.AppendObject(b, &initiatorHandshakePayload, m)
}

// DecodeInitiatorHandshakePayload reads the single-object encoding.
func DecodeInitiatorHandshakePayload(b []byte) (*InitiatorHandshakePayload, error) {
	m := new(InitiatorHandshakePayload)
	return m, decodeObject(b, &initiatorHandshakePayload, m)
}

func (m *InitiatorHandshakePayload) read(r *avro.Reader) {
	m.ResponderKeyHash = r.Bytes()
	m.GroupID = r.String()
	m.MaxMessageSize = r.Int()
	m.Certificate = readCertificate(r)
	for range r.Items() {
		m.SupportedModes = append(m.SupportedModes, readMode(r))
	}
	m.KeyHash = r.Bytes()
	m.PartyVerify = r.Bytes()
	m.Finished = r.Bytes()
}

// A ResponderHandshakePayload is what the responder says under encryption:
// net.corda.data.p2p.crypto.internal.ResponderHandshakePayload.
//
//	responderEncryptedExtensions  internal.ResponderEncryptedExtensions
//	  maxMessageSize              int    // agreed
//	  responderCertificate        union[null, array of string]  // PEM, leaf first
//	  selectedMode                ProtocolMode
//	responderPublicKeyHash        bytes
//	responderPartyVerify          bytes  // signature
//	responderFinished             bytes  // MAC
type ResponderHandshakePayload struct {
	MaxMessageSize int32
	Certificate    avro.Optional[[]string]
	SelectedMode   ProtocolMode
	KeyHash        []byte
	PartyVerify    []byte
	Finished       []byte
}

// AppendRaw appends the fields.
func (m *ResponderHandshakePayload) AppendRaw(b []byte) []byte {
	b = avro.AppendLong(b, int64(m.MaxMessageSize))
	b = appendCertificate(b, m.Certificate)
	b = appendMode(b, m.SelectedMode)
	b = avro.AppendBytes(b, m.KeyHash)
	b = avro.AppendBytes(b, m.PartyVerify)
	return avro.AppendBytes(b, m.Finished)
}

// AppendObject appends what is encrypted, signed and authenticated.
func (m *ResponderHandshakePayload) AppendObject(b []byte) []byte {
	return avro.AppendObject(b, &responderHandshakePayload, m)
}

// DecodeResponderHandshakePayload reads the single-object encoding.
func DecodeResponderHandshakePayload(b []byte) (*ResponderHandshakePayload, error) {
	m := new(ResponderHandshakePayload)
	return m, decodeObject(b, &responderHandshakePayload, m)
}

func (m *ResponderHandshakePayload) read(r *avro.Reader) {
	m.MaxMessageSize = r.Int()
	m.Certificate = readCertificate(r)
	m.SelectedMode = readMode(r)
	m.KeyHash = r.Bytes()
	m.PartyVerify = r.Bytes()
	m.Finished = r.Bytes()
}

func appendCertificate(b []byte, chain avro.Optional[[]string]) []byte {
	if !chain.Set {
		return avro.AppendLong(b, 0)
	}
	return avro.AppendArray(avro.AppendLong(b, 1), chain.Value, avro.AppendString)
}

func readCertificate(r *avro.Reader) (chain avro.Optional[[]string]) {
	if r.Index(2) == 0 {
		return chain
	}
	chain.Set = true
	for range r.Items() {
		chain.Value = append(chain.Value, r.String())
	}
	return chain
}
