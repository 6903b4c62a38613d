package distributed

import (
	"context"
	"slices"
	"testing"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/bustest"
)

// TestSuite runs what every driver must do, and what one for several processes must. It is not parallel to others, for it
// measures memory.
func TestSuite(t *testing.T) {
	bustest.RunShared(t, func(t testing.TB) bustest.Shared { return newHarness(t) })
}

func BenchmarkSlowKey(b *testing.B) { bustest.BenchmarkSlowKey(b, newHarness(b)) }

// BenchmarkSteps is what the suite measures of every driver.
func BenchmarkSteps(b *testing.B) {
	c := setupWith(b, bustest.Definitions(), bustest.Roles())
	bustest.BenchmarkSteps(context.Background(), b, c.open(b, "bench"))
}

// setupWith is setup with other topics and roles, all of which run.
func setupWith(t testing.TB, topics []bus.Definition, roles []bus.Role) *cluster {
	return setupCluster(t, func(o *Options) {
		o.Topics, o.Roles, o.Run = topics, roles, slices.Clone(roles)
	})
}
