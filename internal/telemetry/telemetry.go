// Package telemetry has what a process shows of itself to those who operate it: the log, the metrics, and the operations
// port with readiness and liveness. It measures nothing by itself.
package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hawser-project/hawser/internal/run"
)

// NewLog makes the log of a process: one JSON object per line, or text for people.
func NewLog(w io.Writer, level slog.Level, text bool) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if text {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

// NewRegistry makes a registry of metrics with those of the process and the Go runtime in it.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Ops is the operations port: plain HTTP without authentication, to be reached by the operators' network only.
//
//	/ready      200 when every worker of the process is ready, else 503; JSON of worker to state
//	/live       200 while the process can answer
//	/metrics    Prometheus text format
//	/isHealthy  as Corda: 503 when a worker has failed, else 200
//	/status     as Corda: 503 when a worker is not up, with JSON of worker to UP, DOWN or ERROR
type Ops struct {
	Address string // HOST:PORT; empty serves nothing
	States  func() map[string]run.State
	Metrics prometheus.Gatherer
	Log     *slog.Logger
	// Profile adds the Go runtime's profiles under /debug/pprof/.
	Profile bool
	// Bound is told the address once it is open; may be nil.
	Bound func(net.Addr)
}

// Run serves until ctx ends.
func (o *Ops) Run(ctx context.Context, ready func()) error {
	if o.Address == "" {
		ready()
		<-ctx.Done()
		return nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", o.Address)
	if err != nil {
		return fmt.Errorf("open the operations port: %w", err)
	}
	if o.Bound != nil {
		o.Bound(listener.Addr())
	}
	server := &http.Server{Handler: o.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	ready()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.Shutdown(stop); errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	}
	return nil
}

func (o *Ops) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) {
		o.write(w, http.StatusOK, map[string]string{"status": "live"})
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		states := o.States()
		o.write(w, statusIf(len(states) > 0 && all(states, isReady)), states)
	})
	mux.HandleFunc("GET /isHealthy", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(statusIf(all(o.States(), func(s run.State) bool { return s != run.Failed })))
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		states := o.States()
		shown := make(map[string]string, len(states))
		for name, s := range states {
			shown[name] = cordaStatus(s)
		}
		o.write(w, statusIf(all(states, isReady)), shown)
	})
	if o.Profile {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{}))
	return mux
}

func isReady(s run.State) bool { return s == run.Ready }

func all(states map[string]run.State, good func(run.State) bool) bool {
	for _, s := range states {
		if !good(s) {
			return false
		}
	}
	return true
}

func statusIf(good bool) int {
	if good {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

func cordaStatus(s run.State) string {
	switch s {
	case run.Ready:
		return "UP"
	case run.Failed:
		return "ERROR"
	case run.Waiting, run.Starting, run.Stopping, run.Stopped:
	}
	return "DOWN"
}

func (o *Ops) write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		o.Log.Debug("operations port", "error", err)
	}
}
