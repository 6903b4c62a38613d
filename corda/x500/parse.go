package x500

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Parse reads a name in the forms that Java's X500Principal reads: attributes in any order, separated by commas or
// semicolons; values bare, quoted or escaped; keywords in any case, or object identifiers (spec/networks.md 1.1).
func Parse(text string) (Name, error) {
	if len(text) > maxText {
		return Name{}, fmt.Errorf("%w: longer than %d octets", ErrInvalid, maxText)
	}
	if !utf8.ValidString(text) {
		return Name{}, fmt.Errorf("%w: not UTF-8", ErrInvalid)
	}
	var n Name
	p := parser{rest: text}
	for {
		attribute, err := p.keyword()
		if err != nil {
			return Name{}, err
		}
		value, err := p.value()
		if err != nil {
			return Name{}, err
		}
		if err := n.set(attribute, value); err != nil {
			return Name{}, err
		}
		if p.rest == "" {
			return n, n.complete()
		}
		p.rest = p.rest[1:] // the separator that ended the value
	}
}

// A parser holds what is still to be read.
type parser struct{ rest string }

// keyword reads up to and including the equals sign.
func (p *parser) keyword() (int, error) {
	before, after, found := strings.Cut(p.rest, "=")
	if !found {
		return 0, fmt.Errorf("%w: attribute without a value", ErrInvalid)
	}
	p.rest = after
	word := strings.ToUpper(strings.Trim(before, " \n"))
	word = strings.TrimPrefix(word, "OID.")
	if word == "S" {
		word = "ST"
	}
	for i, a := range attributes {
		if word == a.keyword || word == a.oid {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: attribute %.40q is not one of CN, OU, O, L, ST, C", ErrInvalid, word)
}

// value reads a value and leaves the separator, or nothing, as the rest.
func (p *parser) value() (string, error) {
	p.rest = strings.TrimLeft(p.rest, " \n")
	switch {
	case strings.HasPrefix(p.rest, "#"):
		return "", fmt.Errorf("%w: hexadecimal values are not read", ErrInvalid)
	case strings.HasPrefix(p.rest, `"`):
		p.rest = p.rest[1:]
		return p.quoted()
	}
	return p.bare()
}

func (p *parser) quoted() (string, error) {
	var b []byte
	for p.rest != "" {
		c := p.rest[0]
		p.rest = p.rest[1:]
		switch c {
		case '"':
			p.rest = strings.TrimLeft(p.rest, " \n")
			if p.rest != "" && p.rest[0] != ',' && p.rest[0] != ';' {
				return "", fmt.Errorf("%w: text after a closing quote", ErrInvalid)
			}
			return string(b), nil
		case '\\':
			escaped, err := p.escape(",=\n+<>#;\\\"")
			if err != nil {
				return "", err
			}
			b = append(b, escaped)
		default:
			b = append(b, c)
		}
	}
	return "", fmt.Errorf("%w: quote is not closed", ErrInvalid)
}

func (p *parser) bare() (string, error) {
	var b []byte
	keep := 0 // spaces that were not escaped do not count at the end of a value
	for p.rest != "" && p.rest[0] != ',' && p.rest[0] != ';' {
		c := p.rest[0]
		p.rest = p.rest[1:]
		switch c {
		case '+', '<', '>', '"':
			return "", fmt.Errorf("%w: %q must be escaped", ErrInvalid, c)
		case '\\':
			escaped, err := p.escape(",=\n+<>#;\\\" ")
			if err != nil {
				return "", err
			}
			b = append(b, escaped)
			keep = len(b)
		case ' ', '\n':
			b = append(b, c)
		default:
			b = append(b, c)
			keep = len(b)
		}
	}
	return string(b[:keep]), nil
}

// escape reads what follows a backslash: one of the allowed characters, or the two hexadecimal digits of an octet.
func (p *parser) escape(allowed string) (byte, error) {
	if len(p.rest) >= 2 {
		high, low := unhex(p.rest[0]), unhex(p.rest[1])
		if high >= 0 && low >= 0 {
			p.rest = p.rest[2:]
			return byte(high<<4 | low), nil
		}
	}
	if p.rest == "" || strings.IndexByte(allowed, p.rest[0]) < 0 {
		return 0, fmt.Errorf("%w: backslash before a character that needs none", ErrInvalid)
	}
	c := p.rest[0]
	p.rest = p.rest[1:]
	return c, nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
