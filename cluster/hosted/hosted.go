// Package hosted has the record of an identity that this cluster hosts and that network set-up has made ready to talk to
// peers (spec/networks.md 4): which keys authenticate its link sessions, and which certificate its endpoint shows.
package hosted

import "github.com/hawser-project/hawser/cluster/message"

// Identity is one hosted identity: topic p2p.hosted.identities, key its short hash.
type Identity struct {
	ShortHash string        `cbor:"1,keyasint"`
	Party     message.Party `cbor:"2,keyasint"`
	// TLSTenant owns the TLS key: "p2p" or the short hash.
	TLSTenant string `cbor:"3,keyasint"`
	TLSKeyID  string `cbor:"4,keyasint"`
	// TLSCertificates is the chain, leaf first, each as PEM.
	TLSCertificates []string     `cbor:"5,keyasint"`
	Preferred       SessionKey   `cbor:"6,keyasint"`
	Alternatives    []SessionKey `cbor:"7,keyasint,omitempty"`
	// Version rises with each network set-up.
	Version int `cbor:"8,keyasint,omitempty"`
}

// SessionKey is a key that authenticates link sessions. Its private half is with crypto, under the tenant ShortHash.
type SessionKey struct {
	KeyID string `cbor:"1,keyasint"`
	// SPKI is the public key, DER SubjectPublicKeyInfo.
	SPKI []byte `cbor:"2,keyasint"`
}
