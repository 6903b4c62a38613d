// Package engine runs one flow as a coroutine: the flow's code has a goroutine of its own, and whoever drives the
// flow gives it octets and gets octets back. Nothing here does I/O, so the same engine runs inside a WebAssembly
// module, where the host drives it, and in a native test, where package flowtest does.
//
//	Begin -> [running] -- await --> [waiting] -- Resume with what it waits for --> [running]
//	              \-- return or panic --> [ended]
package engine

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/hawser-project/hawser/sdk/internal/frame"
)

// Room is what a command frame keeps free for the command that ends a flow.
const room = frame.Max - frame.MaxPayload - 64<<10

// A Failure is an error with a code, as it crosses the border.
type Failure struct{ Code, Message string }

func (f *Failure) Error() string { return f.Message }

// A Machine holds one flow.
type Machine struct {
	registry *Registry
	log      func(level int, record []byte)
	yielded  chan struct{}
	resumed  chan *frame.Resume
	task     *Task
	ended    bool
}

// A Task is the flow's own view of its machine. Its methods are called from the flow's goroutine.
type Task struct {
	Start frame.Start

	m       *Machine
	mu      sync.Mutex // natively, an app may wrongly use a task from two goroutines: that must not race
	now     int64
	lastID  uint64
	out     frame.Commands
	size    int
	answers map[uint64]frame.Completion
	waiting bool
}

// NewMachine makes a machine for one flow of the registry. The log may be nil.
func NewMachine(r *Registry, log func(level int, record []byte)) *Machine {
	return &Machine{registry: r, log: log, yielded: make(chan struct{}), resumed: make(chan *frame.Resume)}
}

// Begin starts the flow that a start frame names and gives the command frame of its first step.
func (m *Machine) Begin(p []byte) []byte {
	if m.task != nil {
		return failed("abi", "a flow has begun already")
	}
	start, err := frame.DecodeStart(p)
	if err != nil {
		m.ended = true
		return failed("abi", "start: "+err.Error())
	}
	f, ok := m.registry.Lookup(start.Class)
	if !ok {
		m.ended = true
		return failed("unknown-flow", "no flow "+start.Class)
	}
	start.Args = append([]byte(nil), start.Args...) // the frame's buffer is used again
	m.task = &Task{Start: *start, m: m, now: start.Now, answers: map[uint64]frame.Completion{}}
	go m.task.run(f)
	return m.step()
}

// Resume hands answers to a waiting flow and gives the command frame of its next step.
func (m *Machine) Resume(p []byte) []byte {
	if m.task == nil || m.ended {
		return failed("abi", "no flow waits")
	}
	in, err := frame.DecodeResume(p)
	if err != nil {
		m.ended = true
		return failed("abi", "resume: "+err.Error())
	}
	m.resumed <- in
	return m.step()
}

// Stop ends a waiting flow without an answer, so that its goroutine ends. It is for tests: in a module, the host
// drops the whole memory instead.
func (m *Machine) Stop() {
	if m.task == nil || m.ended {
		return
	}
	m.ended = true
	close(m.resumed)
	<-m.yielded
}

func (m *Machine) step() []byte {
	<-m.yielded
	t := m.task
	p := t.out.Append(make([]byte, 0, t.size+64))
	m.ended = t.out.Mode == frame.Ended
	t.out, t.size = frame.Commands{}, 0
	return p
}

func failed(kind, message string) []byte {
	body := (&frame.Failure{Type: kind, Message: message}).Append(nil)
	return (&frame.Commands{List: []frame.Command{{ID: 1, Op: frame.Fail, Body: body}}}).Append(nil)
}

// stopped unwinds a flow's goroutine after Stop.
type stopped struct{}

func (t *Task) run(f *Flow) {
	returned := false
	defer func() {
		if v := recover(); v != nil {
			t.panicked(v)
		} else if !returned {
			t.fail(&Failure{Code: "panic", Message: "the flow's goroutine ended without returning"})
		}
		t.m.yielded <- struct{}{}
	}()
	result, err := f.Run(t)
	returned = true
	if err == nil && len(result) > frame.MaxPayload {
		err = &Failure{Code: "too-large", Message: fmt.Sprintf("result has %d octets, at most %d", len(result), frame.MaxPayload)}
	}
	if err != nil {
		t.fail(err)
		return
	}
	t.Emit(frame.Complete, result)
	t.out.Mode, t.out.Await = frame.Ended, nil
}

func (t *Task) panicked(v any) {
	if _, ok := v.(stopped); ok {
		return
	}
	if err, ok := v.(error); ok {
		v = err.Error()
	}
	t.fail(&Failure{Code: "panic", Message: fmt.Sprint(v)})
}

func (t *Task) fail(err error) {
	kind := "error"
	if c := Coded(nil); errors.As(err, &c) && c.FlowCode() != "" {
		kind = c.FlowCode()
	}
	body := (&frame.Failure{Type: Clip(kind, frame.MaxName), Message: Clip(err.Error(), frame.MaxText)}).Append(nil)
	t.Emit(frame.Fail, body)
	t.out.Mode, t.out.Await = frame.Ended, nil
}

// Coded is implemented by errors that carry a code.
type Coded interface{ FlowCode() string }

// FlowCode gives the failure's code.
func (f *Failure) FlowCode() string { return f.Code }

// Clip makes text fit its field: valid UTF-8 of at most limit octets.
func Clip(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// Now is the clock of the present step, in nanoseconds since 1970.
func (t *Task) Now() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now
}

// Initiates is the protocol that the flow's class announces for sessions it begins, or nil.
func (t *Task) Initiates() *Protocol { return t.m.registry.initiated(t.Start.Class) }

// Log hands a log record over at once.
func (t *Task) Log(level int, record []byte) {
	if t.m.log != nil {
		t.m.log(level, record)
	}
}

// Emit adds a command to the present step. When the frame would grow past its bound the step ends first, waiting
// for nothing.
func (t *Task) Emit(op frame.Op, body []byte) uint64 {
	t.mu.Lock()
	full := t.size > 0 && (t.size+len(body) > room || len(t.out.List) >= frame.MaxItems-16)
	t.mu.Unlock()
	if full {
		t.Await(frame.All)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastID++
	t.out.List = append(t.out.List, frame.Command{ID: t.lastID, Op: op, Body: body})
	t.size += len(body) + 32
	return t.lastID
}

// Do emits a command and waits for its answer.
func (t *Task) Do(op frame.Op, body []byte) ([]byte, error) {
	return t.Wait(t.Emit(op, body))
}

// Wait waits for the answer to one command.
func (t *Task) Wait(id uint64) ([]byte, error) {
	t.Await(frame.All, id)
	c := t.answers[id]
	delete(t.answers, id)
	if c.Code != "" {
		return nil, &Failure{Code: c.Code, Message: c.Message}
	}
	return c.Body, nil
}

// Await ends the step and returns once the awaited commands are answered.
func (t *Task) Await(mode frame.Mode, ids ...uint64) {
	t.mu.Lock()
	if t.waiting {
		t.mu.Unlock()
		panic("a flow's context was used from two goroutines at once")
	}
	t.waiting = true
	t.mu.Unlock()
	for first := true; first || !t.answered(mode, ids); first = false {
		t.out.Mode, t.out.Await = mode, ids
		t.m.yielded <- struct{}{}
		in, ok := <-t.m.resumed
		if !ok {
			panic(stopped{})
		}
		t.deliver(in)
	}
	t.mu.Lock()
	t.waiting = false
	t.mu.Unlock()
}

func (t *Task) deliver(in *frame.Resume) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = max(t.now, in.Now)
	for _, c := range in.Completions {
		c.Body = append([]byte(nil), c.Body...) // the frame's buffer is used again
		t.answers[c.ID] = c
	}
}

func (t *Task) answered(mode frame.Mode, ids []uint64) bool {
	n := 0
	for _, id := range ids {
		if _, ok := t.answers[id]; ok {
			n++
		}
	}
	return n == len(ids) || mode == frame.Any && n > 0
}
