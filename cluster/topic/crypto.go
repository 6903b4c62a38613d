package topic

import (
	"crypto"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/key"
	"github.com/hawser-project/hawser/internal/secret"
)

// Commands and calls that crypto answers.
var (
	// GenerateKey makes a key pair. Key: the tenant.
	GenerateKey = bus.Command[NewKey, KeyInfo]{Name: "crypto.generate-key", Askers: roles(Rest, Membership), Answers: Crypto}
	// AssignHSM makes a tenant's wrapping key for a category, if there is none. Key: the tenant.
	AssignHSM = bus.Command[HSMRequest, key.Assignment]{Name: "crypto.assign-hsm", Askers: roles(Rest, Membership), Answers: Crypto}
	// EnsureDataKey makes the wrapped data key of a purpose, if there is none. Key: "data/" and the purpose.
	EnsureDataKey = bus.Command[string, []byte]{Name: "crypto.ensure-data-key", Askers: roles(Crypto), Answers: Crypto}

	// Keys lists a tenant's keys.
	Keys = bus.Call[KeyFilter, []KeyInfo]{Name: "crypto.keys", Askers: roles(Rest, Membership), Answers: roles(Crypto)}
	// HSM finds a tenant's assignment to a category.
	HSM = bus.Call[HSMRequest, key.Assignment]{Name: "crypto.hsm", Askers: roles(Rest), Answers: roles(Crypto)}
	// Sign signs with a private key. The purpose must be one that the asker's role has.
	SignTLS     = bus.Call[SignRequest, []byte]{Name: "crypto.sign-tls", Askers: roles(Gateway, Rest), Answers: roles(Crypto)}
	SignSession = bus.Call[SignRequest, []byte]{Name: "crypto.sign-session", Askers: roles(LinkManager), Answers: roles(Crypto)}
	SignMember  = bus.Call[SignRequest, []byte]{Name: "crypto.sign-member", Askers: roles(Membership), Answers: roles(Crypto)}
	// SignCSR signs a certificate signing request and nothing else, with any key of the tenant. Data is the octets to be
	// signed also where Hash is set, so that they can be looked at.
	SignCSR = bus.Call[SignRequest, []byte]{Name: "crypto.sign-csr", Askers: roles(Rest), Answers: roles(Crypto)}
	// DataKey gives the key that seals a worker's own state. Only DataKeyPurposes of the asking role are given out.
	DataKey = bus.Call[string, secret.Secret]{Name: "crypto.data-key", Askers: roles(LinkManager), Answers: roles(Crypto)}
)

// LinkSessionPurpose is the purpose of the data key that seals stored link sessions.
const LinkSessionPurpose = "link-session"

// NewKey asks for a key pair.
type NewKey struct {
	Tenant   string `cbor:"1,keyasint"`
	Alias    string `cbor:"2,keyasint"`
	Category string `cbor:"3,keyasint"`
	Scheme   string `cbor:"4,keyasint"`
}

// KeyInfo is what everyone may know of a key.
type KeyInfo struct {
	ID          string `cbor:"1,keyasint"` // 12 hexadecimal digits
	Tenant      string `cbor:"2,keyasint"`
	Alias       string `cbor:"3,keyasint"`
	Category    string `cbor:"4,keyasint"`
	Scheme      string `cbor:"5,keyasint"`
	SPKI        []byte `cbor:"6,keyasint"` // DER
	CreatedAt   int64  `cbor:"7,keyasint"` // Unix milliseconds
	MasterAlias string `cbor:"8,keyasint,omitempty"`
}

// KeyFilter narrows a list of keys; empty fields match all.
type KeyFilter struct {
	Tenant   string   `cbor:"1,keyasint"`
	IDs      []string `cbor:"2,keyasint,omitempty"`
	Category string   `cbor:"3,keyasint,omitempty"`
	Scheme   string   `cbor:"4,keyasint,omitempty"`
	Alias    string   `cbor:"5,keyasint,omitempty"`
}

// HSMRequest names a tenant's category.
type HSMRequest struct {
	Tenant   string `cbor:"1,keyasint"`
	Category string `cbor:"2,keyasint"`
}

// SignRequest asks for a signature by a key of a tenant: over Data with Spec, or, where Hash is set, over the digest Data
// as a TLS stack asks for it.
type SignRequest struct {
	Tenant string            `cbor:"1,keyasint"`
	KeyID  string            `cbor:"2,keyasint"`
	Spec   key.SignatureSpec `cbor:"3,keyasint,omitempty"`
	Data   []byte            `cbor:"4,keyasint"`
	Hash   crypto.Hash       `cbor:"5,keyasint,omitempty"`
	PSS    bool              `cbor:"6,keyasint,omitempty"` // RSASSA-PSS with a salt as long as the hash, as TLS 1.3 wants
}

func cryptoDefinitions() []bus.Definition {
	return []bus.Definition{
		GenerateKey.Definition(), AssignHSM.Definition(), EnsureDataKey.Definition(), Keys.Definition(), HSM.Definition(),
		SignTLS.Definition(), SignSession.Definition(), SignMember.Definition(), SignCSR.Definition(), DataKey.Definition(),
	}
}
