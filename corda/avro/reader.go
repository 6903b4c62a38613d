// Package avro is the part of Apache Avro that Corda's peer-to-peer messages use: the binary encoding of a handful of
// types, Corda's registry envelope, single-object encoding, and the fingerprints of schemas (spec/p2p-wire.md 1).
// Records are written and read field by field by the packages that own them. There is no reflection, no schema
// resolution and no code generation here: Corda peers never exchange schemas.
//
// Everything read may come from anyone. No length or count is believed before it is compared with what is there.
package avro

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"unicode/utf8"
)

// MaxField bounds a string or bytes field, as Corda bounds it for the whole process (spec/p2p-wire.md 6.2).
const MaxField = 5_000_000

var (
	// ErrTruncated is returned for input that ends within a value.
	ErrTruncated = errors.New("avro: input ends within a value")
	// ErrMalformed is returned for input that no writer can have written.
	ErrMalformed = errors.New("avro: malformed input")
	// ErrTooLarge is returned for a field or an inflated payload above its bound.
	ErrTooLarge = errors.New("avro: value is too large")
)

// A Reader reads values off the front of a byte slice. The first error sticks: later reads return zero values, so a
// record is read straight through and Err asked once at the end.
type Reader struct {
	rest []byte
	err  error
}

// NewReader returns a Reader of b, which it never changes. Byte slices read are parts of b.
func NewReader(b []byte) Reader { return Reader{rest: b} }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Rest returns what has not been read.
func (r *Reader) Rest() []byte { return r.rest }

func (r *Reader) fail(err error) {
	if r.err == nil {
		r.err = err
		r.rest = nil
	}
}

// Long reads a zig-zag varint of at most ten octets. It need not be minimal (spec/p2p-wire.md 3.7).
func (r *Reader) Long() int64 {
	var u uint64
	for i, c := range r.rest {
		if i == 9 && c > 1 {
			r.fail(fmt.Errorf("%w: number of more than 64 bits", ErrMalformed))
			return 0
		}
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.rest = r.rest[i+1:]
			return int64(u>>1) ^ -int64(u&1)
		}
	}
	r.fail(ErrTruncated)
	return 0
}

// Int reads a number of 32 bits.
func (r *Reader) Int() int32 {
	n := r.Long()
	if n < math.MinInt32 || n > math.MaxInt32 {
		r.fail(fmt.Errorf("%w: number of more than 32 bits", ErrMalformed))
		return 0
	}
	return int32(n)
}

// Index reads the branch of a union or the symbol of an enum that has n of them.
func (r *Reader) Index(n int) int {
	i := r.Long()
	if i < 0 || i >= int64(n) {
		r.fail(fmt.Errorf("%w: branch %d of %d", ErrMalformed, i, n))
		return 0
	}
	return int(i)
}

// Bytes reads a bytes field. The result is part of the input and is never nil unless there was an error.
func (r *Reader) Bytes() []byte {
	n := r.Long()
	switch {
	case r.err != nil:
		return nil
	case n < 0:
		r.fail(fmt.Errorf("%w: length %d", ErrMalformed, n))
		return nil
	case n > MaxField:
		r.fail(fmt.Errorf("%w: field of %d octets, at most %d", ErrTooLarge, n, MaxField))
		return nil
	}
	return r.Fixed(int(n))
}

// Fixed reads n octets, as a part of the input.
func (r *Reader) Fixed(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.rest) {
		r.fail(ErrTruncated)
		return nil
	}
	octets := r.rest[:n:n]
	r.rest = r.rest[n:]
	return octets
}

// String reads a string field, which must be UTF-8: Java would replace what is not, and then sign something else. If
// the value is one of likely, that one is returned and nothing is allocated.
func (r *Reader) String(likely ...string) string {
	octets := r.Bytes()
	for _, s := range likely {
		if string(octets) == s {
			return s
		}
	}
	if !utf8.Valid(octets) {
		r.fail(fmt.Errorf("%w: string is not UTF-8", ErrMalformed))
		return ""
	}
	return string(octets)
}

// Items iterates over an array: its body reads one item each time. Arrays may come in several blocks, with counts of
// either sign (spec/p2p-wire.md 1.1). An item must take at least one octet, which bounds the number of items.
func (r *Reader) Items() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 0; ; {
			count := r.blockCount()
			if count == 0 {
				return
			}
			for range count {
				if r.err != nil || !yield(i) {
					return
				}
				i++
			}
		}
	}
}

// blockCount reads the head of a block; 0 ends the array.
func (r *Reader) blockCount() int64 {
	count := r.Long()
	if count < 0 {
		count = -count // the smallest int64 has no negative and stays below zero
		if size := r.Long(); size < 0 || count < 0 {
			r.fail(fmt.Errorf("%w: array block of %d items in %d octets", ErrMalformed, count, size))
			return 0
		}
	}
	if count > int64(len(r.rest)) {
		r.fail(ErrTruncated)
		return 0
	}
	return count
}

// An Optional is a union of null and T.
type Optional[T any] struct {
	Value T    `json:"value" cbor:"1,keyasint"`
	Set   bool `json:"set" cbor:"2,keyasint"` // false: null
}

// Some returns the Optional that has a value.
func Some[T any](value T) Optional[T] { return Optional[T]{Value: value, Set: true} }
