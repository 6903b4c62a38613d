package p2p

import (
	"encoding/hex"
	"testing"

	"github.com/hawser-project/hawser/corda/avro"
)

// The schemas of spec/p2p-wire.md 2, from which the fingerprints in fingerprints.go and in 2.9 follow.

const (
	null      = avro.Primitive("null")
	textType  = avro.Primitive("string")
	bytesType = avro.Primitive("bytes")
	intType   = avro.Primitive("int")
	longType  = avro.Primitive("long")

	data     = "net.corda.data."
	app      = data + "p2p.app."
	crypto   = data + "p2p.crypto."
	internal = crypto + "internal."
	gateway  = data + "p2p.gateway."
)

func record(name string, fields ...avro.Field) avro.RecordSchema {
	return avro.RecordSchema{Name: name, Fields: fields}
}

func field(name string, of avro.Schema) avro.Field { return avro.Field{Name: name, Type: of} }

func optional(of avro.Schema) avro.Union { return avro.Union{null, of} }

var (
	headerSchema = record(crypto+"CommonHeader",
		field("messageType", avro.Enum{Name: crypto + "MessageType", Symbols: []string{
			"INITIATOR_HELLO", "RESPONDER_HELLO", "INITIATOR_HANDSHAKE", "RESPONDER_HANDSHAKE", "DATA"}}),
		field("protocolVersion", intType), field("sessionId", textType), field("sequenceNo", longType), field("timestamp", longType))
	handshakeIdentitySchema = record(internal+"InitiatorHandshakeIdentity",
		field("initiatorPublicKeyHash", bytesType), field("groupId", textType))
	initiatorHelloSchema = record(crypto+"InitiatorHelloMessage",
		field("header", headerSchema), field("initiatorPublicKey", bytesType), field("source", handshakeIdentitySchema))
	responderHelloSchema = record(crypto+"ResponderHelloMessage",
		field("header", headerSchema), field("responderPublicKey", bytesType))
	initiatorHandshakeSchema = record(crypto+"InitiatorHandshakeMessage",
		field("header", headerSchema), field("encryptedData", bytesType), field("authTag", bytesType))
	responderHandshakeSchema = record(crypto+"ResponderHandshakeMessage",
		field("header", headerSchema), field("encryptedData", bytesType), field("authTag", bytesType))
	modeSchema = avro.Enum{Name: crypto + "ProtocolMode", Symbols: []string{"AUTHENTICATION_ONLY", "AUTHENTICATED_ENCRYPTION"}}

	initiatorExtensionsSchema = record(internal+"InitiatorEncryptedExtensions",
		field("responderPublicKeyHash", bytesType), field("groupId", textType), field("maxMessageSize", intType),
		field("initiatorCertificate", optional(avro.Array{Items: textType})), field("supportedModes", avro.Array{Items: modeSchema}))
	initiatorPayloadSchema = record(internal+"InitiatorHandshakePayload",
		field("initiatorEncryptedExtensions", initiatorExtensionsSchema), field("initiatorPublicKeyHash", bytesType),
		field("initiatorPartyVerify", bytesType), field("initiatorFinished", bytesType))
	responderExtensionsSchema = record(internal+"ResponderEncryptedExtensions",
		field("maxMessageSize", intType), field("responderCertificate", optional(avro.Array{Items: textType})),
		field("selectedMode", modeSchema))
	responderPayloadSchema = record(internal+"ResponderHandshakePayload",
		field("responderEncryptedExtensions", responderExtensionsSchema), field("responderPublicKeyHash", bytesType),
		field("responderPartyVerify", bytesType), field("responderFinished", bytesType))

	authenticatedDataSchema = record(crypto+"AuthenticatedDataMessage",
		field("header", headerSchema), field("payload", bytesType), field("authTag", bytesType))
	encryptedDataSchema = record(crypto+"AuthenticatedEncryptedDataMessage",
		field("header", headerSchema), field("encryptedPayload", bytesType), field("authTag", bytesType))

	identitySchema      = record(data+"identity.HoldingIdentity", field("x500Name", textType), field("groupId", textType))
	messageHeaderSchema = record(app+"AuthenticatedMessageHeader",
		field("destination", identitySchema), field("source", identitySchema), field("ttl", optional(longType)),
		field("messageId", textType), field("traceId", optional(textType)), field("subsystem", textType),
		field("statusFilter", avro.Enum{Name: app + "MembershipStatusFilter", Symbols: []string{"PENDING", "ACTIVE",
			"ACTIVE_OR_SUSPENDED", "ACTIVE_IF_PRESENT_OR_PENDING", "ACTIVE_OR_SUSPENDED_IF_PRESENT_OR_PENDING"}}))
	messageSchema         = record(app+"AuthenticatedMessage", field("header", messageHeaderSchema), field("payload", bytesType))
	unauthenticatedSchema = record(app+"InboundUnauthenticatedMessage",
		field("header", record(app+"InboundUnauthenticatedMessageHeader", field("subsystem", textType), field("messageId", textType))),
		field("payload", bytesType))

	messageAndKeySchema = record(data+"p2p.AuthenticatedMessageAndKey", field("message", messageSchema), field("key", textType))
	ackBodySchema       = record(data+"p2p.AuthenticatedMessageAck", field("messageId", textType))
	heartbeatSchema     = record(data + "p2p.HeartbeatMessage")
	heartbeatAckSchema  = record(data + "p2p.HeartbeatMessageAck")

	gatewayMessageSchema = record(gateway+"GatewayMessage", field("id", textType), field("payload", avro.Union{
		authenticatedDataSchema, encryptedDataSchema, initiatorHelloSchema, initiatorHandshakeSchema,
		responderHelloSchema, responderHandshakeSchema, unauthenticatedSchema}))
	gatewayResponseSchema = record(gateway+"GatewayResponse", field("id", textType), field("payload", avro.Union{
		null, encryptedDataSchema, authenticatedDataSchema}))
	gatewayResponse51Schema = record(gateway+"GatewayResponse", field("id", textType))
	reEstablishSchema       = record(data+"p2p.ReEstablishSessionMessage", field("sessionId", textType))
)

func payloadSchema(branches ...avro.Schema) avro.RecordSchema {
	return record(data+"p2p.DataMessagePayload", field("message", avro.Union(branches)))
}

func ackSchema(branches ...avro.Schema) avro.RecordSchema {
	return record(data+"p2p.MessageAck", field("ack", avro.Union(branches)))
}

func TestFingerprintsFollowFromTheSchemas(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		about  string
		schema avro.RecordSchema
		want   avro.Type
	}{
		{"gateway message", gatewayMessageSchema, gatewayMessage},
		{"gateway response", gatewayResponseSchema, gatewayResponse},
		{"gateway response of 5.1", gatewayResponse51Schema, gatewayResponse51},
		{"header", headerSchema, commonHeader},
		{"initiator's hello", initiatorHelloSchema, initiatorHello},
		{"responder's hello", responderHelloSchema, responderHello},
		{"initiator's payload", initiatorPayloadSchema, initiatorHandshakePayload},
		{"responder's payload", responderPayloadSchema, responderHandshakePayload},
		{"data", payloadSchema(messageAndKeySchema), dataMessagePayload[Form53]},
		{"data of 5.2", payloadSchema(messageAndKeySchema, heartbeatSchema), dataMessagePayload[Form52]},
		{"acknowledgement", ackSchema(ackBodySchema), messageAck[Form53]},
		{"acknowledgement of 5.2", ackSchema(ackBodySchema, heartbeatAckSchema), messageAck[Form52]},
		{"re-establish session", reEstablishSchema, reEstablishSession},
	} {
		if got := avro.Fingerprints(test.schema); got != test.want {
			t.Errorf("%s:\ngot  %x\nwant %x", test.about, got, test.want)
		}
	}
}

// Records that only ever occur within others: nothing reads these fingerprints, but they pin our schemas down.
func TestFingerprintsOfInnerRecordsAreCordas(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		schema         avro.RecordSchema
		sha256, object string
	}{
		{authenticatedDataSchema, "2e0a76c61f8b498ee97329115fc3ce203e2d134412c83dc7426c87df2264a6d5", "f72f615535e31e3d"},
		{encryptedDataSchema, "5e7057c4f03227fbbf8b3a0550fbf19d926a77bf069840922e2716a9a80ea4f7", "5be76e6992e8f22a"},
		{initiatorHandshakeSchema, "4c7f6fd420d9b9577f380d0c3be92f4a2015f629cabe36bcc8d9b76e944f4108", "a6b7c01fd1f9a9bb"},
		{responderHandshakeSchema, "a76b3374ef809957f69c4f0f4741405c4deb17d02d01f99829cf29b770357d7a", "c4b9ce7dd18ab2f1"},
		{initiatorExtensionsSchema, "bdbd7b7d3c020ba60ba3cfb5e4fabcd66273fdbeb8f7f40f6ccd2948da223790", "ed899fe82c497fc0"},
		{handshakeIdentitySchema, "ebebcdaa9cd51e4e0f7401229a9ea26255fb06bb381319dc780f9051d51ad681", "2530358167efcbb6"},
		{responderExtensionsSchema, "4805ef567e189b84a4f90a8b7243866f2f2df34195888e428abbb7fb85b3707e", "e6bbe9edc1d60683"},
		{ackBodySchema, "0bf68c63b859e83ca8bc5df0a8efab9cffd0374fe180543761085b7e26841631", "e4686a2750a90579"},
		{messageAndKeySchema, "81880a69fd552af2854815b7678b273bf21d888b05d2827b440ee0bbe42f35d0", "74c5412e245dc6fc"},
		{messageSchema, "5f7f6e453bca930ced92c668e0d7b99c7e68d45e59d8bcede4c91dacab8aeff6", "765795dc49b57e24"},
		{messageHeaderSchema, "bf7be21c4d281b9add9dcc93ff44c2341fc01abbd4988d08f3752bbe0871ffcd", "f46208937bf24061"},
		{unauthenticatedSchema, "48690ab92af069c50e0e0099a1ffac65880c3aebb4e4c89967b1cb9302b978a1", "fd217144dc1cf900"},
		{identitySchema, "66c99f77e643459ef20cbcaebce36e75b26924605f80b546eb2a7e3b28999f49", "48435445194f4408"},
		{heartbeatSchema, "c0f1aa83086861413ae9802ef7034015ed337852c73a1e7e58f99854cc49a4e2", "a0be46387442c8ea"},
		{heartbeatAckSchema, "88a89c0e6422eb03fdb4be9f4d0ec1ec80d6793a52c0cdb3a7f5cfa56d50dd3f", "5683a9588cc0962a"},
		{record(data+"AvroEnvelope",
			field("magic", avro.Fixed{Name: data + "Magic", Size: 8}), field("fingerprint", avro.Fixed{Name: data + "Fingerprint", Size: 32}),
			field("flags", intType), field("payload", bytesType)),
			"00d34517d1ea86959aa2fc29ab97d98349b37b8d9539b14d90b7cb8d299bf037", "57b7934751c9812f"},
	} {
		got := avro.Fingerprints(test.schema)
		if hex.EncodeToString(got.Registry[:]) != test.sha256 || hex.EncodeToString(got.Object[:]) != test.object {
			t.Errorf("%s: got %x %x, want %s %s", test.schema.Name, got.Registry, got.Object, test.sha256, test.object)
		}
	}
}
