package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Bounds of a frame. The SDK keeps the same numbers.
const (
	// Max is the size of the largest frame in either direction.
	Max = 4 << 20
	// MaxPayload is the largest session payload, result or argument: a frame always has room for one and its
	// surroundings.
	MaxPayload = 3 << 20
	// MaxValue is the largest value of a store entry.
	MaxValue = 512 << 10
	// MaxName bounds names: classes, protocols, identities, store keys, error codes.
	MaxName = 512
	// MaxText bounds messages meant for people.
	MaxText = 8 << 10
	// MaxItems bounds every list in a frame.
	MaxItems = 4096
)

// ErrMalformed is wrapped by every error of this package's decoders.
var ErrMalformed = errors.New("malformed frame")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// appendUint leaves zero out, so that every value has one encoding.
func appendUint(b []byte, tag, v uint64) []byte {
	if v == 0 {
		return b
	}
	var field [binary.MaxVarintLen64]byte
	return appendOctets(b, tag, binary.AppendUvarint(field[:0], v))
}

// appendField leaves an empty value out.
func appendField[T ~string | ~[]byte](b []byte, tag uint64, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return appendOctets(b, tag, v)
}

// appendOctets writes a field even when it is empty: items of a list need that.
func appendOctets[T ~string | ~[]byte](b []byte, tag uint64, v T) []byte {
	b = binary.AppendUvarint(b, tag)
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// A reader walks the fields of one message. Tags never decrease, so a message has one encoding; a tag that the
// caller does not know is skipped, so later releases can add fields.
type reader struct {
	rest []byte
	last uint64
	val  []byte
	err  error
}

// next moves to the next field and gives its tag, or 0 at the end or on an error.
func (r *reader) next(lists ...uint64) uint64 {
	if r.err != nil || len(r.rest) == 0 {
		return 0
	}
	tag := r.uvarint()
	size := r.uvarint()
	switch {
	case r.err != nil:
		return 0
	case tag == 0 || tag < r.last:
		r.err = malformed("field %d after field %d", tag, r.last)
	case tag == r.last && !contains(lists, tag):
		r.err = malformed("field %d twice", tag)
	case size > uint64(len(r.rest)):
		r.err = malformed("field %d has %d of %d octets", tag, len(r.rest), size)
	}
	if r.err != nil {
		return 0
	}
	r.last, r.val, r.rest = tag, r.rest[:size], r.rest[size:]
	return tag
}

func contains(list []uint64, v uint64) bool {
	for _, e := range list {
		if e == v {
			return true
		}
	}
	return false
}

func (r *reader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n, err := uvarint(r.rest)
	r.err, r.rest = err, r.rest[n:]
	return v
}

// uvarint reads a number in its shortest form only.
func uvarint(p []byte) (uint64, int, error) {
	v, n := binary.Uvarint(p)
	if n <= 0 || n > 1 && p[n-1] == 0 {
		return 0, 0, malformed("bad number")
	}
	return v, n, nil
}

// uint is the number in the present field.
func (r *reader) uint() uint64 {
	v, n, err := uvarint(r.val)
	if err == nil && n != len(r.val) {
		err = malformed("field %d: octets after the number", r.last)
	}
	if err == nil && v == 0 {
		err = malformed("field %d: a zero is left out", r.last)
	}
	r.fail(err)
	return v
}

// item is a number in a list, where zero is written.
func (r *reader) item() uint64 {
	v, n, err := uvarint(r.val)
	if err == nil && n != len(r.val) {
		err = malformed("field %d: octets after the number", r.last)
	}
	r.fail(err)
	return v
}

func (r *reader) bool() bool {
	v := r.uint()
	if v > 1 {
		r.fail(malformed("field %d: not a yes or no", r.last))
	}
	return v == 1
}

func (r *reader) text(limit int) string {
	p := r.octets(limit)
	if !utf8.Valid(p) {
		r.fail(malformed("field %d: not UTF-8", r.last))
		return ""
	}
	return string(p)
}

// octets is the present field's content; it aliases the frame.
func (r *reader) octets(limit int) []byte {
	if len(r.val) == 0 {
		r.fail(malformed("field %d: an empty value is left out", r.last))
	}
	if len(r.val) > limit {
		r.fail(malformed("field %d: %d octets, at most %d", r.last, len(r.val), limit))
		return nil
	}
	return r.val
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) room(n int) {
	if n >= MaxItems {
		r.fail(malformed("field %d: more than %d items", r.last, MaxItems))
	}
}
