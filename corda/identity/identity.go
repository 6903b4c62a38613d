// Package identity names a holding identity: one member of one application network, and the short hash by which the
// REST API and operators refer to it. It does not say which identities exist or are hosted.
package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/hawser-project/hawser/corda/x500"
)

// A HoldingIdentity is a member of a group: net.corda.data.identity.HoldingIdentity. It is comparable.
type HoldingIdentity struct {
	Name    x500.Name `json:"x500Name" cbor:"1,keyasint"`
	GroupID string    `json:"groupId" cbor:"2,keyasint"` // compared as it is, case included
}

// FullHash returns 64 upper-case hexadecimal digits: SHA-256 over canonical name and group id, with nothing between
// them (spec/networks.md 1.4).
func (h HoldingIdentity) FullHash() string {
	sum := sha256.Sum256([]byte(h.Name.String() + h.GroupID))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// ShortHash returns the first 48 bits of the full hash.
func (h HoldingIdentity) ShortHash() ShortHash { return ShortHash(h.FullHash()[:shortHashLen]) }

// String returns name and group, for people.
func (h HoldingIdentity) String() string { return h.Name.String() + " [" + h.GroupID + "]" }

const shortHashLen = 12

// ErrShortHash is wrapped by the errors of ParseShortHash.
var ErrShortHash = errors.New("invalid short hash")

// A ShortHash is 12 upper-case hexadecimal digits. The zero value refers to nothing.
type ShortHash string

// ParseShortHash reads a short hash in either case: exactly 12 hexadecimal digits.
func ParseShortHash(text string) (ShortHash, error) {
	if len(text) != shortHashLen {
		return "", fmt.Errorf("%w: %d characters, must have %d", ErrShortHash, len(text), shortHashLen)
	}
	if _, err := hex.DecodeString(text); err != nil {
		return "", fmt.Errorf("%w: %q is not hexadecimal", ErrShortHash, text)
	}
	return ShortHash(strings.ToUpper(text)), nil
}

// String returns the digits.
func (s ShortHash) String() string { return string(s) }

// UnmarshalText is ParseShortHash.
func (s *ShortHash) UnmarshalText(text []byte) error {
	parsed, err := ParseShortHash(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}
