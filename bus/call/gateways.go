package call

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hawser-project/hawser/bus"
)

const (
	resolveEvery   = 5 * time.Second // how often names are resolved again
	maxDialBackOff = 5 * time.Second
)

// GatewaysConfig is what Gateways needs.
type GatewaysConfig struct {
	// Addresses are HOST:PORT of the processes behind. Every IP address of a name counts as a process of its own.
	Addresses []string
	// Behind is the role of those processes, which their certificates must name.
	Behind bus.Role
	// Self is what they are told of this process.
	Self func() bus.Instance
	Serving
}

// Gateways keeps a reverse connection to every process of a role that opens none itself, and answers what they ask over
// it. It is the bus.Placement of that role: who is listed has a connection now. They are asked with a Client.
type Gateways struct {
	config GatewaysConfig
	host   *host
	keep   sync.WaitGroup

	mu      sync.Mutex
	kept    map[string]bool // addresses that are looked after; false: no longer wanted, ends with its connection
	at      map[*conn]string
	there   map[*conn]bus.Instance
	changed chan struct{}
}

// NewGateways makes it. It does nothing before Run.
func NewGateways(c GatewaysConfig) *Gateways {
	g := &Gateways{
		config: c, host: newHost(c.Serving, 0), kept: make(map[string]bool), at: make(map[*conn]string),
		there: make(map[*conn]bus.Instance), changed: make(chan struct{}),
	}
	g.host.hello = g.hello
	return g
}

// Run keeps the connections until ctx ends. It is ready at once: it may well be there before those behind.
func (g *Gateways) Run(ctx context.Context, ready func()) error {
	g.host.start()
	ready()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-timer.C:
			g.follow(ctx)
			timer.Reset(resolveEvery)
		case <-ctx.Done():
		}
	}
	g.host.stop()
	g.keep.Wait()
	return nil
}

// follow looks after the addresses that the names have now, and no more after others. A name that can't be resolved
// leaves everything as it is.
func (g *Gateways) follow(ctx context.Context) {
	wanted := make(map[string]bool)
	for _, name := range g.config.Addresses {
		list, err := resolve(ctx, name)
		if err != nil {
			if ctx.Err() == nil {
				g.config.Log.LogAttrs(ctx, slog.LevelWarn, "a name does not resolve", slog.String("name", name), slog.Any("error", err))
			}
			return
		}
		for _, address := range list {
			wanted[address] = true
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for address := range g.kept {
		g.kept[address] = wanted[address]
	}
	for address := range wanted {
		if _, found := g.kept[address]; !found {
			g.kept[address] = true
			g.keep.Go(func() { g.lookAfter(ctx, address) })
		}
	}
}

func resolve(ctx context.Context, address string) (list []string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(ctx, host) // an IP address is its own
	for _, ip := range ips {
		list = append(list, net.JoinHostPort(ip, port))
	}
	return list, err
}

// lookAfter keeps a connection to an address until ctx ends or it is no longer wanted.
func (g *Gateways) lookAfter(ctx context.Context, address string) {
	failures := 0
	for {
		began := time.Now()
		err := g.connect(ctx, address)
		if ctx.Err() != nil || g.unwanted(address) {
			return
		}
		if time.Since(began) > maxDialBackOff {
			failures = 0 // it did hold
		}
		if failures++; failures == 1 || failures%20 == 0 {
			g.config.Log.LogAttrs(ctx, slog.LevelWarn, "no reverse connection; trying again",
				slog.String("address", address), slog.Int("failures", failures), slog.Any("error", err))
		}
		if pause(ctx, backOff(failures, maxDialBackOff)) != nil {
			return
		}
	}
}

func (g *Gateways) unwanted(address string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kept[address] {
		return false
	}
	delete(g.kept, address)
	return true
}

// connect opens a connection, answers on it, and returns when it has ended.
func (g *Gateways) connect(ctx context.Context, address string) error {
	timed, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	c, err := dial(timed, address, g.config.TLS.Client(protocolReverse), g.host.side.connections)
	if err != nil {
		return err
	}
	if !c.peer.Has(string(g.config.Behind)) {
		_ = c.Close()
		return fmt.Errorf("%s does not have the role %s", c.peer, g.config.Behind)
	}
	g.mu.Lock()
	g.at[c] = address
	g.mu.Unlock()
	g.host.add(c)
	<-c.closed // by either side; when ctx ends, the host closes it
	g.gone(c)
	if err := c.readErr.Load(); err != nil {
		return *err
	}
	return errors.New("the connection has ended")
}

// hello takes note of what the other side of a reverse connection says of itself.
func (g *Gateways) hello(c *conn, said bus.Instance) (bus.Instance, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	address, found := g.at[c]
	if !found {
		return bus.Instance{}, errors.New("the connection has ended")
	}
	g.there[c] = bus.Instance{Number: said.Number, Name: said.Name, Address: address}
	g.notify()
	return g.config.Self(), nil
}

func (g *Gateways) gone(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.at, c)
	if _, found := g.there[c]; found {
		delete(g.there, c)
		g.notify()
	}
}

// notify tells those that wait for a change. g.mu is held.
func (g *Gateways) notify() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// Owner knows of no partition: those behind own none.
func (g *Gateways) Owner(bus.Role, int32) (bus.Instance, bool) { return bus.Instance{}, false }

// Instances lists the processes behind that are connected.
func (g *Gateways) Instances(role bus.Role) (list []bus.Instance) {
	if role != g.config.Behind {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, i := range g.there {
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b bus.Instance) int { return strings.Compare(a.Address, b.Address) })
	return list
}

// Changed is closed when one of them comes or goes.
func (g *Gateways) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}
