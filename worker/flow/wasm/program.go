package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
	"github.com/hawser-project/hawser/worker/flow/wasm/module"
)

// ABI is the version of the border to modules that this host speaks.
const ABI = 1

// birth is the clock while a module starts up: every flow's own time is later.
var birth = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

// startLimits bound a module's start-up and warm-up.
var startLimits = Limits{Fuel: 2_000_000_000, Time: 20 * time.Second, LogBytes: 64 << 10}

// A Program is a module that is ready to run flows. It is safe for concurrent use.
type Program struct {
	Hash module.Hash

	host     *Host
	prepared *module.Prepared
	compiled wazero.CompiledModule
	image    *image
	manifest Manifest
}

// An image is the state that every flow of a program begins with: what is left after start-up and warm-up.
type image struct {
	pages
	globals []uint64
}

// Describe tells which flows the module declares.
func (p *Program) Describe() Manifest { return p.manifest }

// ImageHash names the image. Two hosts have the same for the same module.
func (p *Program) ImageHash() [sha256.Size]byte { return digest(p.image.octets, p.image.globals) }

func digest(memory []byte, globals []uint64) [sha256.Size]byte {
	h := sha256.New()
	_, _ = h.Write(memory) // a hash never fails to write
	for _, g := range globals {
		_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, g))
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// prepare runs the module's start-up once, takes the image and asks for the manifest.
func (p *Program) prepare(ctx context.Context) error {
	i, err := p.instantiate(ctx, "", nil)
	if err != nil {
		return err
	}
	defer func() { _ = i.Close() }()
	for _, s := range p.prepared.Data {
		if !i.memory().Write(s.Offset, s.Bytes) {
			return fmt.Errorf("data at %d does not fit", s.Offset)
		}
	}
	i.state.reset([32]byte{}, birth)
	if err := p.startUp(ctx, i); err != nil {
		return err
	}
	octets, _ := i.memory().Read(0, i.memory().Size())
	kept, err := newPages(octets)
	if err != nil {
		return fmt.Errorf("keep image: %w", err)
	}
	p.image = &image{pages: kept, globals: i.readGlobals()}
	p.manifest, err = p.describe(ctx, i)
	if err != nil {
		p.image.free()
	}
	return err
}

func (p *Program) startUp(ctx context.Context, i *Instance) error {
	if p.prepared.Initializes {
		if _, err := i.run(ctx, startLimits, "_initialize"); err != nil {
			return err
		}
	}
	abi, err := i.run(ctx, startLimits, "fl_abi")
	if err != nil {
		return err
	}
	if uint32(abi) != ABI {
		return fmt.Errorf("%w: speaks version %d of the flow interface, want %d", module.ErrInvalid, uint32(abi), ABI)
	}
	if p.prepared.Warms {
		_, err = i.run(ctx, startLimits, "fl_warm")
	}
	return err
}

func (p *Program) describe(ctx context.Context, i *Instance) (Manifest, error) {
	packed, err := i.run(ctx, startLimits, "fl_describe")
	if err != nil {
		return Manifest{}, err
	}
	octets, err := i.copyOut(packed)
	if err != nil {
		return Manifest{}, err
	}
	return parseManifest(octets)
}

// instantiate makes an instance: from the image, or with empty memory when there is none yet.
func (p *Program) instantiate(ctx context.Context, owner string, img *image) (*Instance, error) {
	mapped, err := newMapping(uint64(p.host.config.MemoryPages)<<16, img)
	if err != nil {
		return nil, fmt.Errorf("make memory of a flow: %w", err)
	}
	i := &Instance{program: p, owner: owner, mapped: mapped}
	i.ctx = context.WithValue(context.Background(), instanceKey{}, i)
	allocate := func(uint64, uint64) experimental.LinearMemory { return mapped }
	ctx = experimental.WithMemoryAllocator(context.WithoutCancel(ctx), experimental.MemoryAllocatorFunc(allocate))
	mod, err := p.host.runtime.InstantiateModule(ctx, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		mapped.Free()
		return nil, fmt.Errorf("instantiate: %w", err)
	}
	i.bind(mod)
	if img == nil {
		return i, nil
	}
	if grow := uint32(len(img.octets)>>16) - i.memory().Size()>>16; grow > 0 {
		if _, ok := i.memory().Grow(grow); !ok {
			return nil, errors.Join(ErrMemory, i.Close())
		}
	}
	i.writeGlobals(img.globals)
	return i, nil
}

// start reads a start frame for the settings that the host itself needs.
func (i *Instance) start(octets []byte) error {
	s, err := frame.DecodeStart(octets)
	if err != nil {
		return err
	}
	i.state.reset(s.Seed, s.Now)
	return nil
}
