package module

import (
	"errors"
	"fmt"
)

// ErrInvalid is wrapped by every error that a module's octets cause.
var ErrInvalid = errors.New("invalid module")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// A reader consumes octets. After the first error it gives zeros, and the error stays.
type reader struct {
	p   []byte
	off int
	err error
}

func (r *reader) left() int { return len(r.p) - r.off }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = invalid(format, args...)
		r.off = len(r.p)
	}
}

func (r *reader) byte() byte {
	if r.off >= len(r.p) {
		r.fail("ends too early")
		return 0
	}
	r.off++
	return r.p[r.off-1]
}

func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(r.left()) {
		r.fail("%d octets announced, %d left", n, r.left())
		return nil
	}
	r.off += int(n)
	return r.p[r.off-int(n) : r.off]
}

// u32 reads an unsigned LEB128 number of at most 32 bits, padding allowed as the specification has it.
func (r *reader) u32() uint32 {
	if r.off < len(r.p) && r.p[r.off] < 0x80 { // nearly always
		r.off++
		return uint32(r.p[r.off-1])
	}
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			if v>>32 != 0 {
				r.fail("number over 32 bits")
			}
			return uint32(v)
		}
	}
	r.fail("number over 5 octets")
	return 0
}

// signed reads a signed LEB128 number of at most so many octets.
func (r *reader) signed(octets int) int64 {
	var v int64
	for i := range octets {
		b := r.byte()
		v |= int64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			if shift := 7 * (i + 1); shift < 64 {
				v = v << (64 - shift) >> (64 - shift)
			}
			return v
		}
	}
	r.fail("number over %d octets", octets)
	return 0
}

// count reads the length of a list whose items take at least one octet each.
func (r *reader) count(what string, limit uint32) int {
	n := r.u32()
	if n > limit || uint64(n) > uint64(r.left()) {
		r.fail("%d %s", n, what)
		return 0
	}
	return int(n)
}

func (r *reader) name() string {
	return string(r.take(r.u32()))
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendName(b []byte, s string) []byte {
	return append(appendU32(b, uint32(len(s))), s...)
}
