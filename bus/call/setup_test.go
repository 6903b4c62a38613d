package call_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/call"
	"github.com/hawser-project/hawser/internal/pki"
	"github.com/hawser-project/hawser/internal/run"
)

var known = []string{"alpha", "beta", "behind", "through", pki.Operator}

// cluster makes certificates.
type cluster struct {
	t  testing.TB
	ca *pki.Authority
}

func newCluster(t testing.TB, name string) cluster {
	t.Helper()
	ca, err := pki.Init(filepath.Join(t.TempDir(), "ca"), name)
	if err != nil {
		t.Fatal(err)
	}
	return cluster{t, ca}
}

// issue makes a certificate, and returns where it is.
func (c cluster) issue(dir, instance string, roles ...string) {
	c.t.Helper()
	if _, err := c.ca.Issue(pki.Order{Roles: roles, Known: known, Instance: instance}, dir); err != nil {
		c.t.Fatal(err)
	}
}

func (c cluster) process(instance string, roles ...string) *pki.Loader {
	c.t.Helper()
	dir := c.t.TempDir()
	c.issue(dir, instance, roles...)
	return load(c.t, dir)
}

func load(t testing.TB, dir string) *pki.Loader {
	t.Helper()
	l, err := pki.FilesIn(dir).Load(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// logged is a log that a test can read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func (l *logged) log() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// start runs a service until stop is called, or the test ends.
func start(t testing.TB, s run.Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		cancel()
		t.Fatal("did not start: ", err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error("ended with ", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// serve starts a server on a port of its own, and returns where.
func serve(t testing.TB, s call.Serving) (at bus.Instance, stop func()) {
	t.Helper()
	return serveAt(t, "127.0.0.1:0", s)
}

func serveAt(t testing.TB, address string, s call.Serving) (at bus.Instance, stop func()) {
	t.Helper()
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	bound := make(chan net.Addr, 1)
	stop = start(t, call.NewServer(call.ServerConfig{Address: address, Serving: s, Bound: func(a net.Addr) { bound <- a }}))
	return bus.Instance{Number: 1, Name: "server", Address: (<-bound).String()}, stop
}

func newClient(t testing.TB, l *pki.Loader) *call.Client {
	t.Helper()
	c := call.NewClient(call.ClientConfig{TLS: l, Log: slog.New(slog.DiscardHandler)})
	start(t, c)
	return c
}

func echo(_ context.Context, _ pki.Identity, r bus.Request) bus.Answer {
	return bus.Answer{Body: r.Body}
}

// waiting is a handler that waits for its context's end, and says when it began and ended.
type waiting struct{ began, ended chan context.Context }

func newWaiting() waiting {
	return waiting{make(chan context.Context, 8), make(chan context.Context, 8)}
}

func (w waiting) serve(ctx context.Context, _ pki.Identity, _ bus.Request) bus.Answer {
	w.began <- ctx
	<-ctx.Done()
	w.ended <- ctx
	return bus.Answer{}
}

// soon bounds what tests wait for.
const soon = 20 * time.Second

func get[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(soon):
		t.Fatal("waited in vain for ", what)
		panic("unreachable")
	}
}

// until waits for a condition.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(soon)
	for !cond() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatal("waited in vain: ", what)
		}
	}
}
