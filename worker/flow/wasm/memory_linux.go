package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pages keeps an image's octets in an anonymous file. Instances map it privately: they share its pages until they
// write to them.
type pages struct {
	octets []byte // the file, mapped for reading
	fd     int
}

func newPages(octets []byte) (pages, error) {
	fd, err := unix.MemfdCreate("flow-image", unix.MFD_CLOEXEC)
	if err != nil {
		return pages{}, fmt.Errorf("create memory file: %w", err)
	}
	for n := 0; n < len(octets); {
		w, err := unix.Pwrite(fd, octets[n:], int64(n))
		if err != nil {
			_ = unix.Close(fd)
			return pages{}, fmt.Errorf("write memory file: %w", err)
		}
		n += w
	}
	view, err := unix.Mmap(fd, 0, len(octets), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		_ = unix.Close(fd)
		return pages{}, fmt.Errorf("map memory file: %w", err)
	}
	return pages{octets: view, fd: fd}, nil
}

func (p *pages) free() {
	if p.octets != nil {
		_ = unix.Munmap(p.octets)
		_ = unix.Close(p.fd)
		p.octets = nil
	}
}

// A mapping is an instance's linear memory: address space for as much as it may ever have, the image at its start.
// It never moves.
type mapping struct {
	octets []byte
	base   unsafe.Pointer
	mapped uintptr // octets of the image that are mapped here
}

// newMapping reserves address space for so many octets, which costs no memory until it is written to.
func newMapping(limit uint64, img *image) (*mapping, error) {
	base, err := unix.MmapPtr(-1, 0, nil, uintptr(limit), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d octets: %w", limit, err)
	}
	m := &mapping{base: base, octets: unsafe.Slice((*byte)(base), limit)} //nolint:gosec // the mapping has this length
	if img == nil {
		return m, nil
	}
	m.mapped = uintptr(len(img.octets))
	_, err = unix.MmapPtr(img.fd, 0, base, m.mapped, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
	if err != nil {
		m.Free()
		return nil, fmt.Errorf("map image: %w", err)
	}
	return m, nil
}

// Reallocate implements experimental.LinearMemory.
func (m *mapping) Reallocate(size uint64) []byte {
	if size > uint64(len(m.octets)) {
		return nil
	}
	return m.octets[:size]
}

// Free implements experimental.LinearMemory.
func (m *mapping) Free() {
	if m.octets != nil {
		_ = unix.MunmapPtr(m.base, uintptr(len(m.octets)))
		m.octets = nil
	}
}

// The kernel's words about each page, in /proc/self/pagemap.
const (
	pagemapPresent = 1 << 63
	pagemapSwapped = 1 << 62
	pagemapShared  = 1 << 61 // a page of the file, not a private copy
	entrySize      = 8
)

var pagemap = sync.OnceValues(func() (*os.File, error) { return os.Open("/proc/self/pagemap") })

var entries = sync.Pool{New: func() any { return new([]byte) }}

// touched calls f with the place of each page that the instance has a copy of its own of. It tells false when the
// kernel does not say.
func (m *mapping) touched(f func(from, to int)) bool {
	file, err := pagemap()
	if err != nil {
		return false
	}
	size := os.Getpagesize()
	n := int(m.mapped) / size
	buf := entries.Get().(*[]byte)
	defer entries.Put(buf)
	if cap(*buf) < n*entrySize {
		*buf = make([]byte, n*entrySize)
	}
	p := (*buf)[:n*entrySize]
	if got, err := unix.Pread(int(file.Fd()), p, int64(uintptr(m.base))/int64(size)*entrySize); err != nil || got != len(p) {
		return false
	}
	for i := range n {
		e := binary.LittleEndian.Uint64(p[i*entrySize:])
		if e&pagemapSwapped != 0 && e&pagemapShared == 0 || e&pagemapPresent != 0 && e&pagemapShared == 0 {
			f(i*size, (i+1)*size)
		}
	}
	return true
}

// restore makes the memory equal to the image again. Pages once copied stay private, so the next time they are
// copied again: cheaper than giving them back and faulting them in anew.
func (m *mapping) restore(img *image) bool {
	if m.touched(func(from, to int) { copy(m.octets[from:to], img.octets[from:to]) }) {
		return true
	}
	return compare(m.octets[:m.mapped], img.octets)
}

func (m *mapping) dirty(img *image) int {
	n := 0
	m.touched(func(from, to int) {
		if !bytes.Equal(m.octets[from:to], img.octets[from:to]) {
			n += to - from
		}
	})
	return n
}
