package flow_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/topic"
)

// BenchmarkShortFlow is a client's flow without a peer, start command to committed end.
func BenchmarkShortFlow(b *testing.B) {
	benchmark(b, func(c *cluster, id string) { c.mustBegin(alice, id, "loop", 1) })
}

// BenchmarkRoundTrip is the trade between two virtual nodes of one worker: both sides, with their records, over a link
// that only hands on.
func BenchmarkRoundTrip(b *testing.B) {
	benchmark(b, func(c *cluster, id string) {
		c.mustBegin(alice, id, "com.example.trade.OfferTrade", offer{"X", 1, 1, bobName})
	})
}

// benchmark starts b.N flows from many clients at once and waits until all have completed.
func benchmark(b *testing.B, begin func(c *cluster, id string)) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) {
			c := start(b, onDisk)
			begin(c, "warm-up")
			c.end(alice, "warm-up")
			work := make(chan string)
			var all sync.WaitGroup
			for range clients {
				all.Go(func() {
					for id := range work {
						begin(c, id)
						await(b, c, id)
					}
				})
			}
			began := time.Now()
			b.ResetTimer()
			for n := range b.N {
				work <- fmt.Sprint("r-", n)
			}
			close(work)
			all.Wait()
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "flows/s")
			b.ReportMetric(c.counter("hawser_flow_replays_total"), "replays")
		})
	}
}

func await(b *testing.B, c *cluster, id string) {
	for {
		st, err := topic.FlowStatus.Do(context.Background(), c.rest, topic.FlowRef{Holder: aliceHash, ClientRequestID: id})
		if err != nil || st.State == flow.Failed {
			b.Fatalf("flow %s: %+v, %v", id, st, err)
		}
		if st.State == flow.Completed {
			return
		}
		<-time.After(200 * time.Microsecond)
	}
}
