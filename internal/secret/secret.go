// Package secret has the type for what must never be printed: passwords, passphrases, key material. A Secret says
// "[secret]" to fmt, slog, JSON and every text encoder. It does travel in CBOR, because commands carry secrets between
// workers (DESIGN.md 2); where a secret is at rest, the one who stores it seals it first.
package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"

	"github.com/fxamacker/cbor/v2"
)

const shown = "[secret]"

// Secret is octets that only Reveal gives out. The zero Secret is empty.
type Secret struct {
	// A function, because fmt calls no method on an unexported field of somebody's struct and would print a slice,
	// even behind a pointer. It also forbids ==; use Equal.
	octets func() []byte
}

// New keeps a copy of the octets.
func New(octets []byte) Secret {
	kept := append([]byte(nil), octets...)
	return Secret{octets: func() []byte { return kept }}
}

// FromString is New for text.
func FromString(s string) Secret { return New([]byte(s)) }

// Reveal gives out the octets themselves, not a copy.
func (s Secret) Reveal() []byte {
	if s.octets == nil {
		return nil
	}
	return s.octets()
}

// RevealString gives out the octets as text.
func (s Secret) RevealString() string { return string(s.Reveal()) }

// IsZero says whether there is nothing in it.
func (s Secret) IsZero() bool { return len(s.Reveal()) == 0 }

// Equal compares in a time that depends on neither content nor length.
func (s Secret) Equal(o Secret) bool {
	a, b := sha256.Sum256(s.Reveal()), sha256.Sum256(o.Reveal())
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func (s Secret) String() string   { return shown }
func (s Secret) GoString() string { return shown }

// Format covers every verb, also %x and %d, which would otherwise walk into the struct.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(shown)) }

// LogValue keeps slog from looking inside.
func (s Secret) LogValue() slog.Value { return slog.StringValue(shown) }

// MarshalText is what JSON and the like write.
func (s Secret) MarshalText() ([]byte, error) { return []byte(shown), nil }

// UnmarshalText takes a secret from a request body or a configuration file.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = New(text)
	return nil
}

// MarshalCBOR writes the octets: commands carry secrets.
func (s Secret) MarshalCBOR() ([]byte, error) { return cbor.Marshal(s.Reveal()) }

// UnmarshalCBOR reads what MarshalCBOR wrote.
func (s *Secret) UnmarshalCBOR(b []byte) error {
	var octets []byte
	if err := cbor.Unmarshal(b, &octets); err != nil {
		return fmt.Errorf("decode a secret: %w", err)
	}
	*s = New(octets)
	return nil
}
