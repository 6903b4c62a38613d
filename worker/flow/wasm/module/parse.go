package module

import "bytes"

// Bounds of a module, above what any toolchain makes of a flow.
const (
	// MaxSize is the largest module.
	MaxSize = 32 << 20

	maxFunctions = 500_000
	maxItems     = 100_000 // types, imports, globals, exports, data segments
	maxLocals    = 50_000  // of one function; wazero has the same bound
)

// Section ids of the binary format.
const (
	secCustom, secType, secImport, secFunction, secTable, secMemory, secGlobal = 0, 1, 2, 3, 4, 5, 6
	secExport, secStart, secElement, secCode, secData, secDataCount            = 7, 8, 9, 10, 11, 12
)

// Kinds of imports and exports.
const kindFunc, kindTable, kindMemory, kindGlobal = 0, 1, 2, 3

// A parsed module: what the checks and the rewrite need of it. Its slices alias the module's octets.
type parsed struct {
	sections []section
	types    []funcType
	imports  []imported // functions only: nothing else may be imported
	funcs    []uint32   // type index of each own function
	memory   limits
	memories int
	globals  []global
	exports  map[string]export
	start    bool
	code     []byte
	data     []byte
}

type section struct {
	id      byte
	payload []byte
}

type funcType struct {
	params int
	sig    string // "iI:i": i i32, I i64, f f32, F f64, ? other
}

type imported struct {
	module, name string
	typ          uint32
}

type limits struct {
	min, max uint32 // in pages of 64 KiB
	bounded  bool
}

type global struct {
	typ     byte
	mutable bool
}

type export struct {
	kind  byte
	index uint32
}

func parse(p []byte) (*parsed, error) {
	if len(p) > MaxSize {
		return nil, invalid("%d octets, at most %d", len(p), MaxSize)
	}
	if !bytes.HasPrefix(p, []byte("\x00asm\x01\x00\x00\x00")) {
		return nil, invalid("not a WebAssembly 1.0 binary module")
	}
	m, r := &parsed{exports: map[string]export{}}, &reader{p: p, off: 8}
	last := byte(0)
	for r.err == nil && r.left() > 0 {
		s := section{id: r.byte()}
		s.payload = r.take(r.u32())
		if s.id != secCustom {
			if order(s.id) <= last {
				r.fail("section %d out of order", s.id)
			}
			last = order(s.id)
		}
		if r.err == nil {
			r.err = m.section(s)
		}
		m.sections = append(m.sections, s)
	}
	return m, r.err
}

// order is a section's place: the data count stands before the code.
func order(id byte) byte {
	switch id {
	case secDataCount:
		return secCode
	case secCode, secData:
		return id + 1
	}
	return id
}

func (m *parsed) section(s section) error {
	r := &reader{p: s.payload}
	switch s.id {
	case secType:
		m.readTypes(r)
	case secImport:
		m.readImports(r)
	case secFunction:
		for range r.count("functions", maxFunctions) {
			m.funcs = append(m.funcs, r.u32())
		}
	case secMemory:
		m.memories = r.count("memories", maxItems)
		for range m.memories {
			m.memory = r.limits()
		}
	case secGlobal:
		m.readGlobals(r)
	case secExport:
		m.readExports(r)
	case secStart:
		m.start = true
		r.u32()
	case secCode:
		m.code = s.payload
		return nil
	case secData:
		m.data = s.payload
		return nil
	case secCustom, secTable, secElement, secDataCount:
		return nil
	default:
		return invalid("section %d is not known", s.id)
	}
	if r.err == nil && r.left() > 0 {
		r.fail("section %d: %d octets too many", s.id, r.left())
	}
	return r.err
}

func (m *parsed) readTypes(r *reader) {
	for range r.count("types", maxItems) {
		if form := r.byte(); r.err == nil && form != 0x60 {
			r.fail("type of form %#x", form)
		}
		params := r.valTypes()
		m.types = append(m.types, funcType{params: len(params), sig: params + ":" + r.valTypes()})
	}
}

func (r *reader) valTypes() string {
	p := bytes.Clone(r.take(uint32(r.count("values", 1000))))
	for i, t := range p {
		switch t {
		case 0x7f:
			p[i] = 'i'
		case 0x7e:
			p[i] = 'I'
		case 0x7d:
			p[i] = 'f'
		case 0x7c:
			p[i] = 'F'
		default:
			p[i] = '?'
		}
	}
	return string(p)
}

func (m *parsed) readImports(r *reader) {
	for range r.count("imports", maxItems) {
		i := imported{module: r.name(), name: r.name()}
		kind := r.byte()
		if r.err == nil && kind != kindFunc {
			r.fail("imports %s.%s, which is no function: only functions may be imported", i.module, i.name)
		}
		i.typ = r.u32()
		m.imports = append(m.imports, i)
	}
}

func (r *reader) limits() limits {
	flags := r.byte()
	switch {
	case r.err == nil && flags&2 != 0:
		r.fail("memory is shared: threads are not available in a flow")
	case flags > 1:
		r.fail("memory with flags %#x", flags)
	}
	l := limits{min: r.u32(), bounded: flags&1 != 0}
	if l.bounded {
		l.max = r.u32()
	}
	return l
}

func (m *parsed) readGlobals(r *reader) {
	for range r.count("globals", maxItems) {
		g := global{typ: r.byte()}
		switch mut := r.byte(); mut {
		case 0, 1:
			g.mutable = mut == 1
		default:
			r.fail("global with mutability %d", mut)
		}
		for r.err == nil { // an initial value is a constant expression
			if op := r.byte(); op == opEnd || !constant(r, op) {
				break
			}
		}
		m.globals = append(m.globals, g)
	}
}

// constant skips one instruction of a constant expression.
func constant(r *reader, op byte) bool {
	switch op {
	case opI32Const:
		r.signed(5)
	case opI64Const:
		r.signed(10)
	case opF32Const:
		r.take(4)
	case opF64Const:
		r.take(8)
	case opGlobalGet, opRefFunc:
		r.u32()
	case opRefNull:
		r.byte()
	default:
		r.fail("instruction %#x in a constant expression", op)
		return false
	}
	return true
}

func (m *parsed) readExports(r *reader) {
	for range r.count("exports", maxItems) {
		name := r.name()
		if _, twice := m.exports[name]; twice && r.err == nil {
			r.fail("exports %s twice", name)
		}
		m.exports[name] = export{kind: r.byte(), index: r.u32()}
	}
}

// signature is the type of a function in the index space of imports and own functions.
func (m *parsed) signature(index uint32) (string, bool) {
	t := index
	switch own := int64(index) - int64(len(m.imports)); {
	case own < 0:
		t = m.imports[index].typ
	case own < int64(len(m.funcs)):
		t = m.funcs[own]
	default:
		return "", false
	}
	if int64(t) >= int64(len(m.types)) {
		return "", false
	}
	return m.types[t].sig, true
}
