package wasm

import (
	"errors"
	"fmt"
	"strings"
)

// What ends an instance. None of them says anything about the cluster's own health: the flow is at fault, and it
// would be again with the same input. A cancelled context is the exception; its own error is returned.
var (
	// ErrFuel means that a step used more CPU than it may.
	ErrFuel = errors.New("flow used up its fuel")
	// ErrDeadline means that a step took longer than it may.
	ErrDeadline = errors.New("flow step took too long")
	// ErrMemory means that a flow needs more memory than it may have.
	ErrMemory = errors.New("flow ran out of memory")
	// ErrDead means that the instance ended with an error before, or was closed.
	ErrDead = errors.New("flow instance is dead")
	// ErrFrame means that the module answered with octets that are no command frame.
	ErrFrame = errors.New("module broke the frame format")
)

// TrapError tells how a module stopped outside of what the SDK turns into an ordinary failure.
type TrapError struct {
	// Reason is one line: "exit 2", "unreachable", "out of bounds memory access".
	Reason string
	// Output is the beginning of what the module wrote to its standard error in this step.
	Output string
}

func (e *TrapError) Error() string {
	if e.Output == "" {
		return "flow module trapped: " + e.Reason
	}
	line, _, _ := strings.Cut(strings.TrimSpace(e.Output), "\n")
	return fmt.Sprintf("flow module trapped: %s: %s", e.Reason, line)
}

// exited unwinds a module that called proc_exit.
type exited struct{ code uint32 }

func (e *exited) Error() string { return fmt.Sprintf("exit %d", e.code) }
