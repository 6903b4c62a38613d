package services

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// TCPProxy stands between a client and a server, and harms their connections on demand.
type TCPProxy struct {
	target   string
	listener net.Listener
	requests gate // from the client to the target, and new connections
	answers  gate // from the target to the client
	running  sync.WaitGroup

	mu     sync.Mutex
	closed bool               // guarded by mu
	links  map[*link]struct{} // guarded by mu
}

// link is a connection of a client with its connection to the target.
type link struct {
	client net.Conn
	server net.Conn // nil until it is made; guarded by the proxy's mu
	done   chan struct{}
}

// Proxy listens on a loopback port and forwards to target until the test ends.
func Proxy(t testing.TB, target string) *TCPProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &TCPProxy{target: target, listener: listener, links: make(map[*link]struct{})}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr returns the address where clients connect.
func (p *TCPProxy) Addr() string { return p.listener.Addr().String() }

// Cut resets all connections now. What was on its way is lost. New ones are welcome, unless they are blocked.
func (p *TCPProxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		p.drop(l, reset)
	}
}

// Block makes the network swallow everything: connections stay open and nothing arrives, and a new one is accepted and leads
// nowhere.
func (p *TCPProxy) Block() {
	p.requests.shut()
	p.answers.shut()
}

// BlockAnswers lets requests through and holds back what the target says. With Cut after it the target has done what the
// client will never hear of.
func (p *TCPProxy) BlockAnswers() { p.answers.shut() }

// Unblock lets everything go on, the octets that were held back first.
func (p *TCPProxy) Unblock() {
	p.requests.open()
	p.answers.open()
}

// Dialer returns a dialer that goes to the value of proxies where the client means the key, and directly elsewhere. Kafka's
// clients need it: a broker tells them its own address, whichever they came by.
func Dialer(proxies map[string]string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if proxy, ok := proxies[addr]; ok {
			addr = proxy
		}
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
}

func (p *TCPProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed, or there is nothing more to accept with
		}
		l := &link{client: client, done: make(chan struct{})}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			client.Close()
			return
		}
		p.links[l] = struct{}{}
		p.running.Go(func() { p.serve(l) })
		p.mu.Unlock()
	}
}

func (p *TCPProxy) serve(l *link) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.drop(l, func(c net.Conn) { c.Close() })
	}()
	if !p.requests.pass(l.done) {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	p.mu.Lock()
	select {
	case <-l.done: // cut while we dialled
		p.mu.Unlock()
		server.Close()
		return
	default:
	}
	l.server = server
	p.mu.Unlock()

	var both sync.WaitGroup
	both.Go(func() { forward(l, server, l.client, &p.requests) })
	both.Go(func() { forward(l, l.client, server, &p.answers) })
	both.Wait()
}

// forward copies one direction. Its end is passed on alone, for the other direction may have more to say; an error ends both.
func forward(l *link, to, from net.Conn, g *gate) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if !g.pass(l.done) {
			return
		}
		if n > 0 {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				err = failed
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			to.(*net.TCPConn).CloseWrite()
			return
		default:
			reset(to)
			reset(from)
			return
		}
	}
}

// drop ends a link once. The caller holds mu.
func (p *TCPProxy) drop(l *link, end func(net.Conn)) {
	if _, there := p.links[l]; !there {
		return
	}
	delete(p.links, l)
	close(l.done)
	end(l.client)
	if l.server != nil {
		end(l.server)
	}
}

// reset closes a connection and discards what was not sent yet.
func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func (p *TCPProxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.listener.Close()
	p.Cut()
	p.running.Wait()
}

// gate lets through what comes while it is open.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // closed when the gate opens; nil while it is open. Guarded by mu.
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// pass waits until the gate is open, and says no if done comes first.
func (g *gate) pass(done <-chan struct{}) bool {
	for {
		g.mu.Lock()
		opened := g.opened
		g.mu.Unlock()
		if opened == nil {
			return true
		}
		select {
		case <-opened:
		case <-done:
			return false
		}
	}
}
