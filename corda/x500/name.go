// Package x500 reads and writes the X.500 names by which members of an application network are known.
//
// A member name is not any X.500 name: it has at most the six attributes CN, OU, O, L, ST and C, each once, and its
// text is hashed and compared all over a network, so the canonical form matters to the octet (spec/networks.md 1).
// This package says what is a member name and what its canonical text is. It does not say who is a member.
package x500

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrInvalid is wrapped by every error of this package: the input is not a member name.
var ErrInvalid = errors.New("invalid X.500 name")

// maxText bounds the text that Parse looks at. The longest canonical name has 127 + 4 x 63 UTF-16 units of values,
// each at most 6 octets when escaped as hexadecimal pairs, so nothing that could be valid is cut off.
const maxText = 8192

// Lengths in UTF-16 units, as Java counts them; a value must be shorter than this (spec/networks.md 1.1).
const (
	limitOrganization = 128
	limitOther        = 64
)

// A Name is a member name: net.corda.v5.base.types.MemberX500Name. Names are comparable with ==, which is Corda's
// equality: all six attributes equal, case-sensitive. The zero Name is no member's.
type Name struct {
	values [attributeCount]string
}

// Attributes in canonical order, which is also the order of comparison (spec/networks.md 1.2, 1.3).
const (
	commonName = iota
	organizationUnit
	organization
	locality
	state
	country
	attributeCount
)

// attributes gives keyword and object identifier of each attribute.
var attributes = [attributeCount]struct{ keyword, oid string }{
	commonName:       {"CN", "2.5.4.3"},
	organizationUnit: {"OU", "2.5.4.11"},
	organization:     {"O", "2.5.4.10"},
	locality:         {"L", "2.5.4.7"},
	state:            {"ST", "2.5.4.8"},
	country:          {"C", "2.5.4.6"},
}

// CommonName returns CN, or "" if the name has none.
func (n Name) CommonName() string { return n.values[commonName] }

// OrganizationUnit returns OU, or "" if the name has none.
func (n Name) OrganizationUnit() string { return n.values[organizationUnit] }

// Organization returns O, which every name has.
func (n Name) Organization() string { return n.values[organization] }

// Locality returns L, which every name has.
func (n Name) Locality() string { return n.values[locality] }

// State returns ST, or "" if the name has none.
func (n Name) State() string { return n.values[state] }

// Country returns C, which every name has: an upper-case ISO 3166 code, or ZZ.
func (n Name) Country() string { return n.values[country] }

// IsZero reports whether n is the zero Name.
func (n Name) IsZero() bool { return n == Name{} }

// An Attribute is one attribute of a name.
type Attribute struct {
	Keyword string // CN, OU, O, L, ST or C
	OID     string // dotted decimal
	Value   string
}

// Attributes returns the attributes that are present, in canonical order.
func (n Name) Attributes() []Attribute {
	list := make([]Attribute, 0, attributeCount)
	for i, value := range n.values {
		if value != "" {
			list = append(list, Attribute{attributes[i].keyword, attributes[i].oid, value})
		}
	}
	return list
}

// Compare orders names as Corda orders them for Merkle trees and lists: attribute by attribute, absent before
// present, each by UTF-16 code unit (spec/networks.md 1.3).
func (n Name) Compare(other Name) int {
	for i := range n.values {
		if c := compareUTF16(n.values[i], other.values[i]); c != 0 {
			return c
		}
	}
	return 0
}

// compareUTF16 differs from comparing UTF-8 octets only where a supplementary character meets U+E000 to U+FFFF.
func compareUTF16(a, b string) int {
	for a != "" && b != "" {
		ra, sizeA := utf8.DecodeRuneInString(a)
		rb, sizeB := utf8.DecodeRuneInString(b)
		if ra != rb {
			return cmp.Or(cmp.Compare(firstUnit(ra), firstUnit(rb)), cmp.Compare(ra, rb))
		}
		a, b = a[sizeA:], b[sizeB:]
	}
	return cmp.Compare(len(a), len(b))
}

func firstUnit(r rune) rune {
	if high, _ := utf16.EncodeRune(r); high != utf8.RuneError {
		return high
	}
	return r
}

// String returns the canonical text, such as "CN=Node 1, O=Alice, L=London, C=GB".
func (n Name) String() string {
	var b strings.Builder
	for i, value := range n.values {
		if value == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(attributes[i].keyword)
		b.WriteByte('=')
		writeValue(&b, value)
	}
	return b.String()
}

// needQuotes are the characters that put a value in quotes, as do two adjacent spaces (spec/p2p-wire.md 2.6).
const needQuotes = ",+=\n<>#;\\\""

func writeValue(b *strings.Builder, value string) {
	if !strings.ContainsAny(value, needQuotes) && !strings.Contains(value, "  ") {
		b.WriteString(value)
		return
	}
	b.WriteByte('"')
	for i := range len(value) {
		if value[i] == '"' || value[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(value[i])
	}
	b.WriteByte('"')
}

// MarshalText returns the canonical text; that of the zero Name is empty.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText is Parse.
func (n *Name) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*n = parsed
	return nil
}

// MarshalBinary returns the canonical text, for stored records.
func (n Name) MarshalBinary() ([]byte, error) { return n.MarshalText() }

// UnmarshalBinary reads what MarshalBinary wrote. Unlike UnmarshalText it takes the zero Name back, since a stored
// record may have been written without one.
func (n *Name) UnmarshalBinary(text []byte) error {
	if len(text) == 0 {
		*n = Name{}
		return nil
	}
	return n.UnmarshalText(text)
}

// set gives an attribute its value, checked and trimmed.
func (n *Name) set(attribute int, value string) error {
	keyword := attributes[attribute].keyword
	if n.values[attribute] != "" {
		return fmt.Errorf("%w: attribute %s is repeated", ErrInvalid, keyword)
	}
	if !utf8.ValidString(value) {
		return fmt.Errorf("%w: attribute %s is not UTF-8", ErrInvalid, keyword)
	}
	trimmed := strings.TrimFunc(value, isJavaSpace)
	if trimmed == "" {
		return fmt.Errorf("%w: attribute %s is blank", ErrInvalid, keyword)
	}
	limit, measured := limitOther, trimmed
	if attribute == organization {
		limit, measured = limitOrganization, value // Corda measures O before it trims
	}
	if utf16Len(measured) >= limit {
		return fmt.Errorf("%w: attribute %s must be shorter than %d characters", ErrInvalid, keyword, limit)
	}
	// Java prints a value that begins and ends with a quote as it is, so that it reads back as another value: two
	// members would share one canonical text. We refuse such a name.
	if len(trimmed) > 1 && trimmed[0] == '"' && trimmed[len(trimmed)-1] == '"' {
		return fmt.Errorf("%w: attribute %s begins and ends with a quote", ErrInvalid, keyword)
	}
	if attribute == country && !isCountry(trimmed) {
		return fmt.Errorf("%w: %q is not an upper-case ISO 3166 country code", ErrInvalid, trimmed)
	}
	n.values[attribute] = trimmed
	return nil
}

// complete checks that the mandatory attributes are there.
func (n Name) complete() error {
	for _, attribute := range []int{organization, locality, country} {
		if n.values[attribute] == "" {
			return fmt.Errorf("%w: attribute %s is missing", ErrInvalid, attributes[attribute].keyword)
		}
	}
	return nil
}

// isJavaSpace is what String.trim() removes.
func isJavaSpace(r rune) bool { return r <= ' ' }

func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}
