package module_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/worker/flow/wasm/module"
	"github.com/hawser-project/hawser/worker/flow/wasm/module/moduletest"
)

func TestAModuleIsToldExactlyWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*moduletest.Module)
		want   string
	}{
		"a foreign import":   {func(m *moduletest.Module) { m.Imports[1].Module = "env" }, "imports env.log: only hawser and wasi_snapshot_preview1 may be imported from"},
		"an unknown import":  {func(m *moduletest.Module) { m.Imports[1].Name = "exec" }, "imports hawser.exec, which does not exist"},
		"a wrong import":     {func(m *moduletest.Module) { m.Imports[1].Type = 0 }, `imports hawser.log with signature ":", want "iii:"`},
		"a type too many":    {func(m *moduletest.Module) { m.Imports[1].Type = 100 }, `imports hawser.log with signature ""`},
		"no yield":           {func(m *moduletest.Module) { m.Imports[0] = m.Imports[1] }, "does not import hawser.yield"},
		"no exports":         {func(m *moduletest.Module) { m.Exports = m.Exports[:5] }, "does not export fl_resume"},
		"no memory":          {func(m *moduletest.Module) { m.Exports[0].Name = "mem" }, `does not export its memory as "memory"`},
		"a wrong export":     {func(m *moduletest.Module) { m.Exports[1].Index = 3 }, `exports fl_abi with signature ":I", want ":i"`},
		"an export of none":  {func(m *moduletest.Module) { m.Exports[1].Index = 100 }, `exports fl_abi with signature ""`},
		"an export twice":    {func(m *moduletest.Module) { m.Exports[1].Name = "memory" }, "exports memory twice"},
		"a reserved name":    {func(m *moduletest.Module) { m.Exports = append(m.Exports, moduletest.Export{Name: "__fuel"}) }, "exports __fuel, a name that is reserved"},
		"a start function":   {func(m *moduletest.Module) { m.Start = []byte{0} }, "has a start function"},
		"shared memory":      {func(m *moduletest.Module) { m.Memory = []byte{3, 1, 16} }, "memory is shared"},
		"vectors":            {func(m *moduletest.Module) { m.Begin = []byte{0xfd, 12} }, "function 5: invalid module: instruction 0xfd is not supported"},
		"a tail call":        {func(m *moduletest.Module) { m.Begin = []byte{0x12, 0} }, "instruction 0x12 is not supported"},
		"an atomic":          {func(m *moduletest.Module) { m.Begin = []byte{0xfe, 0} }, "instruction 0xfe is not supported"},
		"a branch too far":   {func(m *moduletest.Module) { m.Begin = []byte{moduletest.Br, 9} }, "branch over 9 levels of 1"},
		"an end too many":    {func(m *moduletest.Module) { m.Begin = []byte{moduletest.End} }, "octets after its end"},
		"an end too few":     {func(m *moduletest.Module) { m.Begin = []byte{moduletest.Block, moduletest.Void} }, "ends too early"},
		"data outside":       {func(m *moduletest.Module) { m.Data = []byte{1, 0, moduletest.I32Const, 0x7f, moduletest.End, 1, 0} }, "outside of the memory"},
		"data at a variable": {func(m *moduletest.Module) { m.Data = []byte{1, 0, 0x23, 0, moduletest.End, 1, 0} }, "at a place that is no constant"},
		"a section again":    {func(m *moduletest.Module) { m.Extra = []byte{1, 1, 0} }, "section 1 out of order"},
		"an unknown section": {func(m *moduletest.Module) { m.Extra = []byte{77, 0} }, "section 77 is not known"},
		"octets at the end":  {func(m *moduletest.Module) { m.Extra = []byte{0, 9} }, "9 octets announced, 0 left"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := moduletest.Valid()
			c.change(m)
			err := module.Validate(m.Assemble())
			if !errors.Is(err, module.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestWhatIsNoModuleIsRefused(t *testing.T) {
	t.Parallel()
	for _, p := range [][]byte{nil, []byte("\x7fELF"), []byte("\x00asm\x0d\x00\x01\x00"), make([]byte, module.MaxSize+1)} {
		if err := module.Validate(p); !errors.Is(err, module.ErrInvalid) {
			t.Errorf("%.8q: got %v, want an invalid module", p, err)
		}
	}
}

func TestAModuleCutShortIsRefused(t *testing.T) {
	t.Parallel()
	whole := moduletest.Valid().Assemble()
	if err := module.Validate(whole); err != nil {
		t.Fatal(err)
	}
	data := len(whole) - len(moduletest.Valid().Data) - 2 // the data section may be missing
	for n := range len(whole) {
		if err := module.Validate(whole[:n]); err == nil && n != data {
			t.Errorf("cut to %d of %d octets: no error", n, len(whole))
		}
	}
}

func TestDataIsSetAsideAndGlobalsAreExported(t *testing.T) {
	t.Parallel()
	p, err := module.Prepare(moduletest.Valid().Assemble())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Data) != 2 || string(p.Data[0].Bytes) != moduletest.Manifest || p.Data[0].Offset != 1024 {
		t.Errorf("got data %+v", p.Data)
	}
	if strings.Contains(string(p.Module), moduletest.Manifest) || !strings.Contains(string(p.Module), p.Fuel) {
		t.Error("the module still has its data, or has no fuel")
	}
}

func FuzzPrepare(f *testing.F) {
	f.Add(moduletest.Valid().Assemble())
	dispatch := moduletest.Valid()
	dispatch.Begin = []byte{moduletest.Loop, 0x40, moduletest.Block, 0x40, moduletest.LocalGet, 1, moduletest.BrTable, 1, 0, 0, moduletest.End,
		moduletest.I32Const, 0, moduletest.LocalSet, 1, moduletest.Br, 0, moduletest.End}
	f.Add(dispatch.Assemble())
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := module.Prepare(p)
		if err != nil {
			if !errors.Is(err, module.ErrInvalid) {
				t.Errorf("got %v, want an invalid module", err)
			}
			return
		}
		if len(m.Module) > 64*len(p)+1<<16 {
			t.Errorf("%d octets became %d", len(p), len(m.Module))
		}
	})
}
