package call

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// ReverseConfig is what a Reverse needs.
type ReverseConfig struct {
	// ServerConfig is of the one port. Its Peers are set to Through: nobody else has business here.
	ServerConfig
	// Behind is the role of this process, and Through that of the processes that connect to it.
	Behind, Through bus.Role
	// Self is what they are told of this process.
	Self bus.Instance
}

// Reverse is the only way between a process that opens no connection to its cluster and the others: those of one role
// open them. It answers what they ask on ordinary connections, and asks on reverse ones. To the bus of this process it is
// both bus.Placement and bus.Remote: everything that is elsewhere is where the connections come from.
type Reverse struct {
	config    ReverseConfig
	server    *Server
	transport *http.Transport
	exchanger

	mu      sync.Mutex
	links   []*reverseLink
	turn    uint64
	changed chan struct{}
}

type reverseLink struct {
	*link
	instance bus.Instance
	used     uint64 // the turn in which it was used last
}

// NewReverse makes it. It does nothing before Run.
func NewReverse(c ReverseConfig) *Reverse {
	c.Peers = []bus.Role{c.Through}
	c.Limits = c.Limits.withDefaults()
	r := &Reverse{
		config: c, server: NewServer(c.ServerConfig), transport: newTransport(0, c.Limits),
		exchanger: exchanger{c.Limits, c.Metrics.side(sideClient)}, changed: make(chan struct{}),
	}
	r.server.reverse, r.server.asking = r.hold, r.side
	return r
}

// Run takes connections of both kinds until ctx ends.
func (r *Reverse) Run(ctx context.Context, ready func()) error { return r.server.Run(ctx, ready) }

// hold keeps a reverse connection until it ends.
func (r *Reverse) hold(ctx context.Context, c *conn) {
	l, err := r.meet(ctx, c)
	if err != nil {
		_ = c.Close()
		r.config.Log.LogAttrs(ctx, slog.LevelWarn, "reverse connection refused", slog.String("peer", c.peer.String()), slog.Any("error", err))
		return
	}
	r.mu.Lock()
	r.links = append(r.links, l)
	r.notify()
	r.mu.Unlock()
	r.config.Log.LogAttrs(ctx, slog.LevelInfo, "reverse connection", slog.String("peer", c.peer.String()), slog.Int("number", int(l.instance.Number)))
	select {
	case <-c.closed:
	case <-ctx.Done():
	}
	r.mu.Lock()
	r.links = slices.DeleteFunc(r.links, func(other *reverseLink) bool { return other == l })
	r.notify()
	r.mu.Unlock()
	closeAll([]*link{l.link}) // at once, where it has ended
}

// meet exchanges hellos.
func (r *Reverse) meet(ctx context.Context, c *conn) (*reverseLink, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	l, err := newLink(ctx, r.transport, c)
	if err != nil {
		return nil, err
	}
	hello, err := encodeHello(r.config.Self)
	if err != nil {
		return nil, err
	}
	octets, err := roundTrip(ctx, l, helloURL, hello, maxHello, c.peer.Instance)
	if err != nil {
		return nil, err
	}
	instance, err := decodeHello(octets)
	if err != nil {
		return nil, err
	}
	return &reverseLink{link: l, instance: instance}, nil
}

// notify tells those that wait for a change. r.mu is held.
func (r *Reverse) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Owner knows of no partition: whom the request is handed on to is decided by who hands it on.
func (r *Reverse) Owner(bus.Role, int32) (bus.Instance, bool) { return bus.Instance{}, false }

// Instances lists the processes that are connected, for every role but this process's own: the one to be asked next first.
func (r *Reverse) Instances(role bus.Role) (list []bus.Instance) {
	if role == r.config.Behind {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.inTurn() {
		if !slices.Contains(list, l.instance) {
			list = append(list, l.instance)
		}
	}
	return list
}

// inTurn sorts the links: those with least in flight first, and of those the one first that was used longest ago. Those
// that take nothing now, because they are full or about to end, are last. r.mu is held.
func (r *Reverse) inTurn() []*reverseLink {
	inFlight := make(map[*reverseLink]int, len(r.links))
	for _, l := range r.links {
		if inFlight[l] = l.InFlight(); l.Available() == 0 {
			inFlight[l] = math.MaxInt
		}
	}
	slices.SortStableFunc(r.links, func(a, b *reverseLink) int {
		return cmp.Or(cmp.Compare(inFlight[a], inFlight[b]), cmp.Compare(a.used, b.used))
	})
	return r.links
}

// Changed is closed when a connection comes or goes.
func (r *Reverse) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Send asks a process over a connection that it has opened; where to is the zero Instance, the one whose turn it is.
func (r *Reverse) Send(ctx context.Context, to bus.Instance, request bus.Request) (bus.Answer, error) {
	began := time.Now()
	answer, err := r.send(ctx, to, request)
	r.side.count(outcomeOf(answer, err), began)
	return answer, err
}

func (r *Reverse) send(ctx context.Context, to bus.Instance, request bus.Request) (bus.Answer, error) {
	body, err := r.encode(ctx, request)
	if err != nil {
		return bus.Answer{}, err
	}
	for try := 0; ; try++ {
		l, err := r.take(to)
		if err != nil {
			return bus.Answer{}, err
		}
		answer, err := r.exchange(ctx, l.link, body, fmt.Sprintf("%s %s", r.config.Through, l.instance.Name))
		if try == 0 && refusedByProtocol(err) {
			continue
		}
		return answer, err
	}
}

// take returns a connection with a place reserved.
func (r *Reverse) take(to bus.Instance) (*reverseLink, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.inTurn() {
		if (to == bus.Instance{} || l.instance.Number == to.Number) && l.Reserve() == nil {
			r.turn++
			l.used = r.turn
			return l, nil
		}
	}
	if len(r.links) == 0 {
		return nil, notSent("no %s is connected", r.config.Through)
	}
	return nil, notSent("%s %s is not connected, or full", r.config.Through, to.Name)
}
