package telemetry_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hawser-project/hawser/internal/run"
	"github.com/hawser-project/hawser/internal/telemetry"
)

func TestTheOperationsPortFollowsTheWorkers(t *testing.T) {
	t.Parallel()
	var states atomic.Pointer[map[string]run.State]
	states.Store(&map[string]run.State{"rest": run.Starting})
	bound := make(chan net.Addr, 1)
	ops := &telemetry.Ops{
		Address: "127.0.0.1:0", States: func() map[string]run.State { return *states.Load() },
		Metrics: telemetry.NewRegistry(), Log: slog.New(slog.DiscardHandler), Bound: func(a net.Addr) { bound <- a },
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ops.Run(ctx, func() {}) }()
	base := "http://" + (<-bound).String()

	get := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	check := func(path string, want int, part string) {
		t.Helper()
		if status, body := get(path); status != want || !strings.Contains(body, part) {
			t.Errorf("%s: got %d %q, want %d with %q", path, status, body, want, part)
		}
	}
	check("/live", 200, "live")
	check("/ready", 503, `"rest":"starting"`)
	check("/status", 503, `"rest":"DOWN"`)
	check("/isHealthy", 200, "")
	states.Store(&map[string]run.State{"rest": run.Ready})
	check("/ready", 200, `"rest":"ready"`)
	check("/status", 200, `"rest":"UP"`)
	check("/metrics", 200, "go_goroutines")
	states.Store(&map[string]run.State{"rest": run.Failed})
	check("/ready", 503, "failed")
	check("/isHealthy", 503, "")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}
