//go:build !linux

package wasm

import "bytes"

// pages keeps an image's octets.
type pages struct{ octets []byte }

func newPages(octets []byte) (pages, error) { return pages{octets: bytes.Clone(octets)}, nil }

func (p *pages) free() { p.octets = nil }

// A mapping is an instance's linear memory: a copy of the image that grows by being copied.
type mapping struct {
	octets []byte
	limit  uint64
}

func newMapping(limit uint64, img *image) (*mapping, error) {
	m := &mapping{limit: limit}
	if img != nil {
		m.octets = bytes.Clone(img.octets)
	}
	return m, nil
}

// Reallocate implements experimental.LinearMemory.
func (m *mapping) Reallocate(size uint64) []byte {
	if size > m.limit {
		return nil
	}
	if size > uint64(len(m.octets)) {
		m.octets = append(m.octets, make([]byte, size-uint64(len(m.octets)))...)
	}
	return m.octets[:size]
}

// Free implements experimental.LinearMemory.
func (m *mapping) Free() { m.octets = nil }

func (m *mapping) restore(img *image) bool { return compare(m.octets[:len(img.octets)], img.octets) }

func (m *mapping) dirty(img *image) int {
	n := 0
	differing(m.octets[:len(img.octets)], img.octets, func(from, to int) { n += to - from })
	return n
}
