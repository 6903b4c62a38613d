package avro

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// A Type is a record type with the two fingerprints of its schema.
type Type struct {
	Name     string   // full name
	Registry [32]byte // SHA-256, in the registry envelope
	Object   [8]byte  // CRC-64-AVRO as it stands in single-object encoding, least significant octet first
}

// NewType returns a Type from fingerprints in hexadecimal. It is for package-level tables: a fingerprint that does
// not decode is a mistake in our own source, and panics.
func NewType(name, registry, object string) Type {
	t := Type{Name: name}
	decodeConstant(t.Registry[:], registry)
	decodeConstant(t.Object[:], object)
	return t
}

func decodeConstant(dst []byte, text string) {
	if n, err := hex.Decode(dst, []byte(text)); err != nil || n != len(dst) {
		panic("avro: fingerprint constant " + text + " is wrong")
	}
}

// A Record can append its own fields in schema order, without any frame.
type Record interface {
	AppendRaw(b []byte) []byte
}

// ErrUnknownType is returned for a fingerprint that the reader does not expect.
var ErrUnknownType = errors.New("avro: unknown schema fingerprint")

const (
	magic          = "corda\x01\x00\x00"
	flagCompressed = 1
	objectMarker   = "\xc3\x01"
)

// AppendEnvelope appends the registry envelope of a record, net.corda.data.AvroEnvelope (spec/p2p-wire.md 1.3):
//
//	magic        fixed(8)   // "corda", 1, 0, 0
//	fingerprint  fixed(32)  // Type.Registry
//	flags        int        // bit 0: payload is compressed by zlib. Never set by us, nor by Corda
//	payload      bytes      // the record
func AppendEnvelope(b []byte, t *Type, record Record) []byte {
	b = append(b, magic...)
	b = append(b, t.Registry[:]...)
	b = AppendLong(b, 0)
	start := len(b)
	b = record.AppendRaw(b)
	return insertLength(b, start)
}

// insertLength puts the length of b[start:] before it. Moving a record is cheaper than encoding it twice.
func insertLength(b []byte, start int) []byte {
	var scratch [10]byte
	length := AppendLong(scratch[:0], int64(len(b)-start))
	b = append(b, length...)
	copy(b[start+len(length):], b[start:])
	copy(b[start:], length)
	return b
}

// OpenEnvelope returns fingerprint and payload of a registry envelope. What follows the envelope is ignored, as Corda
// ignores it. A compressed payload may inflate to MaxField octets and no more, and is a copy; a plain one is part of b.
func OpenEnvelope(b []byte) (fingerprint [32]byte, payload []byte, err error) {
	r := NewReader(b)
	if head := r.Fixed(len(magic)); r.err == nil && string(head) != magic {
		return fingerprint, nil, fmt.Errorf("%w: no registry envelope", ErrMalformed)
	}
	copy(fingerprint[:], r.Fixed(len(fingerprint)))
	flags := r.Int()
	payload = r.Bytes()
	if r.err != nil {
		return fingerprint, nil, fmt.Errorf("registry envelope: %w", r.err)
	}
	if flags&flagCompressed != 0 {
		payload, err = inflate(payload, MaxField)
	}
	return fingerprint, payload, err
}

// OpenEnvelopeOf is OpenEnvelope for a single expected type.
func OpenEnvelopeOf(b []byte, t *Type) (payload []byte, err error) {
	fingerprint, payload, err := OpenEnvelope(b)
	if err != nil {
		return nil, err
	}
	if fingerprint != t.Registry {
		return nil, fmt.Errorf("%w: %x is not %s", ErrUnknownType, fingerprint[:8], t.Name)
	}
	return payload, nil
}

func inflate(compressed []byte, limit int64) ([]byte, error) {
	z, err := zlib.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	inflated, err := io.ReadAll(io.LimitReader(z, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if int64(len(inflated)) > limit {
		return nil, fmt.Errorf("%w: payload inflates beyond %d octets", ErrTooLarge, limit)
	}
	return inflated, nil
}

// AppendObjectHeader appends the ten octets that begin a single-object encoding (spec/p2p-wire.md 1.4).
func AppendObjectHeader(b []byte, t *Type) []byte {
	return append(append(b, objectMarker...), t.Object[:]...)
}

// AppendObject appends the single-object encoding of a record.
func AppendObject(b []byte, t *Type, record Record) []byte {
	return record.AppendRaw(AppendObjectHeader(b, t))
}

// OpenObject returns fingerprint and record octets of a single-object encoding. The record ends where its schema
// says; octets after it are the caller's to ignore.
func OpenObject(b []byte) (fingerprint [8]byte, record []byte, err error) {
	r := NewReader(b)
	if head := r.Fixed(len(objectMarker)); r.err == nil && string(head) != objectMarker {
		return fingerprint, nil, fmt.Errorf("%w: no single-object encoding", ErrMalformed)
	}
	copy(fingerprint[:], r.Fixed(len(fingerprint)))
	if r.err != nil {
		return fingerprint, nil, fmt.Errorf("single-object encoding: %w", r.err)
	}
	return fingerprint, r.rest, nil
}

// OpenObjectOf is OpenObject for a single expected type.
func OpenObjectOf(b []byte, t *Type) (record []byte, err error) {
	fingerprint, record, err := OpenObject(b)
	if err != nil {
		return nil, err
	}
	if fingerprint != t.Object {
		return nil, fmt.Errorf("%w: %x is not %s", ErrUnknownType, fingerprint, t.Name)
	}
	return record, nil
}
