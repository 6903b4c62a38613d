package bustest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// latencies measures from the publishing of a key's record to the end of its handler.
type latencies struct {
	mu    sync.Mutex
	begun map[string]time.Time
	took  []time.Duration
}

func (l *latencies) begin(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun == nil {
		l.begun = make(map[string]time.Time)
	}
	l.begun[key] = time.Now()
}

func (l *latencies) end(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, time.Since(l.begun[key]))
}

func (l *latencies) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.took)
}

func (l *latencies) percentile(p int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.took) == 0 {
		return 0
	}
	slices.Sort(l.took)
	return l.took[min(len(l.took)-1, len(l.took)*p/100)]
}

func keyName(n int) string { return fmt.Sprintf("k%d", n) }

// BenchmarkSlowKey measures what 199 keys wait, from publishing to the end of the handler, while the handler of one more takes
// a second each time. On a quiet machine p99-ms is below 20 (DESIGN.md 2).
func BenchmarkSlowKey(b *testing.B, h Harness) {
	var took latencies
	c := launch(b, h, setup{wire: func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if key == "slow" {
				wait(time.Second)
			} else {
				defer took.end(key)
			}
			return sum(ctx, tx, key, v)
		})
	}})
	slow := make([]item, 1+b.N/50) // enough of them for the whole time
	c.publish("slow", slow...)
	b.ResetTimer()
	for n := range b.N {
		key := keyName(n % 199)
		took.begin(key)
		c.publish(key, item{N: 1})
		for took.count() <= n {
			wait(100 * time.Microsecond)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(took.percentile(50).Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took.percentile(99).Microseconds())/1000, "p99-ms")
	c.end() // what is left of the slow key is not waited for
}
