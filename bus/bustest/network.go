package bustest

import (
	"context"
	"sync"

	"github.com/hawser-project/hawser/bus"
)

// process is a driver that knows itself among others.
type process interface {
	bus.Placement
	Self() bus.Instance
}

// network joins the processes of a test. What it carries goes the way of a real request; only the wire is a function call.
type network struct {
	mu    sync.Mutex
	nodes map[uint16]*node
}

// node is a process that can be asked.
type node struct {
	bus  *bus.Bus
	gone chan struct{} // closed when it can't be reached any more
	// answer may lose an answer on its way.
	answer func(bus.Request, bus.Answer) error
	asked  int
}

func newNetwork() *network { return &network{nodes: make(map[uint16]*node)} }

func (n *network) join(number uint16, b *bus.Bus) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[number] = &node{bus: b, gone: make(chan struct{})}
}

func (n *network) leave(number uint16) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if node := n.nodes[number]; node != nil {
		close(node.gone)
		delete(n.nodes, number)
	}
}

// loseAnswers has lost decide which answers of a process do not arrive.
func (n *network) loseAnswers(number uint16, lost func(bus.Request, bus.Answer) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[number].answer = lost
}

// requests says how often a process was asked.
func (n *network) requests(number uint16) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nodes[number].asked
}

// serve has one process answer.
func (n *network) serve(ctx context.Context, number uint16, r bus.Request) bus.Answer {
	n.mu.Lock()
	node := n.nodes[number]
	n.mu.Unlock()
	if node == nil {
		return bus.Answer{NotHere: true}
	}
	return node.bus.Serve(ctx, r)
}

// carrier is the bus.Remote of one process.
type carrier struct {
	from uint16
	net  *network
}

// carrying is an error of carrying a request.
type carrying struct {
	text  string
	cause error
}

func (e *carrying) Error() string   { return e.text }
func (e *carrying) Unwrap() error   { return e.cause }
func (*carrying) FaultKind() string { return "unavailable" }

var (
	errBroken  = &carrying{text: "the connection broke"}
	errNotSent = &carrying{"the process can't be reached", bus.ErrNotSent}
)

// Send implements bus.Remote.
func (c *carrier) Send(ctx context.Context, to bus.Instance, r bus.Request) (bus.Answer, error) {
	if c.net == nil {
		return bus.Answer{}, errNotSent
	}
	c.net.mu.Lock()
	n, here := c.net.nodes[to.Number], c.net.nodes[c.from]
	if n == nil || here == nil {
		c.net.mu.Unlock()
		return bus.Answer{}, errNotSent
	}
	n.asked++
	lost := n.answer
	c.net.mu.Unlock()
	answered := make(chan bus.Answer, 1)
	go func() { answered <- n.bus.Serve(ctx, r) }()
	select {
	case a := <-answered:
		if lost != nil {
			if err := lost(r, a); err != nil {
				return bus.Answer{}, err
			}
		}
		return a, nil
	case <-n.gone:
	case <-here.gone:
	case <-ctx.Done():
		return bus.Answer{}, &carrying{"no answer", ctx.Err()}
	}
	return bus.Answer{}, errBroken
}
