package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

// slice is the fuel between two callbacks. A unit is 1 ns in the tightest loop and some 50 ns in ordinary code, so the
// host's garbage collector waits for a module for 0.1 to 3 ms, and the callbacks cost less than a hundredth.
const slice = 1 << 16

// Limits of one step. Zero values mean the defaults.
type Limits struct {
	// Fuel is how many branches back and calls a step may take. Default 4,000,000,000: five seconds in
	// the tightest loop, more in ordinary code; Time is the bound for that.
	Fuel int64
	// Time is how long a step may take by the wall clock. Default 30 s.
	Time time.Duration
	// LogBytes is how much a step may log. Default 64 KiB; what is more is dropped.
	LogBytes int
}

func (l Limits) withDefaults() Limits {
	if l.Fuel == 0 {
		l.Fuel = 4_000_000_000
	}
	if l.Time == 0 {
		l.Time = 30 * time.Second
	}
	if l.LogBytes == 0 {
		l.LogBytes = 64 << 10
	}
	return l
}

// LogSink takes what a flow logs.
type LogSink func(level slog.Level, message string, attrs []slog.Attr)

// An Instance holds one flow. One goroutine may use it at a time. After an error it is dead.
type Instance struct {
	// Log takes what the flow logs; nil drops it, as a replay wants. A pool resets it.
	Log LogSink

	program *Program
	owner   string
	ctx     context.Context // carries the instance to the host functions; made once, to save the allocation
	mod     api.Module
	mapped  *mapping
	exports map[string]api.Function // looked up once: each look-up makes a stack
	globals []api.MutableGlobal
	fuel    api.MutableGlobal
	begun   bool
	dead    bool

	state state // belongs to the flow
	step  step  // belongs to the present step
}

// state is what a flow has beside memory and globals.
type state struct {
	clock  int64 // nanoseconds since 1970; never goes back
	random *rand.ChaCha8
}

func (s *state) reset(seed [32]byte, now int64) {
	// The module has the seed itself; what random_get gives must not be what the SDK's generator gives.
	s.random = rand.NewChaCha8(sha256.Sum256(append([]byte("random_get "), seed[:]...)))
	s.clock = now
}

// step is what a call into the module must not exceed, and what it did.
type step struct {
	caller   context.Context
	deadline time.Time
	granted  int64 // fuel given out so far
	left     int64 // fuel that may still be given out
	logRoom  int
	polled   bool
	stderr   []byte
}

// An Answer is what a step of a flow asks for.
type Answer struct {
	frame.Commands
	// Octets are the command frame as the module gave it; Commands alias it.
	Octets []byte
	// Fuel is what the step used.
	Fuel int64
	// Final tells that the host made the answer for a module that stopped in a way of its author's making, by a
	// deadlock or a panic on a goroutine of its own. The instance is dead.
	Final bool
}

func (i *Instance) bind(mod api.Module) {
	i.mod, i.exports = mod, map[string]api.Function{}
	for _, name := range i.program.prepared.Globals {
		i.globals = append(i.globals, mod.ExportedGlobal(name).(api.MutableGlobal))
	}
	i.fuel = mod.ExportedGlobal(i.program.prepared.Fuel).(api.MutableGlobal)
}

func (i *Instance) memory() api.Memory { return i.mod.Memory() }

func (i *Instance) readGlobals() []uint64 {
	values := make([]uint64, len(i.globals))
	for n, g := range i.globals {
		values[n] = g.Get()
	}
	return values
}

func (i *Instance) writeGlobals(values []uint64) {
	for n, g := range i.globals {
		g.Set(values[n])
	}
}

// Close frees the instance. It is not for instances that are to go back to a pool.
func (i *Instance) Close() error {
	i.dead = true
	return i.mod.Close(context.Background())
}

// Program is what the instance runs.
func (i *Instance) Program() *Program { return i.program }

// Owner is who the instance was made for.
func (i *Instance) Owner() string { return i.owner }

// Dirty is how many octets of the instance's memory are its own, not the image's. It costs a system call.
func (i *Instance) Dirty() int { return i.mapped.dirty(i.program.image) }

// Sum is a hash of everything that the flow's future depends on.
func (i *Instance) Sum() [sha256.Size]byte {
	octets, _ := i.memory().Read(0, i.memory().Size())
	sum := digest(octets, i.readGlobals())
	random, _ := i.state.random.MarshalBinary() // never fails
	all := binary.LittleEndian.AppendUint64(append(sum[:], random...), uint64(i.state.clock))
	return sha256.Sum256(all)
}

// Begin gives the flow its start frame. An event log keeps these octets and those of Resume; giving them to a fresh
// instance again gives the same answers.
func (i *Instance) Begin(ctx context.Context, start []byte, l Limits) (*Answer, error) {
	if i.dead || i.begun {
		return nil, ErrDead
	}
	if err := i.start(start); err != nil {
		return nil, err
	}
	i.begun = true
	return i.take(ctx, start, l, "fl_begin")
}

// Resume gives the flow a completion frame.
func (i *Instance) Resume(ctx context.Context, completions []byte, l Limits) (*Answer, error) {
	if i.dead || !i.begun {
		return nil, ErrDead
	}
	r, err := frame.DecodeResume(completions)
	if err != nil {
		return nil, err
	}
	i.state.clock = max(i.state.clock, r.Now)
	return i.take(ctx, completions, l, "fl_resume")
}

func (i *Instance) take(ctx context.Context, octets []byte, l Limits, export string) (*Answer, error) {
	l = l.withDefaults()
	i.arm(ctx, l)
	packed, err := i.exchange(octets, export)
	used := i.disarm()
	if err != nil {
		return i.autopsy(err, used)
	}
	out, err := i.copyOut(packed)
	if err != nil {
		i.dead = true
		return nil, err
	}
	c, err := frame.DecodeCommands(out)
	if err != nil {
		i.dead = true
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return &Answer{Commands: *c, Octets: out, Fuel: used}, nil
}

func (i *Instance) exchange(octets []byte, export string) (uint64, error) {
	at, err := i.call("fl_buf", uint64(len(octets)))
	if err != nil {
		return 0, err
	}
	if !i.memory().Write(uint32(at), octets) {
		return 0, fmt.Errorf("%w: a buffer outside of the memory", ErrFrame)
	}
	return i.call(export, uint64(len(octets)))
}

func (i *Instance) call(export string, args ...uint64) (uint64, error) {
	f := i.exports[export]
	if f == nil {
		f = i.mod.ExportedFunction(export)
		i.exports[export] = f
	}
	var stack [1]uint64
	copy(stack[:], args)
	if err := f.CallWithStack(i.ctx, stack[:]); err != nil {
		return 0, err
	}
	return stack[0], nil
}

// run calls an export outside of a flow.
func (i *Instance) run(ctx context.Context, l Limits, export string) (uint64, error) {
	i.arm(ctx, l)
	v, err := i.call(export)
	used := i.disarm()
	if err == nil {
		return v, nil
	}
	a, err := i.autopsy(err, used)
	if err == nil {
		f, _ := frame.DecodeFailure(a.List[0].Body)
		err = &TrapError{Reason: f.Type, Output: f.Message}
	}
	return 0, fmt.Errorf("%s: %w", export, err)
}

// copyOut copies what the module points to, address in the upper half and length in the lower: the next call may
// move it.
func (i *Instance) copyOut(packed uint64) ([]byte, error) {
	if uint32(packed) > frame.Max {
		return nil, fmt.Errorf("%w: %d octets, at most %d", ErrFrame, uint32(packed), frame.Max)
	}
	view, ok := i.memory().Read(uint32(packed>>32), uint32(packed))
	if !ok {
		return nil, fmt.Errorf("%w: an answer outside of the memory", ErrFrame)
	}
	return append([]byte(nil), view...), nil
}

func (i *Instance) arm(ctx context.Context, l Limits) {
	i.step = step{caller: ctx, deadline: time.Now().Add(l.Time), left: l.Fuel, logRoom: l.LogBytes}
	i.refuel()
}

func (i *Instance) refuel() {
	n := min(i.step.left, slice)
	i.step.left -= n
	i.step.granted += n
	i.fuel.Set(uint64(n))
}

func (i *Instance) disarm() (used int64) {
	used = i.step.granted - max(int64(i.fuel.Get()), 0)
	i.fuel.Set(0) // it is not part of the flow's state
	i.step.caller = nil
	return used
}

// yield is the module's callback when its fuel is used up. What it panics with comes out of the call.
func (i *Instance) yield() {
	if err := i.step.caller.Err(); err != nil {
		panic(err)
	}
	if time.Now().After(i.step.deadline) {
		panic(ErrDeadline)
	}
	if int64(i.fuel.Get()) >= 0 {
		return // the module called of its own accord
	}
	if i.step.left <= 0 {
		panic(ErrFuel)
	}
	i.refuel()
}

// autopsy tells why a call ended with an error. The instance is dead.
func (i *Instance) autopsy(err error, used int64) (*Answer, error) {
	i.dead = true
	for _, known := range []error{ErrFuel, ErrDeadline, ErrFrame, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return nil, known
		}
	}
	if f, ok := i.fault(); ok {
		c := frame.Commands{List: []frame.Command{{ID: 1, Op: frame.Fail, Body: f.Append(nil)}}}
		return &Answer{Commands: c, Octets: c.Append(nil), Fuel: used, Final: true}, nil
	}
	out := string(i.step.stderr)
	if outOfMemory(out) {
		return nil, ErrMemory
	}
	return nil, &TrapError{Reason: reason(err), Output: out}
}
