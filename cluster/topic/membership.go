package topic

import (
	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/hosted"
	"github.com/hawser-project/hawser/cluster/member"
)

// Commands and calls that membership answers. The key of each command is the short hash of the virtual node.
var (
	// SetUpNetwork makes a virtual node's keys and TLS certificate known to the link manager.
	SetUpNetwork = bus.Command[NetworkSetup, hosted.Identity]{Name: "membership.set-up-network", Askers: roles(Rest), Answers: Membership}
	// Register registers a virtual node with its network.
	Register = bus.Command[Registration, RegistrationStatus]{Name: "membership.register", Askers: roles(Rest), Answers: Membership}
	// ImportMember takes another cluster's member into the virtual node's member list.
	ImportMember = bus.Command[MemberImport, member.Record]{Name: "membership.import-member", Askers: roles(Rest), Answers: Membership}

	// Registrations lists a virtual node's registrations, or finds the one with an id.
	Registrations = bus.Call[RegistrationRef, []RegistrationStatus]{Name: "membership.registrations", Askers: roles(Rest), Answers: roles(Membership)}
	// ListMembers lists the members that a virtual node sees.
	ListMembers = bus.Call[string, []member.Record]{Name: "membership.members", Askers: roles(Rest), Answers: roles(Membership)}
	// ExportMember makes the signed file of a virtual node's own member information.
	ExportMember = bus.Call[string, []byte]{Name: "membership.export-member", Askers: roles(Rest), Answers: roles(Membership)}
)

// NetworkSetup is the request of spec/networks.md 4.
type NetworkSetup struct {
	TLSAlias    string          `cbor:"1,keyasint"`
	ClusterTLS  bool            `cbor:"2,keyasint"`
	SessionKeys []SessionKeyRef `cbor:"3,keyasint"`
}

// SessionKeyRef names a session key of the virtual node.
type SessionKeyRef struct {
	KeyID            string `cbor:"1,keyasint"`
	CertificateAlias string `cbor:"2,keyasint,omitempty"`
	Preferred        bool   `cbor:"3,keyasint,omitempty"`
}

// Registration asks for registration with the network of the group policy.
type Registration struct {
	ID      string            `cbor:"1,keyasint"` // UUID chosen by the asker
	Context map[string]string `cbor:"2,keyasint"`
}

// RegistrationStatus is where a registration stands (spec/networks.md 7.1).
type RegistrationStatus struct {
	ID        string            `cbor:"1,keyasint"`
	Status    string            `cbor:"2,keyasint"`
	Reason    string            `cbor:"3,keyasint,omitempty"`
	Context   map[string]string `cbor:"4,keyasint,omitempty"`
	SentAt    int64             `cbor:"5,keyasint"` // Unix milliseconds
	UpdatedAt int64             `cbor:"6,keyasint"`
	Serial    int64             `cbor:"7,keyasint,omitempty"`
}

// RegistrationRef names a registration, or all of a virtual node's where ID is empty.
type RegistrationRef struct {
	Holder string `cbor:"1,keyasint"`
	ID     string `cbor:"2,keyasint,omitempty"`
}

// MemberImport is a member file with what the importer says of it.
type MemberImport struct {
	File        []byte `cbor:"1,keyasint"`
	Fingerprint string `cbor:"2,keyasint"`
	Replace     bool   `cbor:"3,keyasint,omitempty"`
}

func membershipDefinitions() []bus.Definition {
	return []bus.Definition{
		SetUpNetwork.Definition(), Register.Definition(), ImportMember.Definition(),
		Registrations.Definition(), ListMembers.Definition(), ExportMember.Definition(),
	}
}
