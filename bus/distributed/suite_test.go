package distributed

import (
	"context"
	"slices"
	"testing"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/bustest"
)

// TestSuite runs what every driver must do.
func TestSuite(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t testing.TB) bustest.Harness {
		c := setupWith(t, bustest.Definitions(), []bus.Role{"worker", "client"})
		return harness{c}
	})
}

type harness struct{ *cluster }

func (h harness) Open(t testing.TB) bus.Driver { return h.open(t, "suite") }

// BenchmarkSteps is what the suite measures of every driver.
func BenchmarkSteps(b *testing.B) {
	c := setupWith(b, bustest.Definitions(), []bus.Role{"worker", "client"})
	bustest.BenchmarkSteps(context.Background(), b, c.open(b, "bench"))
}

// setupWith is setup with other topics and roles, all of which run.
func setupWith(t testing.TB, topics []bus.Definition, roles []bus.Role) *cluster {
	return setupCluster(t, func(o *Options) {
		o.Topics, o.Roles, o.Run = topics, roles, slices.Clone(roles)
	})
}
