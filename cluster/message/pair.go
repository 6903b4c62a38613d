package message

import (
	"crypto/sha256"
	"encoding/hex"
)

// Pair is who sends and who gets it. All messages of a pair are under one key, so that one link manager has them.
type Pair struct {
	Source      Party `cbor:"1,keyasint"`
	Destination Party `cbor:"2,keyasint"`
}

// Key names the pair: the key of its records on p2p.out and of what is parked of them.
func (p Pair) Key() string {
	h := sha256.New()
	for _, part := range []string{p.Source.Name, p.Source.GroupID, p.Destination.Name, p.Destination.GroupID} {
		one := sha256.Sum256([]byte(part))
		h.Write(one[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Pair returns whose message it is.
func (m *Outbound) Pair() Pair { return Pair{m.Source, m.Destination} }
