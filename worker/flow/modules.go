package flow

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/worker/flow/wasm"
	"github.com/hawser-project/hawser/worker/flow/wasm/module"
)

// maxModule is the size of the largest module (cpi.Limits).
const maxModule = 64 << 20

// modules has the programs of modules, by the hash of module.wasm, which also names its blob.
type modules struct {
	config Config
	host   *wasm.Host

	mu        sync.Mutex
	reading   map[string]*sync.Mutex   // so that a module is read once; guarded by mu
	manifests map[string]wasm.Manifest // guarded by mu
}

func newModules(c Config) *modules {
	return &modules{config: c, reading: make(map[string]*sync.Mutex), manifests: make(map[string]wasm.Manifest)}
}

func (m *modules) open(ctx context.Context) (err error) {
	m.host, err = wasm.NewHost(ctx, wasm.Config{CacheDir: m.config.CacheDir, MemoryPages: m.config.MemoryPages})
	return err
}

func (m *modules) close(ctx context.Context) error { return m.host.Close(ctx) }

func parseHash(text string) (h module.Hash, err error) {
	octets, err := hex.DecodeString(text)
	if err != nil || len(octets) != len(h) {
		return h, fmt.Errorf("%q is not the hash of a module", text)
	}
	return module.Hash(octets), nil
}

// program returns a module ready to run, and compiles it first where it has to.
func (m *modules) program(ctx context.Context, hash string) (*wasm.Program, error) {
	h, err := parseHash(hash)
	if err != nil {
		return nil, err
	}
	if p, loaded := m.host.Program(h); loaded {
		return p, nil
	}
	m.mu.Lock()
	one := m.reading[hash]
	if one == nil {
		one = new(sync.Mutex)
		m.reading[hash] = one
	}
	m.mu.Unlock()
	one.Lock()
	defer one.Unlock()
	if p, loaded := m.host.Program(h); loaded {
		return p, nil
	}
	octets, err := m.config.Bus.ReadBlob(ctx, bus.BlobID(h), maxModule)
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", hash, err)
	}
	return m.host.Load(ctx, octets)
}

// manifest reads what a package's record says of a module. It was checked when the package was uploaded.
func (m *modules) manifest(info cpi.ModuleInfo) (wasm.Manifest, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, found := m.manifests[info.Hash]; found {
		return known, nil
	}
	var read wasm.Manifest
	if err := json.Unmarshal(info.Manifest, &read); err != nil {
		return read, fmt.Errorf("manifest of module %s: %w", info.ID.Name, err)
	}
	m.manifests[info.Hash] = read
	return read, nil
}

// startable lists the classes of a package that clients may start, in order of modules and then as these list them.
func (m *modules) startable(p cpi.Info) (classes []string, moduleOf map[string]string, err error) {
	moduleOf = make(map[string]string)
	for _, info := range p.Modules {
		manifest, err := m.manifest(info)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range manifest.Flows {
			if _, twice := moduleOf[f.Class]; f.Kind == wasm.Client && !twice {
				classes = append(classes, f.Class)
				moduleOf[f.Class] = info.Hash
			}
		}
	}
	return classes, moduleOf, nil
}

// responder finds the class of a package that answers a protocol, in the highest version that both sides speak.
func (m *modules) responder(p cpi.Info, protocol string, versions []int) (class, hash string, version int, err error) {
	for _, info := range p.Modules {
		manifest, err := m.manifest(info)
		if err != nil {
			return "", "", 0, err
		}
		if f, v, ok := manifest.Responder(protocol, versions); ok && v > version {
			class, hash, version = f.Class, info.Hash, v
		}
	}
	return class, hash, version, nil
}

// checkModule compiles a module of a package that is being uploaded. It does so in a host of its own, which is gone
// afterwards; what stays is the compiled code in the cache.
func (w *Worker) checkModule(ctx context.Context, req topic.ModuleCheck) ([]byte, error) {
	checker, err := newModuleChecker(ctx, wasm.Config{CacheDir: w.CacheDir, MemoryPages: w.MemoryPages})
	if err != nil {
		return nil, err
	}
	manifest, err := checker.check(ctx, req.Name, req.WASM)
	if closeErr := checker.Close(context.WithoutCancel(ctx)); err == nil {
		err = closeErr
	}
	return manifest, err
}

// ModuleChecker compiles modules and reads their manifests without a cluster, for the command line.
type ModuleChecker struct{ host *wasm.Host }

// NewModuleChecker makes a checker. The caller closes it.
func NewModuleChecker(ctx context.Context) (*ModuleChecker, error) {
	return newModuleChecker(ctx, wasm.Config{})
}

func newModuleChecker(ctx context.Context, c wasm.Config) (*ModuleChecker, error) {
	host, err := wasm.NewHost(ctx, c)
	if err != nil {
		return nil, err
	}
	return &ModuleChecker{host}, nil
}

// Check is for cpi.Options: it returns the module's manifest of flows as JSON.
func (c *ModuleChecker) Check(name string, octets []byte) ([]byte, error) {
	return c.check(context.Background(), name, octets)
}

func (c *ModuleChecker) check(ctx context.Context, name string, octets []byte) ([]byte, error) {
	p, err := c.host.Load(ctx, octets)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "module %s: %w", name, err)
	}
	return json.Marshal(p.Describe())
}

// Close frees what the checker has compiled.
func (c *ModuleChecker) Close(ctx context.Context) error { return c.host.Close(ctx) }

// preload compiles the modules of the virtual nodes, so that a first flow does not wait for that.
func (w *Worker) preload(ctx context.Context) {
	failed := make(map[string]bool)
	for {
		select {
		case <-w.wanted:
		case <-ctx.Done():
			return
		}
		for _, v := range w.vnodes.All() {
			p, _ := w.packages.Get(v.CPI.FileChecksum)
			for _, m := range p.Modules {
				if ctx.Err() != nil {
					return
				}
				if _, err := w.modules.program(ctx, m.Hash); err != nil && ctx.Err() == nil && !failed[m.Hash] {
					failed[m.Hash] = true
					w.Log.WarnContext(ctx, "module can't be made ready", "module", m.Hash, "error", err)
				}
			}
		}
	}
}

// node finds a virtual node and its package. The tables may lag behind the calls that made them.
func (w *Worker) node(ctx context.Context, holder string) (vnode.VirtualNode, cpi.Info, error) {
	v, found := w.vnodes.Get(holder)
	if !found {
		if err := w.vnodes.WaitCurrent(ctx); err != nil {
			return v, cpi.Info{}, err
		}
		if v, found = w.vnodes.Get(holder); !found {
			return v, cpi.Info{}, fault.New(fault.NotFound, "Virtual Node '%.64s' not found.", holder)
		}
	}
	p, found := w.packages.Get(v.CPI.FileChecksum)
	if !found {
		if err := w.packages.WaitCurrent(ctx); err != nil {
			return v, p, err
		}
		if p, found = w.packages.Get(v.CPI.FileChecksum); !found {
			return v, p, fault.New(fault.NotFound, "The package %s %s of virtual node %s is not there.", v.CPI.Name, v.CPI.Version, holder)
		}
	}
	return v, p, nil
}
