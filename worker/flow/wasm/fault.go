package wasm

import (
	"errors"
	"strings"

	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

// keepStderr is how much of a step's standard error is kept to tell a fault by; the cause stands first.
const keepStderr = 4 << 10

// fault recognises what Go's runtime says before it gives up over a mistake in the flow's own code. The text is the
// only sign there is; it depends on nothing but the frames, so a replay comes to the same end.
func (i *Instance) fault() (*frame.Failure, bool) {
	text := strings.ToValidUTF8(string(i.step.stderr), "?")
	_, message, panicked := strings.Cut(text, "panic: ")
	message, _, _ = strings.Cut(message, "\n\ngoroutine ")
	switch {
	case outOfMemory(text):
		return nil, false
	case strings.Contains(text, "all goroutines are asleep"):
		return &frame.Failure{Type: "deadlock", Message: "the flow waits for something that can never happen"}, true
	case panicked && message != "":
		return &frame.Failure{Type: "panic", Message: strings.TrimSpace(message[:min(len(message), 2000)])}, true
	case i.step.polled:
		return &frame.Failure{Type: "deadlock", Message: "the flow sleeps, or waits for a timer of package time, which never ends"}, true
	}
	return nil, false
}

func outOfMemory(text string) bool {
	return strings.Contains(text, "out of memory") || strings.Contains(text, "cannot allocate memory")
}

// reason is one line of a trap's error, without the stack: function names are stripped anyway.
func reason(err error) string {
	if e, ok := errors.AsType[*exited](err); ok {
		return e.Error()
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimSuffix(strings.TrimPrefix(line, "wasm error: "), " (recovered by wazero)")
}
