package bustest

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/hawser-project/hawser/bus"
)

// A Runner is a worker, as tests run it.
type Runner interface {
	Run(ctx context.Context, ready func()) error
}

// NewBus joins a test to a driver. The driver is closed at the end of the test.
func NewBus(t testing.TB, driver bus.Driver, errors bus.ErrorCodec) *bus.Bus {
	t.Helper()
	t.Cleanup(func() {
		if err := driver.Close(); err != nil {
			t.Errorf("close the bus: %v", err)
		}
	})
	return bus.New(driver, bus.Options{Log: slog.New(slog.DiscardHandler), Errors: errors})
}

// Start runs a worker until the test ends or stop is called, and returns when it is ready.
func Start(t testing.TB, r Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- r.Run(ctx, sync.OnceFunc(func() { close(ready) })) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("worker ended with %v", err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("worker did not start: %v", err)
	}
	return stop
}
