package run_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hawser-project/hawser/internal/run"
)

// events records what services do, in order.
type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) add(s string) { e.mu.Lock(); defer e.mu.Unlock(); e.list = append(e.list, s) }

func (e *events) service(name string, startUp time.Duration) run.Named {
	return run.Named{Name: name, Service: run.Func(func(ctx context.Context, ready func()) error {
		time.Sleep(startUp)
		e.add("start " + name)
		ready()
		<-ctx.Done()
		e.add("stop " + name)
		return nil
	})}
}

func TestServicesStartInOrderAndStopInReverse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var e events
		var g run.Group
		ctx, cancel := context.WithCancel(t.Context())
		err := g.Run(ctx, time.Second, cancel, e.service("a", time.Second), e.service("b", 0))
		if err != nil {
			t.Errorf("ended with %v", err)
		}
		if want := []string{"start a", "start b", "stop b", "stop a"}; !slices.Equal(e.list, want) {
			t.Errorf("got %v, want %v", e.list, want)
		}
	})
}

func TestAServiceThatFailsStopsTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var e events
		var g run.Group
		broken := run.Named{Name: "b", Service: run.Func(func(context.Context, func()) error { return errors.New("no port") })}
		err := g.Run(t.Context(), time.Second, func() { t.Error("ready although a service failed") }, e.service("a", 0), broken)
		if err == nil || err.Error() != "b: no port" {
			t.Errorf("got %v, want b: no port", err)
		}
		if g.States()["a"] != run.Stopped || g.States()["b"] != run.Failed {
			t.Errorf("states are %v", g.States())
		}
	})
}

func TestAServiceThatDoesNotStopIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g run.Group
		release := make(chan struct{})
		stuck := run.Named{Name: "stuck", Service: run.Func(func(_ context.Context, ready func()) error { ready(); <-release; return nil })}
		ctx, cancel := context.WithCancel(t.Context())
		err := g.Run(ctx, time.Second, cancel, stuck)
		if err == nil || !strings.Contains(err.Error(), "did not stop within 1s") {
			t.Errorf("got %v", err)
		}
		close(release)
	})
}
