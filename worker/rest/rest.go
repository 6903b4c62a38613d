// Package rest is the worker that people, scripts and applications talk to: Corda 5's REST API over HTTPS. It says who
// asks, whether they may, and turns requests into commands and calls to the other workers. It keeps nothing that another
// rest worker would need, so any number of them can stand behind a load balancer.
//
//	routes.go     every operation on one page
//	serve.go      what is done once for each: limits, authenticate, authorise, decode, call, answer, log
//	router.go     how a path finds its route
//	login.go      Basic authentication; permit.go the decision whether a request is permitted
//	input.go      path, query and body into a handler's typed input; body.go Corda's dialect of JSON
//	answer.go     results and errors as Corda writes them
//
// The rest is a file per noun. A handler is a function of typed input to typed output or error.
package rest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/internal/listen"
)

// Config is what the worker needs.
type Config struct {
	Bus     *bus.Client
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Address is where to listen: HOST:PORT.
	Address string
	// CertFile and KeyFile are the server's certificate chain and key in PEM. They are read again when they change.
	CertFile, KeyFile string
	// Dir is where a certificate of our own is kept, which is made at first start where none is given.
	Dir string
	// Bound is told the address once it is open; may be nil.
	Bound func(net.Addr)
}

// Worker is the rest worker.
type Worker struct {
	Config
	principals *bus.Table[rbac.Principal]
	logins     *logins
	rules      *ruleCache
	router     *router
	swagger    map[string][]byte // by version
	metrics    *metrics

	busy, uploading chan struct{} // a place for each request under way
}

// New wires the worker. It does no I/O.
func New(c Config) *Worker {
	w := &Worker{
		Config: c, principals: topic.Principals.Table(c.Bus), logins: newLogins(), rules: newRuleCache(), metrics: newMetrics(c.Metrics),
		busy: make(chan struct{}, maxRequests), uploading: make(chan struct{}, maxUploads),
	}
	document := readOpenAPI()
	w.router = newRouter(w.routes(), document)
	w.swagger = document.working(w.router)
	w.principals.OnChange(func(login string) {
		w.logins.forget(login)
		w.rules.forget(login)
	})
	return w
}

// drainTime is how long requests under way may take to end when the worker stops.
const drainTime = 5 * time.Second

// Run serves until ctx ends.
func (w *Worker) Run(ctx context.Context, ready func()) error {
	certificates, err := openCertificates(ctx, w.Config)
	if err != nil {
		return err
	}
	tables, stopTables := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTables()
	ended := make(chan error, 2)
	caughtUp := make(chan struct{})
	go func() { ended <- w.principals.Run(tables, func() { close(caughtUp) }) }()
	select {
	case <-caughtUp:
	case err := <-ended:
		return err
	case <-ctx.Done():
		stopTables()
		return <-ended
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", w.Address)
	if err != nil {
		stopTables()
		return errors.Join(fmt.Errorf("open the REST port: %w", err), <-ended)
	}
	if w.Bound != nil {
		w.Bound(listener.Addr())
	}
	defer topic.PermissionsShown.Answer(w.Bus, w.showsPermissions)()
	server := w.server()
	go func() {
		ended <- server.Serve(tls.NewListener(listen.Limit(listener, maxConnections), certificates.serverConfig()))
	}()
	ready()
	left := cap(ended) // server and table
	var first error
	select {
	case first = <-ended:
		left--
	case <-ctx.Done():
	}
	w.stop(ctx, server)
	stopTables()
	for range left {
		if err := <-ended; first == nil && !errors.Is(err, http.ErrServerClosed) {
			first = err
		}
	}
	return first
}

func (w *Worker) stop(ctx context.Context, server *http.Server) {
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		w.Log.WarnContext(ctx, "requests are cut off at the end", "error", err)
		_ = server.Close()
	}
}

// Limits of connections. Bodies have limits of their own: see pace.
const (
	headerTime     = 10 * time.Second
	idleTime       = 2 * time.Minute
	maxHeader      = 32 << 10
	maxConnections = 4096
	maxRequests    = 512
	maxUploads     = 16
	requestTime    = 100 * time.Second // Corda's corda.rest.endpoint.timeoutMs
	answerTime     = 30 * time.Second  // to write an answer
	maxJSON        = 2 << 20
	maxUpload      = 200_000_000 // Corda's corda.rest.maxContentLength
	tableTime      = time.Second // to wait for the table before a refusal
	revocationTime = 2 * time.Second
)

func (w *Worker) server() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true) // DESIGN.md 4: HTTP/2 costs more and brings nothing here
	return &http.Server{
		Handler: http.HandlerFunc(w.serve), Protocols: &protocols, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(w.Log.Handler(), slog.LevelDebug),
	}
}
