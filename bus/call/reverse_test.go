package call_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/call"
	"github.com/hawser-project/hawser/internal/pki"
)

// Both are everything that a bus needs of other processes.
var (
	_ bus.Placement = (*call.Gateways)(nil)
	_ bus.Placement = (*call.Reverse)(nil)
	_ bus.Remote    = (*call.Reverse)(nil)
	_ bus.Remote    = (*call.Client)(nil)
)

// behind starts a process that opens no connections.
func behind(t *testing.T, l *pki.Loader, address string, serve call.Handler) (r *call.Reverse, at string, stop func()) {
	t.Helper()
	bound := make(chan net.Addr, 1)
	r = call.NewReverse(call.ReverseConfig{
		Behind: "behind", Through: "through", Self: bus.Instance{Number: 77, Name: "g"},
		ServerConfig: call.ServerConfig{
			Address: address, Bound: func(a net.Addr) { bound <- a },
			Serving: call.Serving{TLS: l, Serve: serve, Log: slog.New(slog.DiscardHandler)},
		},
	})
	stop = start(t, r)
	return r, (<-bound).String(), stop
}

// through starts a process that connects to those behind.
func through(t *testing.T, l *pki.Loader, number uint16, serve call.Handler, addresses ...string) (g *call.Gateways, stop func()) {
	t.Helper()
	g = call.NewGateways(call.GatewaysConfig{
		Addresses: addresses, Behind: "behind",
		Self: func() bus.Instance {
			return bus.Instance{Number: number, Name: fmt.Sprintf("t-%d", number), Address: "t:1"}
		},
		Serving: call.Serving{TLS: l, Serve: serve, Log: slog.New(slog.DiscardHandler)},
	})
	return g, start(t, g)
}

func named(name string) call.Handler {
	return func(_ context.Context, peer pki.Identity, _ bus.Request) bus.Answer {
		return bus.Answer{Body: []byte(name + " to " + peer.Instance)}
	}
}

var (
	outwards = bus.Request{What: "call", Name: "send", Asker: "through"}
	inwards  = bus.Request{What: "call", Name: "deliver", Asker: "behind"}
)

func TestBothAskOverConnectionsThatOneSideOpens(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	r, address, _ := behind(t, c.process("g-1", "behind"), "127.0.0.1:0", named("gateway"))
	ours := c.process("t-1", "through")
	g, _ := through(t, ours, 5, named("manager"), address)
	until(t, "they have met", func() bool { return len(r.Instances("anything")) == 1 && len(g.Instances("behind")) == 1 })

	if got := r.Instances("anything")[0]; got != (bus.Instance{Number: 5, Name: "t-5", Address: "t:1"}) {
		t.Errorf("the one behind sees %+v", got)
	}
	if got := g.Instances("behind")[0]; got != (bus.Instance{Number: 77, Name: "g", Address: address}) {
		t.Errorf("the other sees %+v", got)
	}
	if r.Instances("behind") != nil || g.Instances("anything") != nil {
		t.Error("roles are mixed up")
	}
	a, err := r.Send(t.Context(), r.Instances("anything")[0], inwards)
	if err != nil || string(a.Body) != "manager to g-1" {
		t.Errorf("inwards: %s, %v", a.Body, err)
	}
	a, err = newClient(t, ours).Send(t.Context(), g.Instances("behind")[0], outwards)
	if err != nil || string(a.Body) != "gateway to t-1" {
		t.Errorf("outwards: %s, %v", a.Body, err)
	}
	forged := inwards
	forged.Asker = "alpha"
	_, err = r.Send(t.Context(), bus.Instance{}, forged)
	fails(t, err, "forbidden", true, "may not ask in the name of")
}

func TestOthersHaveNoBusinessBehind(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	r, address, _ := behind(t, c.process("g-1", "behind"), "127.0.0.1:0", named("gateway"))
	_, err := newClient(t, c.process("a-1", "alpha")).Send(t.Context(), bus.Instance{Address: address}, ask)
	fails(t, err, "unavailable", true, "")
	through(t, c.process("a-2", "alpha"), 6, named("x"), address)
	g, _ := through(t, c.process("t-1", "through"), 5, named("manager"), address)
	until(t, "the right one has met it", func() bool { return len(g.Instances("behind")) == 1 && len(r.Instances("x")) == 1 })
	if got := r.Instances("x"); got[0].Number != 5 {
		t.Errorf("%+v was let in", got)
	}
	// And who connects asks only of those behind: a server of another role gets nothing to answer.
	other, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: echo})
	g2, _ := through(t, c.process("t-2", "through"), 7, named("manager"), other.Address, address)
	until(t, "it has met the one behind", func() bool { return len(g2.Instances("behind")) == 1 })
	_, err = r.Send(t.Context(), bus.Instance{Number: 99}, inwards)
	fails(t, err, "unavailable", true, "not connected")
}

func TestAConnectionIsOpenedAgainAfterARestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	theirs := c.process("g-1", "behind")
	r, address, stop := behind(t, theirs, "127.0.0.1:0", named("gateway"))
	g, _ := through(t, c.process("t-1", "through"), 5, named("manager"), address)
	until(t, "they have met", func() bool { return len(r.Instances("x")) == 1 && len(g.Instances("behind")) == 1 })
	changed := g.Changed()
	stop()
	get(t, "word of the change", changed)
	until(t, "it is gone", func() bool { return len(g.Instances("behind")) == 0 && len(r.Instances("x")) == 0 })
	again, _, _ := behind(t, theirs, address, named("gateway"))
	until(t, "they have met again", func() bool { return len(again.Instances("x")) == 1 && len(g.Instances("behind")) == 1 })
	if a, err := again.Send(t.Context(), bus.Instance{}, inwards); err != nil || string(a.Body) != "manager to g-1" {
		t.Errorf("got %s, %v", a.Body, err)
	}
}

func TestOfTwoTheOneWithLeastInFlightIsAsked(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	r, address, _ := behind(t, c.process("g-1", "behind"), "127.0.0.1:0", named("gateway"))
	busy := newWaiting()
	serving := func(name string) call.Handler {
		return func(ctx context.Context, p pki.Identity, request bus.Request) bus.Answer {
			if request.Name == "wait" {
				return busy.serve(ctx, p, request)
			}
			return bus.Answer{Body: []byte(name)}
		}
	}
	_, stopOne := through(t, c.process("t-1", "through"), 1, serving("1"), address)
	through(t, c.process("t-2", "through"), 2, serving("2"), address)
	until(t, "both have connected", func() bool { return len(r.Instances("x")) == 2 })

	asked := make(map[string]int)
	for range 10 {
		a, err := r.Send(t.Context(), bus.Instance{}, inwards)
		if err != nil {
			t.Fatal(err)
		}
		asked[string(a.Body)]++
	}
	if asked["1"] != 5 || asked["2"] != 5 {
		t.Errorf("asked in turn: %v", asked)
	}
	wait := inwards
	wait.Name = "wait"
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _, _ = r.Send(ctx, bus.Instance{Number: 1}, wait) })
	get(t, "1 is busy", busy.began)
	for range 4 {
		if a, err := r.Send(t.Context(), bus.Instance{}, inwards); err != nil || string(a.Body) != "2" {
			t.Errorf("asked %s, %v, although 1 is busy", a.Body, err)
		}
	}
	if first := r.Instances("x")[0]; first.Number != 2 {
		t.Errorf("%+v is to be asked first", first)
	}
	cancel()
	all.Wait()
	stopOne()
	until(t, "one is gone", func() bool { return len(r.Instances("x")) == 1 })
	if a, err := r.Send(t.Context(), bus.Instance{}, inwards); err != nil || string(a.Body) != "2" {
		t.Errorf("asked %s, %v", a.Body, err)
	}
}

func TestWhatIsInFlightWhenAConnectionEndsMayHaveBeenTakenUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	r, address, _ := behind(t, c.process("g-1", "behind"), "127.0.0.1:0", named("gateway"))
	way := between(t, address)
	w := newWaiting()
	through(t, c.process("t-1", "through"), 5, w.serve, way.Addr().String())
	until(t, "they have met", func() bool { return len(r.Instances("x")) == 1 })
	failed := make(chan error, 1)
	go func() {
		_, err := r.Send(t.Context(), bus.Instance{}, inwards)
		failed <- err
	}()
	get(t, "the handler's begin", w.began)
	changed := r.Changed()
	way.kill()
	fails(t, get(t, "the error", failed), "unavailable", false, "")
	get(t, "word of the change", changed)
	until(t, "nobody is listed", func() bool { return len(r.Instances("x")) == 0 })
	_, err := r.Send(t.Context(), bus.Instance{}, inwards)
	if fails(t, err, "unavailable", true, "no through is connected"); !errors.Is(err, bus.ErrNotSent) {
		t.Error(err)
	}
}

func TestEveryAddressOfTheListIsAProcessOfItsOwn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	_, one, _ := behind(t, c.process("g-1", "behind"), "127.0.0.1:0", named("gateway"))
	_, two, _ := behind(t, c.process("g-2", "behind"), "127.0.0.1:0", named("gateway"))
	_, port, err := net.SplitHostPort(one)
	if err != nil {
		t.Fatal(err)
	}
	g, _ := through(t, c.process("t-1", "through"), 5, named("manager"), "localhost:"+port, two)
	until(t, "both are there", func() bool {
		list := g.Instances("behind")
		return slices.ContainsFunc(list, func(i bus.Instance) bool { return i.Address == one }) &&
			slices.ContainsFunc(list, func(i bus.Instance) bool { return i.Address == two })
	})
}
