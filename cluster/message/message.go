// Package message has the records of peer-to-peer messages inside a cluster: what workers hand to the link manager and
// what it hands to them. What crosses between clusters is in corda/p2p.
package message

import (
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
)

// Party is a holding identity as records carry it.
type Party struct {
	Name    string `cbor:"1,keyasint"` // canonical X.500 name
	GroupID string `cbor:"2,keyasint"`
}

// PartyOf makes the record form of an identity.
func PartyOf(h identity.HoldingIdentity) Party { return Party{h.Name.String(), h.GroupID} }

// Identity reads the record form.
func (p Party) Identity() (identity.HoldingIdentity, error) {
	name, err := x500.Parse(p.Name)
	if err != nil {
		return identity.HoldingIdentity{}, err
	}
	return identity.HoldingIdentity{Name: name, GroupID: p.GroupID}, nil
}

// Outbound is a message to be delivered to a peer: topic p2p.out. It is delivered at least once and acknowledged, or
// comes back as a Failure.
type Outbound struct {
	Source      Party  `cbor:"1,keyasint"`
	Destination Party  `cbor:"2,keyasint"`
	ID          string `cbor:"3,keyasint"` // unique per source
	Key         string `cbor:"4,keyasint"` // the key under which the receiver gets it: of a flow, the session
	Subsystem   string `cbor:"5,keyasint"`
	// Expires is when the message is given up, in Unix milliseconds; 0 is never.
	Expires int64  `cbor:"6,keyasint,omitempty"`
	Payload []byte `cbor:"7,keyasint"`
}

// Inbound is a message whose sender was authenticated and whose receiver is hosted here.
type Inbound struct {
	Source      Party  `cbor:"1,keyasint"`
	Destination Party  `cbor:"2,keyasint"`
	ID          string `cbor:"3,keyasint"`
	Key         string `cbor:"4,keyasint"`
	Subsystem   string `cbor:"5,keyasint"`
	Payload     []byte `cbor:"6,keyasint"`
}

// Failure tells the source that its message will not be delivered.
type Failure struct {
	ID          string `cbor:"1,keyasint"`
	Key         string `cbor:"2,keyasint"`
	Destination Party  `cbor:"3,keyasint"`
	// Code is EXPIRED, UNKNOWN_MEMBER, NOT_ALLOWED or TOO_LARGE; Reason says more, for people.
	Code   string `cbor:"4,keyasint"`
	Reason string `cbor:"5,keyasint"`
}

// Codes of failures.
const (
	Expired       = "EXPIRED"
	UnknownMember = "UNKNOWN_MEMBER"
	NotAllowed    = "NOT_ALLOWED"
	TooLarge      = "TOO_LARGE"
)
