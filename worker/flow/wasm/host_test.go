package wasm

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/worker/flow/wasm/module"
	"github.com/hawser-project/hawser/worker/flow/wasm/module/moduletest"
)

func TestAModuleDescribesItsFlows(t *testing.T) {
	t.Parallel()
	m := load(t, tradePackage).Describe()
	offer, ok := m.Flow("com.example.trade.OfferTrade")
	if !ok || offer.Kind != Client || offer.Initiates.Name != "com.example.trade" {
		t.Errorf("got %+v", m)
	}
	answer, version, ok := m.Responder("com.example.trade", []int{1, 2})
	if !ok || answer.Class != "com.example.trade.AnswerOffer" || version != 1 {
		t.Errorf("got %+v version %d", answer, version)
	}
	if _, _, ok := m.Responder("com.example.trade", []int{2}); ok {
		t.Error("a version that the module does not speak was found")
	}
}

func TestAModuleIsLoadedOnceAndCanBeUnloaded(t *testing.T) {
	t.Parallel()
	h, err := NewHost(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close(context.Background()) })
	octets := moduletest.Valid().Assemble()
	programs := make([]*Program, 8)
	var wg sync.WaitGroup
	for n := range programs {
		wg.Go(func() { programs[n], _ = h.Load(t.Context(), octets) })
	}
	wg.Wait()
	for _, p := range programs {
		if p == nil || p != programs[0] {
			t.Fatalf("got %p and %p, want one program", p, programs[0])
		}
	}
	if p, ok := h.Program(programs[0].Hash); !ok || p != programs[0] {
		t.Error("the program is not found by its hash")
	}
	if err := h.Unload(t.Context(), programs[0]); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Program(programs[0].Hash); ok {
		t.Error("the program is still found")
	}
}

func TestEveryHostMakesTheSameImage(t *testing.T) {
	t.Parallel()
	other, err := NewHost(t.Context(), Config{CacheDir: shared.dir + "/cache"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close(context.Background()) })
	first := load(t, probePackage)
	began := time.Now()
	again, err := other.Load(t.Context(), octets(t, probePackage))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("loaded from the cache in %v", time.Since(began))
	if got, want := again.ImageHash(), first.ImageHash(); got != want {
		t.Errorf("got image %x, want %x", got, want)
	}
}

func TestTheDocumentedBuildIsReproducible(t *testing.T) {
	t.Parallel()
	again, output, err := compile(filepath.Join(t.TempDir(), "again.wasm"), tradePackage)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if !bytes.Equal(octets(t, tradePackage), again) {
		t.Error("a second build differs from the first")
	}
}

func TestAModuleThatDescribesItselfWronglyIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ from, to, want string }{
		"no JSON":      {`{"abi"`, `["abi"`, "manifest: "},
		"no flows":     {`"flows"`, `"flaws"`, "declares 0 flows"},
		"no class":     {"made by hand", "", `class "": want 1 to 512 octets`},
		"another kind": {"client", "server", `has kind "server"`},
		"no protocol":  {`"client"`, `"responder"`, `has kind "responder"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseManifest([]byte(strings.Replace(moduletest.Manifest, c.from, c.to, 1)))
			if !errors.Is(err, module.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// No way to run for ever escapes the fuel checks, least of all one that looks like Go's dispatch loops, where some
// branches are not charged.
func TestEveryEndlessLoopRunsOutOfFuel(t *testing.T) {
	t.Parallel()
	const (
		block, loop, end, void       = moduletest.Block, moduletest.Loop, moduletest.End, moduletest.Void
		br, brIf, brTable            = moduletest.Br, moduletest.BrIf, moduletest.BrTable
		get, set, num, local         = moduletest.LocalGet, moduletest.LocalSet, moduletest.I32Const, 1
		dispatchTo0, otherwise, once = 0, 0, 1
	)
	for name, code := range map[string][]byte{
		"branch":            {loop, void, br, 0, end},
		"conditional":       {loop, void, num, 1, brIf, 0, end},
		"table":             {loop, void, num, 0, brTable, 1, 0, 0, end},
		"outer loop":        {loop, void, block, void, loop, void, br, 2, end, end, end},
		"through an if":     {loop, void, num, 1, moduletest.If, void, br, 1, moduletest.Else, end, end},
		"dispatch back":     {loop, void, block, void, get, local, brTable, once, dispatchTo0, otherwise, end, num, 0, set, local, br, 0, end},
		"dispatch outwards": {loop, void, loop, void, block, void, get, local, brTable, 1, 0, 2, end, num, 5, set, local, br, 0, end, end},
		"dispatch both ways": {loop, void, block, void, block, void, get, local, brTable, 1, 0, 1, end,
			num, 1, set, local, br, 1, // forward, to the end of the outer block: not charged
			end, num, 0, set, local, br, 0, end},
		"dispatch by another": {loop, void, block, void, block, void, get, 0, brTable, 1, 0, 1, end,
			num, 1, set, local, br, 1, end, num, 0, set, local, br, 0, end},
		"recursion": {get, 0, moduletest.Call, 5, 0x1a, get, 0, moduletest.Call, 5, 0x1a},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := moduletest.Valid()
			m.Begin = code
			p, err := shared.host.Load(t.Context(), m.Assemble())
			if err != nil {
				t.Fatal(err)
			}
			i, err := NewPool(0, 0).Get(t.Context(), p, "owner")
			if err != nil {
				t.Fatal(err)
			}
			_, err = i.Begin(t.Context(), start("made by hand", 0), Limits{Fuel: 100_000, Time: time.Minute})
			trap, overflow := errors.AsType[*TrapError](err)
			if !errors.Is(err, ErrFuel) && !(overflow && trap.Reason == "stack overflow") {
				t.Errorf("got %v, want no fuel", err)
			}
			_ = i.Close()
		})
	}
}

// What wazero takes, it must also take once rewritten.
func FuzzRewrite(f *testing.F) {
	f.Add(moduletest.Valid().Assemble())
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := module.Prepare(p)
		if err != nil || m.Pages > 16 {
			return
		}
		before, err := shared.host.runtime.CompileModule(t.Context(), p)
		if err != nil {
			return
		}
		defer func() { _ = before.Close(context.Background()) }()
		after, err := shared.host.runtime.CompileModule(t.Context(), m.Module)
		if err != nil {
			t.Fatalf("the module compiles, the rewritten one does not: %v", err)
		}
		_ = after.Close(context.Background())
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(moduletest.Manifest))
	f.Add([]byte(`{"abi":1,"flows":[{"class":"a","kind":"responder","responds":{"name":"p","versions":[1]}}]}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := parseManifest(p)
		if err != nil && !errors.Is(err, module.ErrInvalid) {
			t.Errorf("got %v, want an invalid module", err)
		}
		for _, flow := range m.Flows {
			if _, ok := m.Flow(flow.Class); !ok {
				t.Errorf("%q is not found", flow.Class)
			}
		}
	})
}
