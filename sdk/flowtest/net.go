// Package flowtest runs flows natively, in one process, for an application's own tests: virtual nodes with a store
// each, sessions between them, and the same engine that runs inside a module. It does not restart flows, limit them
// or lose messages.
package flowtest

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/sdk/flow"
	"github.com/hawser-project/hawser/sdk/internal/engine"
	"github.com/hawser-project/hawser/sdk/internal/frame"
)

// Patience is how long a flow waits for its peer before it gets an error with flow.CodeTimeout.
const Patience = 10 * time.Second

// Net is a group of virtual nodes. All of them run all flows that the test binary declares.
type Net struct {
	tb   testing.TB
	wg   sync.WaitGroup
	mu   sync.Mutex
	wake *sync.Cond

	// Guarded by mu, as is everything within.
	nodes   map[string]*Node
	flows   int
	stopped bool
}

// Node is one virtual node.
type Node struct {
	net   *Net
	name  string
	store map[string][]byte
}

// New makes a net with a virtual node for each X.500 name. It ends with the test.
func New(tb testing.TB, members ...string) *Net {
	n := &Net{tb: tb, nodes: map[string]*Node{}}
	n.wake = sync.NewCond(&n.mu)
	for _, m := range members {
		n.nodes[m] = &Node{net: n, name: m, store: map[string][]byte{}}
	}
	tb.Cleanup(n.stop)
	return n
}

func (n *Net) stop() {
	n.mu.Lock()
	n.stopped = true
	n.wake.Broadcast()
	n.mu.Unlock()
	n.wg.Wait()
}

// Node finds a member by name and fails the test when there is none.
func (n *Net) Node(member string) *Node {
	n.tb.Helper()
	node := n.nodes[member]
	if node == nil {
		n.tb.Fatalf("no member %s", member)
	}
	return node
}

// Name is the node's X.500 name.
func (n *Node) Name() string { return n.name }

// Start starts a client-startable flow and returns at once.
func (n *Node) Start(class string, args any) *Flow {
	n.net.tb.Helper()
	p, err := json.Marshal(args)
	if err != nil {
		n.net.tb.Fatalf("arguments of %s: %v", class, err)
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	return n.run(&frame.Start{Kind: frame.Client, Class: class, Args: p}, nil)
}

// Run starts a flow, waits for its end and decodes its result.
func Run[Out any](n *Node, class string, args any) (Out, error) {
	n.net.tb.Helper()
	var out Out
	p, err := n.Start(class, args).Wait()
	if err == nil {
		err = json.Unmarshal(p, &out)
	}
	return out, err
}

// run is called with the net locked.
func (n *Node) run(start *frame.Start, first *end) *Flow {
	net := n.net
	net.flows++
	start.FlowID = fmt.Sprintf("00000000-0000-8000-8000-%012d", net.flows)
	start.Me, start.Now = n.name, time.Now().UnixNano()
	copy(start.Seed[:], fmt.Sprintf("flow %d", net.flows))
	f := &Flow{node: n, class: start.Class, id: start.FlowID, done: make(chan struct{}), ends: map[uint64]*end{}}
	if first != nil {
		f.ends[0], first.owner = first, f
	}
	f.machine = engine.NewMachine(engine.Flows, f.log)
	net.wg.Go(func() { f.drive(start) })
	return f
}

// Flow is a flow that was started.
type Flow struct {
	node    *Node
	class   string
	id      string
	machine *engine.Machine
	done    chan struct{}
	result  []byte // with err, readable once done is closed
	err     error

	step step            // what the flow did since it last waited
	ends map[uint64]*end // its sessions
}

// ID is the flow's id.
func (f *Flow) ID() string { return f.id }

// Wait waits for the flow's end and gives its result, JSON. A flow that failed gives a *flow.Error.
func (f *Flow) Wait() (json.RawMessage, error) {
	<-f.done
	return f.result, f.err
}

func (f *Flow) log(level int, record []byte) {
	r, err := frame.DecodeLog(record)
	if err != nil {
		return
	}
	line := fmt.Sprintf("%s %s level %d: %s", f.node.name, f.class, level, r.Message)
	for _, a := range r.Attrs {
		line += " " + a.Key + "=" + a.Value
	}
	f.node.net.tb.Log(line)
}

// drive runs the flow to its end, one step after the other.
func (f *Flow) drive(start *frame.Start) {
	defer close(f.done)
	defer f.machine.Stop()
	out := f.machine.Begin(start.Append(nil))
	for {
		c, err := frame.DecodeCommands(out)
		if err != nil {
			f.err = err
			return
		}
		in, ok := f.take(c)
		if !ok {
			return
		}
		out = f.machine.Resume(in.Append(nil))
	}
}

func failure(code flow.Code, format string, args ...any) *flow.Error {
	return &flow.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
