// Package wasm runs flows in uploaded WebAssembly modules. A Host compiles modules; a Program is a compiled module
// with the memory image that each of its flows begins with; a Pool keeps instances; an Instance holds one flow and
// takes it from step to step. The package decides nothing about flows: what a flow asks for comes out as commands.
//
// A module sees no clock, no randomness and no input but the frames it is given, so the same frames give the same
// commands on any machine. Limits work through fuel checks that package module puts into the code: a check that
// finds no fuel calls back into the host, which refuels, or unwinds the instance. That callback is also what lets the
// host's garbage collector go on while a module computes, so it is never optional.
//
// Build a flow module with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -buildvcs=false -ldflags="-s -w -buildid=" -o app.wasm .
package wasm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/hawser-project/hawser/worker/flow/wasm/module"
)

// Config of a Host. The zero value is usable.
type Config struct {
	// CacheDir keeps compiled modules between runs: 20 to 60 ms instead of a second or two. Empty: none are kept.
	CacheDir string
	// MemoryPages is the most memory that a flow may have, in pages of 64 KiB. Default 1024, which is 64 MiB.
	MemoryPages uint32
	// CompileWorkers is how many goroutines compile one module. Default 2.
	CompileWorkers int
}

// BuildArgs are the arguments of the go command that builds a flow module, with GOOS=wasip1 and GOARCH=wasm in the
// environment. The flags make the build reproducible.
func BuildArgs(output, pkg string) []string {
	return []string{"build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", output, pkg}
}

// A Host compiles and holds modules. It is safe for concurrent use.
type Host struct {
	config  Config
	cache   wazero.CompilationCache
	runtime wazero.Runtime

	mu       sync.Mutex
	programs map[module.Hash]*loading // guarded by mu
}

// A loading is a program or the work that is to become one.
type loading struct {
	done    chan struct{}
	program *Program
	err     error
}

// NewHost makes a host.
func NewHost(ctx context.Context, c Config) (*Host, error) {
	if c.MemoryPages == 0 {
		c.MemoryPages = 1024
	}
	if c.CompileWorkers == 0 {
		c.CompileWorkers = 2
	}
	h := &Host{config: c, cache: wazero.NewCompilationCache(), programs: map[module.Hash]*loading{}}
	if c.CacheDir != "" {
		var err error
		if h.cache, err = wazero.NewCompilationCacheWithDir(c.CacheDir); err != nil {
			return nil, fmt.Errorf("open module cache: %w", err)
		}
	}
	rc := wazero.NewRuntimeConfig().WithCompilationCache(h.cache).WithMemoryLimitPages(c.MemoryPages).
		WithCoreFeatures(api.CoreFeaturesV2)
	h.runtime = wazero.NewRuntimeWithConfig(ctx, rc)
	if err := h.bind(ctx); err != nil {
		return nil, errors.Join(err, h.Close(ctx))
	}
	return h, nil
}

// Close frees everything. No instance may be in use, and Load may not be called any more.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	programs := h.programs
	h.programs = map[module.Hash]*loading{}
	h.mu.Unlock()
	for _, l := range programs {
		<-l.done // without the lock: a load that fails takes it
	}
	err := h.runtime.Close(ctx)
	for _, l := range programs {
		if l.program != nil {
			l.program.image.free()
		}
	}
	return errors.Join(err, h.cache.Close(ctx))
}

// Load checks, compiles and warms a module. A module that is there already is not compiled again; concurrent calls
// for the same module share the work.
func (h *Host) Load(ctx context.Context, octets []byte) (*Program, error) {
	m, err := module.Prepare(octets)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	l, ok := h.programs[m.Hash]
	if !ok {
		l = &loading{done: make(chan struct{})}
		h.programs[m.Hash] = l
	}
	h.mu.Unlock()
	if !ok {
		l.program, l.err = h.load(context.WithoutCancel(ctx), m) // others may wait for it too
		if l.err != nil {
			h.forget(m.Hash)
		}
		close(l.done)
	}
	select {
	case <-l.done:
		return l.program, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Program finds a loaded module.
func (h *Host) Program(hash module.Hash) (*Program, bool) {
	h.mu.Lock()
	l, ok := h.programs[hash]
	h.mu.Unlock()
	if !ok {
		return nil, false
	}
	select {
	case <-l.done:
		return l.program, l.program != nil
	default:
		return nil, false
	}
}

// Unload forgets a module once none of its instances is in use.
func (h *Host) Unload(ctx context.Context, p *Program) error {
	h.forget(p.Hash)
	err := p.compiled.Close(ctx)
	p.image.free()
	return err
}

func (h *Host) forget(hash module.Hash) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.programs, hash)
}

func (h *Host) load(ctx context.Context, m *module.Prepared) (*Program, error) {
	if m.Pages > h.config.MemoryPages {
		return nil, fmt.Errorf("%w: its memory begins with %d pages, at most %d", module.ErrInvalid, m.Pages, h.config.MemoryPages)
	}
	ctx = experimental.WithCompilationWorkers(ctx, h.config.CompileWorkers)
	compiled, err := h.runtime.CompileModule(ctx, m.Module)
	if err != nil {
		return nil, fmt.Errorf("%w: compile: %w", module.ErrInvalid, err)
	}
	p := &Program{Hash: m.Hash, host: h, prepared: m, compiled: compiled}
	if err := p.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start module %s: %w", m.Hash, err), compiled.Close(ctx))
	}
	return p, nil
}
