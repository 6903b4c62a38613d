// Package module checks an uploaded WebAssembly module and rewrites it for the host: its data is set aside, because
// an instance's memory comes from an image; its mutable globals are exported, because they belong to that image; and
// fuel checks stop whatever runs too long. It does no I/O and runs nothing.
//
// Only what a flow needs of the binary format is known: WebAssembly 2.0 without SIMD. Octets are parsed once, every
// number is bounded, and the result is validated again by the engine that compiles it.
package module

import (
	"crypto/sha256"
	"fmt"
)

const fuelName = "__fuel"

// A Hash names a module by the SHA-256 of its octets as uploaded.
type Hash [sha256.Size]byte

func (h Hash) String() string { return fmt.Sprintf("%x", h[:]) }

// Prepared is a module that is ready to be compiled.
type Prepared struct {
	Hash Hash
	// Module is the rewritten module.
	Module []byte
	// Data is what the module's memory holds at the very start.
	Data []Segment
	// Globals are the export names of the mutable globals, fuel excluded.
	Globals []string
	// Fuel is the export name of the fuel counter, an i64: below zero, the next check calls hawser.yield.
	Fuel string
	// Pages is the memory's initial size in pages of 64 KiB.
	Pages uint32
	// Warms and Initializes tell which optional exports there are.
	Warms, Initializes bool
}

// Segment is data at an address.
type Segment struct {
	Offset uint32
	Bytes  []byte
}

// Validate says what is wrong with a module, in words for its author.
func Validate(p []byte) error {
	_, err := Prepare(p)
	return err
}

// Prepare checks and rewrites a module.
func Prepare(p []byte) (*Prepared, error) {
	m, err := parse(p)
	if err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	out := &Prepared{Hash: sha256.Sum256(p), Fuel: fuelName, Pages: m.memory.min}
	_, out.Warms = m.exports["fl_warm"]
	_, out.Initializes = m.exports["_initialize"]
	if err := m.rewrite(out); err != nil {
		return nil, err
	}
	return out, nil
}

// rewrite writes the sections again. Custom sections (names, debug information) are left out.
func (m *parsed) rewrite(out *Prepared) error {
	b := append(make([]byte, 0, len(m.code)*3), "\x00asm\x01\x00\x00\x00"...)
	written := false
	for _, s := range m.sections {
		payload, err := s.payload, error(nil)
		if !written && s.id != secCustom && order(s.id) > secGlobal {
			b, written = m.addGlobals(b, nil), true
		}
		switch s.id {
		case secCustom:
			continue
		case secGlobal:
			b, written = m.addGlobals(b, s.payload), true
			continue
		case secExport:
			payload = m.addExports(out, s.payload)
		case secCode:
			payload, err = m.addFuel()
		case secData:
			payload, out.Data, err = m.dropData()
		}
		if err != nil {
			return err
		}
		b = appendSection(b, s.id, payload)
	}
	out.Module = b
	return nil
}

func appendSection(b []byte, id byte, payload []byte) []byte {
	b = appendU32(append(b, id), uint32(len(payload)))
	return append(b, payload...)
}

// addGlobals adds the fuel counter as the last global, so that no index shifts.
func (m *parsed) addGlobals(b, payload []byte) []byte {
	r := &reader{p: payload}
	if payload != nil {
		r.u32()
	}
	g := appendU32(nil, uint32(len(m.globals))+1)
	g = append(g, payload[r.off:]...)
	g = append(g, i64, 1, opI64Const, 0, opEnd)
	return appendSection(b, secGlobal, g)
}

func (m *parsed) addExports(out *Prepared, payload []byte) []byte {
	r := &reader{p: payload}
	n := r.u32()
	var added []byte
	add := func(name string, global int) {
		added = append(appendName(added, name), kindGlobal)
		added = appendU32(added, uint32(global))
		n++
	}
	for i, g := range m.globals {
		if g.mutable {
			out.Globals = append(out.Globals, fmt.Sprintf("__g%d", i))
			add(out.Globals[len(out.Globals)-1], i)
		}
	}
	add(fuelName, len(m.globals))
	return append(append(appendU32(nil, n), payload[r.off:]...), added...)
}

func (m *parsed) addFuel() ([]byte, error) {
	r := &reader{p: m.code}
	n := r.count("function bodies", maxFunctions)
	if r.err == nil && n != len(m.funcs) {
		return nil, invalid("%d function bodies, want %d", n, len(m.funcs))
	}
	out := appendU32(make([]byte, 0, len(m.code)*2), uint32(n))
	for i := range n {
		body := r.take(r.u32())
		if r.err != nil {
			return nil, r.err
		}
		if int64(m.funcs[i]) >= int64(len(m.types)) {
			return nil, invalid("function %d has type %d of %d", i, m.funcs[i], len(m.types))
		}
		body, err := function(body, m.types[m.funcs[i]].params, uint32(len(m.globals)), m.yield())
		if err != nil {
			return nil, fmt.Errorf("function %d: %w", len(m.imports)+i, err)
		}
		out = append(appendU32(out, uint32(len(body))), body...)
	}
	if r.err == nil && r.left() > 0 {
		r.fail("%d octets after the last function", r.left())
	}
	return out, r.err
}

// dropData sets active segments aside and leaves an empty passive one in the place of each, which is what an active
// segment is once it has been copied; so no index shifts.
func (m *parsed) dropData() ([]byte, []Segment, error) {
	r := &reader{p: m.data}
	n := r.count("data segments", maxItems)
	out := appendU32(nil, uint32(n))
	var kept []Segment
	for range n {
		switch mode := r.u32(); {
		case mode == 1:
			p := r.take(r.u32())
			out = append(appendU32(append(out, 1), uint32(len(p))), p...)
			continue
		case mode == 2 && r.u32() != 0, mode > 2:
			r.fail("data segment of mode %d", mode)
		}
		if op := r.byte(); r.err == nil && op != opI32Const {
			r.fail("data segment at a place that is no constant")
		}
		offset := uint32(r.signed(5))
		if end := r.byte(); r.err == nil && end != opEnd {
			r.fail("data segment at a place that is no constant")
		}
		p := r.take(r.u32())
		if uint64(offset)+uint64(len(p)) > uint64(m.memory.min)<<16 {
			r.fail("data segment at %d is outside of the memory", offset)
		}
		if r.err != nil {
			return nil, nil, r.err
		}
		kept = append(kept, Segment{offset, p})
		out = append(out, 1, 0)
	}
	return out, kept, r.err
}
