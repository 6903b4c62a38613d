package topic

import (
	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/corda/p2p"
)

// Calls between the link manager and the gateway. The gateway reads no topic and has no credentials: the link manager
// feeds it with certificates and messages, and it hands in what comes from other clusters.
var (
	// GatewayConfigure gives the gateway its certificates. It is repeated now and then, so that a gateway that was
	// restarted gets them; the same version again changes nothing.
	GatewayConfigure = bus.Call[GatewayConfig, GatewayStatus]{Name: "gateway.configure", Askers: roles(LinkManager), Answers: roles(Gateway)}
	// GatewayPost sends link messages to one endpoint of another cluster. It returns when every one of them was answered
	// or has failed; nothing is tried again.
	GatewayPost = bus.Call[Post, PostResult]{Name: "gateway.post", Askers: roles(LinkManager), Answers: roles(Gateway), Once: true}
	// DeliverToOwner takes link messages of sessions that peers have made to the link manager that has them.
	DeliverToOwner = bus.Call[RoutedDelivery, Receipt]{Name: "link.deliver-to-owner", Askers: roles(LinkManager), Answers: roles(LinkManager),
		Key: func(d RoutedDelivery) string { return d.Session }}
	// DeliverToMaker takes answers of peers to the link manager that has made the session: the first 16 bits of the session's id
	// are its process's number.
	DeliverToMaker = bus.Call[Delivery, Receipt]{Name: "link.deliver-to-maker", Askers: roles(LinkManager), Answers: roles(LinkManager)}
	// SessionLost tells the link manager that has made a session that the peer does not have it any more.
	SessionLost = bus.Call[LostSession, struct{}]{Name: "link.session-lost", Askers: roles(LinkManager), Answers: roles(LinkManager)}
	// Deliver hands in link messages that came from another cluster. It returns when what they have brought is durable.
	Deliver = bus.Call[Delivery, Receipt]{Name: "link.deliver", Askers: roles(Gateway), Answers: roles(LinkManager)}
)

// Commands that the link manager gives itself: what it must not lose beside its answers to records.
var (
	// StoreSession keeps an inbound link session. Key: the session id.
	StoreSession = bus.Command[StoredSession, struct{}]{Name: "link.store-session", Askers: roles(LinkManager), Answers: LinkManager}
	// SettleParked ends parked messages. Key: the hash that names the pair of source and destination.
	SettleParked = bus.Command[Settlement, struct{}]{Name: "link.settle-parked", Askers: roles(LinkManager), Answers: LinkManager}
)

// GatewayConfig is what the gateway's server needs.
type GatewayConfig struct {
	Version      string        `cbor:"1,keyasint"` // a hash of the rest
	Certificates []TLSIdentity `cbor:"2,keyasint"`
	// Trust lists the ids of the trust in use. Connections made under any other are closed.
	Trust []string `cbor:"3,keyasint,omitempty"`
	// From is the number of the link manager whose trust this is.
	From uint16 `cbor:"4,keyasint,omitempty"`
}

// TLSIdentity is a certificate chain and the name of its key, which is with crypto.
type TLSIdentity struct {
	Tenant string   `cbor:"1,keyasint"`
	KeyID  string   `cbor:"2,keyasint"`
	Chain  [][]byte `cbor:"3,keyasint"` // DER, leaf first
}

// GatewayStatus says what the gateway has.
type GatewayStatus struct {
	Version string `cbor:"1,keyasint"`
	// Faults has an entry for each certificate that can't be used.
	Faults []string `cbor:"2,keyasint,omitempty"`
}

// Trust is the certificates that a server's chain must lead to.
type Trust struct {
	ID    string   `cbor:"1,keyasint"` // a hash of Roots
	Roots [][]byte `cbor:"2,keyasint"` // DER
}

// Post is link messages for one endpoint. They arrive in any order.
type Post struct {
	URL    string   `cbor:"1,keyasint"` // https, with host and port
	Trust  Trust    `cbor:"2,keyasint"`
	Bodies [][]byte `cbor:"3,keyasint"` // each a GatewayMessage
}

// PostResult is how a Post went.
type PostResult struct {
	Outcomes []PostOutcome `cbor:"1,keyasint"` // one for each body
	// Received are link messages that came back in answers, each as p2p.AppendPayload writes it.
	Received [][]byte `cbor:"2,keyasint,omitempty"`
}

// PostOutcome is what became of one message.
type PostOutcome struct {
	Status int    `cbor:"1,keyasint,omitempty"` // of HTTP; 0: there was no answer
	Error  string `cbor:"2,keyasint,omitempty"` // for people; empty with status 200
}

// Delivery is link messages that came in one request.
type Delivery struct {
	Messages []LinkMessage `cbor:"1,keyasint"`
	// Acks says that the asker takes acknowledgements back, to answer the request with them.
	Acks bool `cbor:"2,keyasint,omitempty"`
}

// RoutedDelivery is link messages of sessions whose ids are of one partition.
type RoutedDelivery struct {
	Session  string   `cbor:"1,keyasint"` // one of them
	Delivery Delivery `cbor:"2,keyasint"`
}

// LostSession names a session of ours that a peer has told us to make again, and whose it must be for that.
type LostSession struct {
	Session string       `cbor:"1,keyasint"`
	Pair    message.Pair `cbor:"2,keyasint"`
}

// LinkMessage is a GatewayMessage.
type LinkMessage struct {
	Body []byte `cbor:"1,keyasint"`
	// Decoded spares the receiver in the same process the decoding.
	Decoded *p2p.GatewayMessage `cbor:"-"`
}

// Receipt says that all messages were taken; which of them were of use does not concern the asker.
type Receipt struct {
	Acks [][]byte `cbor:"1,keyasint,omitempty"` // each as p2p.AppendPayload writes it
}

// StoredSession is an inbound link session as it is stored.
type StoredSession struct {
	Source      message.Party `cbor:"1,keyasint"` // the peer, who made the session
	Destination message.Party `cbor:"2,keyasint"` // hosted here
	Sealed      []byte        `cbor:"3,keyasint"` // session.State under the data key of LinkSessionPurpose
	// Answer is the gateway message that ended the handshake, for an initiator that did not get it.
	Answer  []byte `cbor:"4,keyasint"`
	Expires int64  `cbor:"5,keyasint"` // Unix milliseconds
	// PeerKey is the hash of the peer's session key. When the peer has it no longer, the session is over.
	PeerKey []byte `cbor:"6,keyasint"`
}

// Settlement lists parked messages that are done with.
type Settlement struct {
	Ends []ParkedEnd `cbor:"1,keyasint"`
	// Closed is the first page to which rows may still be added.
	Closed uint64 `cbor:"2,keyasint"`
}

// ParkedEnd says how a parked message ended: acknowledged, failed, or to be delivered here.
type ParkedEnd struct {
	Number  uint64           `cbor:"1,keyasint"`
	Failure *message.Failure `cbor:"2,keyasint,omitempty"`
	Here    bool             `cbor:"3,keyasint,omitempty"`
}

func linkDefinitions() []bus.Definition {
	return []bus.Definition{
		GatewayConfigure.Definition(), GatewayPost.Definition(), Deliver.Definition(), DeliverToOwner.Definition(),
		DeliverToMaker.Definition(), SessionLost.Definition(), StoreSession.Definition(), SettleParked.Definition(),
	}
}
