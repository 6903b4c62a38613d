//go:build wasip1

package flow

import (
	"runtime"
	"unsafe"

	"github.com/hawser-project/hawser/sdk/internal/engine"
)

// These are the two functions that a module imports beside WASI. Neither ever blocks.

//go:wasmimport hawser yield
func hostYield()

//go:wasmimport hawser log
func hostLog(level uint32, record unsafe.Pointer, size uint32)

// headroom is free memory that the image has for flows to use: an instance whose memory had to grow cannot be used
// again. It costs nothing until it is written to.
const headroom = 2 << 20

// One module instance holds one flow at a time.
var (
	machine *engine.Machine
	input   []byte
	output  []byte // kept reachable until the host has copied it
)

func logRecord(level int, p []byte) {
	if len(p) > 0 {
		hostLog(uint32(level), unsafe.Pointer(unsafe.SliceData(p)), uint32(len(p)))
	}
}

//go:wasmexport fl_abi
func exportABI() uint32 { return engine.ABI }

//go:wasmexport fl_describe
func exportDescribe() uint64 { return give(engine.Flows.Manifest()) }

// exportWarm also keeps the import of yield in the module: the host's fuel checks call it.
//
//go:wasmexport fl_warm
func exportWarm() {
	hostYield()
	exportBuf(64 << 10)
	engine.Flows.Warm()
	machine, output = nil, nil
	runtime.KeepAlive(make([]byte, headroom))
	runtime.GC()
	engine.Flows.Warm() // once more: the collection emptied the allocator's caches
	machine = engine.NewMachine(engine.Flows, logRecord)
}

//go:wasmexport fl_buf
func exportBuf(n uint32) unsafe.Pointer {
	if uint32(cap(input)) < n {
		input = make([]byte, n)
	}
	input = input[:cap(input)]
	return unsafe.Pointer(unsafe.SliceData(input))
}

//go:wasmexport fl_begin
func exportBegin(n uint32) uint64 {
	if machine == nil {
		machine = engine.NewMachine(engine.Flows, logRecord)
	}
	return give(machine.Begin(input[:n]))
}

//go:wasmexport fl_resume
func exportResume(n uint32) uint64 {
	if machine == nil {
		machine = engine.NewMachine(engine.Flows, logRecord)
	}
	return give(machine.Resume(input[:n]))
}

// give tells the host where octets are: the address in the upper half, the length in the lower.
func give(p []byte) uint64 {
	output = p
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p))))<<32 | uint64(len(p))
}
