package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
	"github.com/hawser-project/hawser/worker/flow/wasm/module"
)

// instanceKey finds the instance in the context of a host function.
type instanceKey struct{}

// WASI's error numbers that modules get.
const (
	errnoSuccess, errnoBadf, errnoFault, errnoInval, errnoNosys = 0, 8, 21, 28, 52
)

// tick is what each look at the clock adds: programs that wait for time to pass must see it pass.
const tick = 1000

// A function gets its arguments on the stack and gives a WASI error number, if it has a result at all.
type function func(i *Instance, stack []uint64) uint64

// functions are the imports that do something. Every other one of module.Imports answers "not supported". Their
// answers are part of the ABI: for the same module they must never change, or logs of flows no longer replay.
var functions = map[string]map[string]function{
	module.Hawser: {
		"yield": func(i *Instance, _ []uint64) uint64 { i.yield(); return 0 },
		"log":   logRecord,
	},
	module.WASI: {
		"args_sizes_get":    nothing,
		"args_get":          func(*Instance, []uint64) uint64 { return errnoSuccess },
		"environ_sizes_get": nothing,
		"environ_get":       func(*Instance, []uint64) uint64 { return errnoSuccess },
		"clock_time_get":    clock,
		"random_get":        random,
		"sched_yield":       func(*Instance, []uint64) uint64 { return errnoSuccess },
		"fd_write":          write,
		"fd_prestat_get":    func(*Instance, []uint64) uint64 { return errnoBadf }, // no directory is open
		"proc_exit":         func(_ *Instance, stack []uint64) uint64 { panic(&exited{uint32(stack[0])}) },
		"poll_oneoff":       poll,
	},
}

// bind makes the import modules known to the runtime.
func (h *Host) bind(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(module.Imports)) {
		b := h.runtime.NewHostModuleBuilder(name)
		for fn, signature := range module.Imports[name] {
			params, results := types(signature)
			b.NewFunctionBuilder().WithGoModuleFunction(hostFunction(functions[name][fn], len(results) > 0), params, results).Export(fn)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("offer module %s: %w", name, err)
		}
	}
	return nil
}

func types(signature string) (params, results []api.ValueType) {
	p, r, _ := strings.Cut(signature, ":")
	list := func(s string) (t []api.ValueType) {
		for _, c := range s {
			v := api.ValueTypeI32
			if c == 'I' {
				v = api.ValueTypeI64
			}
			t = append(t, v)
		}
		return t
	}
	return list(p), list(r)
}

func hostFunction(f function, result bool) api.GoModuleFunc {
	return func(ctx context.Context, _ api.Module, stack []uint64) {
		errno := uint64(errnoNosys)
		if f != nil {
			errno = f(ctx.Value(instanceKey{}).(*Instance), stack)
		}
		if result {
			stack[0] = errno
		}
	}
}

// nothing says that there are no arguments and no environment.
func nothing(i *Instance, stack []uint64) uint64 {
	if !i.memory().WriteUint32Le(uint32(stack[0]), 0) || !i.memory().WriteUint32Le(uint32(stack[1]), 0) {
		return errnoFault
	}
	return errnoSuccess
}

// clock gives the step's time plus one tick per look, for the wall clock and the monotonic one alike.
func clock(i *Instance, stack []uint64) uint64 {
	if id := uint32(stack[0]); id > 1 {
		return errnoInval
	}
	i.state.clock += tick
	if !i.memory().WriteUint64Le(uint32(stack[2]), uint64(i.state.clock)) {
		return errnoFault
	}
	return errnoSuccess
}

// nap is the longest sleep that is granted, by moving the flow's clock.
const nap = 10 * time.Millisecond

// poll grants the short sleeps of Go's runtime, which it takes while it reports a panic. Whatever else a module might
// wait for here never comes.
func poll(i *Instance, stack []uint64) uint64 {
	const subscriptionSize, eventSize = 48, 32
	sub, ok := i.memory().Read(uint32(stack[0]), subscriptionSize)
	if !ok {
		return errnoFault
	}
	const kindClock, relative = 0, 0
	timeout := binary.LittleEndian.Uint64(sub[24:])
	if uint32(stack[2]) != 1 || sub[8] != kindClock || binary.LittleEndian.Uint16(sub[40:]) != relative || timeout > uint64(nap) {
		i.step.polled = true
		return errnoNosys
	}
	i.state.clock += int64(timeout)
	var event [eventSize]byte // of kind clock, without an error
	copy(event[:8], sub)
	if !i.memory().Write(uint32(stack[1]), event[:]) || !i.memory().WriteUint32Le(uint32(stack[3]), 1) {
		return errnoFault
	}
	return errnoSuccess
}

// random gives the flow's own sequence.
func random(i *Instance, stack []uint64) uint64 {
	view, ok := i.memory().Read(uint32(stack[0]), uint32(stack[1]))
	if !ok {
		return errnoFault
	}
	_, _ = i.state.random.Read(view) // never fails
	return errnoSuccess
}

// write takes standard output and error as log lines. It always succeeds: Go's runtime gives up otherwise.
func write(i *Instance, stack []uint64) uint64 {
	fd, at, n := uint32(stack[0]), uint32(stack[1]), uint32(stack[2])
	if fd != 1 && fd != 2 {
		return errnoBadf
	}
	if n > 1024 {
		return errnoInval
	}
	total := uint32(0)
	for range n {
		p, ok1 := i.memory().ReadUint32Le(at)
		size, ok2 := i.memory().ReadUint32Le(at + 4)
		view, ok3 := i.memory().Read(p, size)
		if !ok1 || !ok2 || !ok3 {
			return errnoFault
		}
		i.printed(fd, view)
		total += size
		at += 8
	}
	if !i.memory().WriteUint32Le(uint32(stack[3]), total) {
		return errnoFault
	}
	return errnoSuccess
}

func (i *Instance) printed(fd uint32, p []byte) {
	level := slog.LevelInfo
	if fd == 2 {
		level = slog.LevelWarn
		i.step.stderr = append(i.step.stderr, p[:min(len(p), keepStderr-len(i.step.stderr))]...)
	}
	for line := range bytes.Lines(p[:min(len(p), i.step.logRoom+1)]) {
		if text := bytes.TrimSpace(line); len(text) > 0 {
			i.log(level, strings.ToValidUTF8(string(text), "?"), nil, len(line))
		}
	}
}

// logRecord is the SDK's logger.
func logRecord(i *Instance, stack []uint64) uint64 {
	view, ok := i.memory().Read(uint32(stack[1]), uint32(stack[2]))
	if !ok || i.Log == nil {
		return 0
	}
	r, err := frame.DecodeLog(view)
	if err != nil {
		r = &frame.Log{Message: "flow logged a malformed record"}
	}
	attrs := make([]slog.Attr, 0, len(r.Attrs))
	for _, a := range r.Attrs {
		attrs = append(attrs, slog.String(a.Key, a.Value))
	}
	i.log(slog.Level(min(max(int32(stack[0]), -8), 12)), r.Message, attrs, len(view))
	return 0
}

// log keeps to the step's limit and says once that it was reached.
func (i *Instance) log(level slog.Level, message string, attrs []slog.Attr, size int) {
	if i.Log == nil || i.step.logRoom < 0 {
		return
	}
	i.step.logRoom -= size
	if i.step.logRoom < 0 {
		level, message, attrs = slog.LevelWarn, "flow logged more than a step may; the rest is dropped", nil
	}
	i.Log(level, message, attrs)
}
