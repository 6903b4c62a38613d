// Package gateway is the worker that faces other clusters: it takes their link messages over HTTPS and hands them to the
// link manager, and posts what the link manager gives it (spec/p2p-wire.md 6). It opens no link message beyond its
// framing, decides nothing about members, and keeps nothing: it has no topic, no state and no private key. The link manager
// feeds it with certificates; crypto signs its TLS handshakes.
//
//	other cluster --HTTPS--> server.go --Deliver--> link manager
//	link manager --GatewayPost--> client.go --HTTPS--> other cluster
//
// Between two gateways of Hawser, one request may carry many link messages, and its answer the acknowledgements (batch.go).
// That is used only towards a server that has offered it.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/topic"
)

// Config is what the worker needs. Of Listen and below the zero value is the default.
type Config struct {
	Bus     *bus.Client
	Log     *slog.Logger
	Metrics prometheus.Registerer // may be nil

	// Listen is HOST:PORT. Default 0.0.0.0:8080.
	Listen string
	// Bound is told the address once it is open; may be nil.
	Bound func(net.Addr)
	// Path is the only one that is served. Default "/".
	Path string
	// Connections from other clusters at a time, and of those from one address. Defaults 10,000 and 1,000.
	Connections, ConnectionsPerSource int
	// BodyOctets of requests that are under way are in memory at a time, BodyOctetsPerSource of them from one address; a
	// request beyond is answered 503, and its sender tries again. Defaults 512 MiB and 128 MiB.
	BodyOctets, BodyOctetsPerSource int
	// HandshakesPerSecond from one address; more are refused before a signature is spent. Default 50, in bursts of 200.
	HandshakesPerSecond float64
	// NoBatch leaves out the offer of batches, so that every gateway is talked to as to Corda's.
	NoBatch bool
	// ConnectTimeout and ResponseTimeout are for requests to other clusters. Defaults 10 s, 3 s.
	ConnectTimeout, ResponseTimeout time.Duration
	// ClientConnections is how many connections one destination gets. Default 4.
	ClientConnections int
}

func (c Config) orDefault() Config {
	if c.Listen == "" {
		c.Listen = "0.0.0.0:8080"
	}
	if c.Path == "" {
		c.Path = "/"
	}
	set(&c.Connections, 10_000)
	set(&c.ConnectionsPerSource, 1_000)
	set(&c.BodyOctets, 512<<20)
	set(&c.BodyOctetsPerSource, 128<<20)
	set(&c.HandshakesPerSecond, 50)
	set(&c.ConnectTimeout, 10*time.Second)
	set(&c.ResponseTimeout, 3*time.Second)
	set(&c.ClientConnections, 4)
	return c
}

func set[T int | float64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Limits that are not configured: what the protocol allows (spec/p2p-wire.md 6.2, 7.2).
const (
	maxBody          = 5_000_000 + 64<<10 // the largest field that Corda encodes, and its envelope
	handshakeTime    = 10 * time.Second
	bodyTime         = 30 * time.Second
	serverIdle       = 600 * time.Second
	stopTime         = 3 * time.Second
	deliverTime      = 20 * time.Second
	signTime         = 5 * time.Second
	maxHeader        = 16 << 10
	jsonContent      = "application/json"
	batchHeader      = "Hawser-Batch"
	batchVersion     = "1"
	batchContentType = "application/vnd.hawser.batch.v1"
)

// Worker is the gateway.
type Worker struct {
	Config
	metrics *metrics
	certs   certificates
	sources *sources
	clients *clients
	feeds   feeds
	opened  opened

	mu   sync.Mutex
	addr net.Addr
	ctx  context.Context // of signatures; set by Run
}

// New wires the worker. It does no I/O.
func New(c Config) *Worker {
	w := &Worker{Config: c.orDefault(), metrics: newMetrics(c.Metrics)}
	w.sources = newSources(w.Config)
	w.clients = newClients(w)
	return w
}

// Addr returns where the server listens, or nil before it does.
func (w *Worker) Addr() net.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addr
}

// Run serves until ctx ends.
func (w *Worker) Run(ctx context.Context, ready func()) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", w.Listen)
	if err != nil {
		return fmt.Errorf("listen for other clusters on %s: %w", w.Listen, err)
	}
	w.mu.Lock()
	w.addr, w.ctx = listener.Addr(), inner
	w.mu.Unlock()
	if w.Bound != nil {
		w.Bound(listener.Addr())
	}

	defer w.clients.close()
	defer topic.GatewayConfigure.Answer(w.Bus, w.configure)()
	defer topic.GatewayPost.Answer(w.Bus, w.post)()

	server := w.newServer(inner)
	served := make(chan error, 1)
	go func() { served <- server.Serve(w.secure(listener)) }()
	ready()
	select {
	case err := <-served:
		return fmt.Errorf("serve other clusters: %w", err)
	case <-ctx.Done():
	}
	stopping, stop := context.WithTimeout(inner, stopTime)
	defer stop()
	w.opened.close()
	if err := server.Shutdown(stopping); err != nil {
		_ = server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// configure takes the certificates from now on, and drops connections made under trust that is no longer in use.
func (w *Worker) configure(ctx context.Context, c topic.GatewayConfig) (topic.GatewayStatus, error) {
	known, trust := w.feeds.take(c, time.Now())
	w.clients.keep(trust)
	if known {
		return topic.GatewayStatus{Version: c.Version}, nil
	}
	faults := w.certs.replace(c, w.signer)
	w.Log.InfoContext(ctx, "certificates taken", "count", len(c.Certificates), "faults", len(faults))
	return topic.GatewayStatus{Version: c.Version, Faults: faults}, nil
}
