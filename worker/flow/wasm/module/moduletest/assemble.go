// Package moduletest assembles small flow modules by hand, for tests of what no toolchain would write.
package moduletest

import "encoding/binary"

// Instructions that tests write.
const (
	Unreachable, Block, Loop, If, Else, End = 0x00, 0x02, 0x03, 0x04, 0x05, 0x0b
	Br, BrIf, BrTable, Return, Call         = 0x0c, 0x0d, 0x0e, 0x0f, 0x10
	LocalGet, LocalSet                      = 0x20, 0x21
	I32Const, I64Const, Void                = 0x41, 0x42, 0x40
)

// Manifest is what an assembled module describes itself with.
const Manifest = `{"abi":1,"flows":[{"class":"made by hand","kind":"client"}]}`

// A Module is a module in the making. Change a valid one from Valid.
type Module struct {
	Imports []Import
	Exports []Export
	Memory  []byte // the memory section's one entry
	Begin   []byte // the instructions of fl_begin, without the last end; local 1 is an i32
	Data    []byte // the data section
	Start   []byte // the start section, or nil
	Extra   []byte // octets after the last section
}

// Import is an imported function.
type Import struct {
	Module, Name string
	Type         byte
}

// Export is an export of any kind.
type Export struct {
	Name  string
	Kind  byte
	Index byte
}

// types are the module's types by index: ()->(), ()->i32, ()->i64, i32->i32, i32->i64, (i32,i32,i32)->().
var types = []byte{6,
	0x60, 0, 0, 0x60, 0, 1, 0x7f, 0x60, 0, 1, 0x7e,
	0x60, 1, 0x7f, 1, 0x7f, 0x60, 1, 0x7f, 1, 0x7e, 0x60, 3, 0x7f, 0x7f, 0x7f, 0}

const manifestAt, bufferAt, answerAt = 1024, 4096, 2048

// answer is a command frame that completes a flow: command 1, op 8.
var answer = []byte{1, 6, 1, 1, 1, 2, 1, 8}

// Valid is a module that completes every flow at once.
func Valid() *Module {
	return &Module{
		Imports: []Import{{"hawser", "yield", 0}, {"hawser", "log", 5}},
		Exports: []Export{{"memory", 2, 0}, {"fl_abi", 0, 2}, {"fl_describe", 0, 3}, {"fl_buf", 0, 4}, {"fl_begin", 0, 5}, {"fl_resume", 0, 6}},
		Memory:  []byte{1, 1, 16},
		Data: join([]byte{2},
			[]byte{0, I32Const}, signed(manifestAt), []byte{End, byte(len(Manifest))}, []byte(Manifest),
			[]byte{0, I32Const}, signed(answerAt), []byte{End, byte(len(answer))}, answer),
	}
}

// Assemble writes the module.
func (m *Module) Assemble() []byte {
	imports, exports := []byte{byte(len(m.Imports))}, []byte{byte(len(m.Exports))}
	for _, i := range m.Imports {
		imports = append(join(imports, name(i.Module), name(i.Name)), 0, i.Type)
	}
	for _, e := range m.Exports {
		exports = append(append(exports, name(e.Name)...), e.Kind, e.Index)
	}
	done := constant(answerAt<<32 | int64(len(answer)))
	code := join([]byte{5},
		body(nil, []byte{I32Const, 1}),
		body(nil, constant(manifestAt<<32|int64(len(Manifest)))),
		body(nil, join([]byte{I32Const}, signed(bufferAt))),
		body([]byte{1, 1, 0x7f}, join(m.Begin, done)),
		body(nil, done))
	out := join([]byte("\x00asm\x01\x00\x00\x00"), section(1, types), section(2, imports),
		section(3, []byte{5, 1, 2, 3, 4, 4}), section(5, join([]byte{1}, m.Memory)), section(7, exports))
	if m.Start != nil {
		out = append(out, section(8, m.Start)...)
	}
	return join(out, section(10, code), section(11, m.Data), m.Extra)
}

func constant(v int64) []byte { return join([]byte{I64Const}, signed(v)) }

func body(locals, code []byte) []byte {
	if locals == nil {
		locals = []byte{0}
	}
	b := append(join(locals, code), End)
	return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
}

func section(id byte, payload []byte) []byte {
	return append(binary.AppendUvarint([]byte{id}, uint64(len(payload))), payload...)
}

func name(s string) []byte { return append([]byte{byte(len(s))}, s...) }

func signed(v int64) (b []byte) {
	for {
		low := byte(v & 0x7f)
		v >>= 7
		if v == 0 && low&0x40 == 0 || v == -1 && low&0x40 != 0 {
			return append(b, low)
		}
		b = append(b, low|0x80)
	}
}

func join(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}
