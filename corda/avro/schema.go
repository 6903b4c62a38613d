package avro

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
)

// A Schema describes a type well enough for its fingerprints. Records are read and written by hand; a schema exists
// so that a test can prove that the fingerprints in our tables belong to the fields that we write.
type Schema interface {
	// appendCanonical appends the parsing canonical form. A named type is spelled out where it first occurs and
	// named afterwards; defined remembers which were.
	appendCanonical(b []byte, defined map[string]bool) []byte
}

// A Primitive is null, boolean, int, long, float, double, bytes or string.
type Primitive string

// An Array is a sequence of items.
type Array struct{ Items Schema }

// A Union is one of its branches.
type Union []Schema

// A Fixed is a named sequence of Size octets.
type Fixed struct {
	Name string
	Size int
}

// An Enum is one of its symbols.
type Enum struct {
	Name    string
	Symbols []string
}

// A RecordSchema is a sequence of named fields.
type RecordSchema struct {
	Name   string
	Fields []Field
}

// A Field is one field of a RecordSchema.
type Field struct {
	Name string
	Type Schema
}

// Canonical returns the parsing canonical form of a schema, referenced types inlined (spec/p2p-wire.md 1.2).
func Canonical(s Schema) string { return string(s.appendCanonical(nil, map[string]bool{})) }

// Fingerprints returns the Type of a record's schema.
func Fingerprints(s RecordSchema) Type {
	text := []byte(Canonical(s))
	t := Type{Name: s.Name, Registry: sha256.Sum256(text)}
	binary.LittleEndian.PutUint64(t.Object[:], CRC64(text))
	return t
}

// emptyCRC is the CRC-64-AVRO of nothing, and the polynomial.
const emptyCRC = 0xc15d213aa4d7a795

// CRC64 returns the CRC-64-AVRO, which Avro calls Rabin fingerprint.
func CRC64(octets []byte) uint64 {
	crc := uint64(emptyCRC)
	for _, c := range octets {
		crc ^= uint64(c)
		for range 8 {
			crc = crc>>1 ^ emptyCRC&-(crc&1)
		}
	}
	return crc
}

func (s Primitive) appendCanonical(b []byte, _ map[string]bool) []byte {
	return strconv.AppendQuote(b, string(s))
}

func (s Array) appendCanonical(b []byte, defined map[string]bool) []byte {
	b = append(b, `{"type":"array","items":`...)
	b = s.Items.appendCanonical(b, defined)
	return append(b, '}')
}

func (s Union) appendCanonical(b []byte, defined map[string]bool) []byte {
	b = append(b, '[')
	for i, branch := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = branch.appendCanonical(b, defined)
	}
	return append(b, ']')
}

func (s Fixed) appendCanonical(b []byte, defined map[string]bool) []byte {
	b, done := appendNamed(b, s.Name, "fixed", defined)
	if done {
		return b
	}
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, int64(s.Size), 10)
	return append(b, '}')
}

func (s Enum) appendCanonical(b []byte, defined map[string]bool) []byte {
	b, done := appendNamed(b, s.Name, "enum", defined)
	if done {
		return b
	}
	b = append(b, `,"symbols":[`...)
	for i, symbol := range s.Symbols {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendQuote(b, symbol)
	}
	return append(b, `]}`...)
}

func (s RecordSchema) appendCanonical(b []byte, defined map[string]bool) []byte {
	b, done := appendNamed(b, s.Name, "record", defined)
	if done {
		return b
	}
	b = append(b, `,"fields":[`...)
	for i, field := range s.Fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"name":`...)
		b = strconv.AppendQuote(b, field.Name)
		b = append(b, `,"type":`...)
		b = field.Type.appendCanonical(b, defined)
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

// appendNamed begins a named type, or names it and is done if it was spelled out before.
func appendNamed(b []byte, name, kind string, defined map[string]bool) (_ []byte, done bool) {
	if defined[name] {
		return strconv.AppendQuote(b, name), true
	}
	defined[name] = true
	b = append(b, `{"name":`...)
	b = strconv.AppendQuote(b, name)
	b = append(b, `,"type":`...)
	return strconv.AppendQuote(b, kind), false
}
