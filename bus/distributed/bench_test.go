package distributed

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// BenchmarkCommit commits steps of one row of 4 KiB and one record of 1 KiB: one after the other, and by many callers.
func BenchmarkCommit(b *testing.B) {
	for _, callers := range []int{1, 32, 256, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			c := setup(b)
			c.o.Postgres.Pool = 20
			d := c.open(b, "bench")
			o := own(b, d, "a")
			o.awaitCount(b, 4)
			value, record := make([]byte, 4096), make([]byte, 1024)
			var took []time.Duration
			var mu sync.Mutex
			work := make(chan int)
			var done sync.WaitGroup
			for range callers {
				done.Go(func() {
					for i := range work {
						start := time.Now()
						key := fmt.Sprint(i % 10_000)
						_, err := do(d, bus.Step{
							Owner:   o.of(bus.PartitionOf(key, 4)),
							Writes:  []bus.Write{{RowKey: bus.RowKey{Role: "a", Kind: "k", Key: key}, Value: value}},
							Appends: []bus.Append{{Topic: "out", Key: key, Value: record}},
						})
						if err != nil {
							b.Error(err)
						}
						mu.Lock()
						took = append(took, time.Since(start))
						mu.Unlock()
					}
				})
			}
			b.ResetTimer()
			for i := range b.N {
				work <- i
			}
			close(work)
			done.Wait()
			b.StopTimer()
			report(b, took)
		})
	}
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "steps/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
