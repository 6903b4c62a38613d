// Package bench measures whole clusters, as processes, through their REST APIs. Run it with
//
//	go test ./test/bench -run xxx -bench . -benchtime 2000x
//
// Both clusters, the load and, in BenchmarkRESTGet, the bare server that is compared with share the machine. What a message
// between two clusters costs is in test/p2p, what a flow's instance costs in worker/flow/wasm; docs/reports has a run.
package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus/bustest"
	"github.com/hawser-project/hawser/bus/embedded"
	"github.com/hawser-project/hawser/cmd/hawser/demo"
	"github.com/hawser-project/hawser/test/testcluster"
)

func TestMain(m *testing.M) { testcluster.Main(m) }

const class = demo.OfferTrade

// outstanding is how many flows are at most between their start and their end.
const outstanding = 128

// BenchmarkFlowRoundTrip: flows that start over REST, ask the other cluster's flow, record and end; 128 outstanding. The end
// is read from the cluster's own count, so that asking for it costs next to nothing.
func BenchmarkFlowRoundTrip(b *testing.B) {
	n := testcluster.Network(b)
	var warm demo.Trade
	if err := n.Alice.Run(b.Context(), rand.Text(), class, demo.Offer("ACME", 1, 100), &warm); err != nil {
		b.Fatal(err)
	}
	ids, before, run := make(chan string), completed(b, n.Alice), rand.Text()
	var clients sync.WaitGroup
	start := time.Now()
	b.ResetTimer()
	for range 32 {
		clients.Go(func() {
			for id := range ids {
				if err := n.Alice.StartFlow(b.Context(), id, class, demo.Offer("ACME", 1, 100)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for started, done := 0, 0; done < b.N && time.Since(start) < 10*time.Minute; done = int(completed(b, n.Alice) - before) {
		for ; started < min(b.N, done+outstanding); started++ {
			ids <- fmt.Sprintf("%s-%d", run, started)
		}
		<-time.After(5 * time.Millisecond)
	}
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "flows/s")
	close(ids)
	clients.Wait()
}

// completed reads how many flows have completed since the cluster's process began.
func completed(b *testing.B, o *demo.Org) (sum float64) {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, o.Ops+"/metrics", nil)
	if err != nil {
		b.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), `hawser_flow_ended_total{`) && strings.Contains(lines.Text(), `"COMPLETED"`) {
			_, value, _ := strings.Cut(lines.Text(), "} ")
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// BenchmarkFlowLatency: the same, one at a time on quiet clusters; from the POST to the GET that says COMPLETED.
func BenchmarkFlowLatency(b *testing.B) {
	n := testcluster.Network(b)
	took := make([]time.Duration, 0, b.N)
	run := rand.Text()
	b.ResetTimer()
	for i := range b.N {
		id := fmt.Sprintf("%s-%d", run, i)
		start := time.Now()
		if err := n.Alice.StartFlow(b.Context(), id, class, demo.Offer("ACME", 1, 100)); err != nil {
			b.Fatal(err)
		}
		for {
			f, err := n.Alice.Flow(b.Context(), id)
			if err != nil || f.Ended() && f.FlowStatus != "COMPLETED" {
				b.Fatalf("%+v, %v", f, err)
			}
			if f.Ended() {
				break
			}
		}
		took = append(took, time.Since(start))
	}
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkRESTGet: GET of a virtual node, with Basic authentication and RBAC, by 16 clients that keep their connections;
// and of the same octets from a bare net/http server with TLS in the benchmark's process.
func BenchmarkRESTGet(b *testing.B) {
	n := testcluster.Network(b)
	path := "/api/v5_3/virtualnode/" + n.Alice.Hash
	body, err := n.Alice.Client().Raw(b.Context(), http.MethodGet, path, "", nil)
	if err != nil {
		b.Fatal(err)
	}
	bare := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}))
	bare.TLS = &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
	bare.StartTLS()
	defer bare.Close()
	bareClient := bare.Client()
	bareClient.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	b.Run("hawser", func(b *testing.B) {
		load(b, func() error {
			_, err := n.Alice.Client().Raw(b.Context(), http.MethodGet, path, "", nil)
			return err
		})
	})
	b.Run("bare", func(b *testing.B) {
		load(b, func() error {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, bare.URL, nil)
			if err != nil {
				return err
			}
			resp, err := bareClient.Do(req)
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			_, err = io.Copy(io.Discard, resp.Body)
			return err
		})
	})
}

func load(b *testing.B, request func() error) {
	work := make(chan struct{})
	var clients sync.WaitGroup
	start := time.Now()
	for range 16 {
		clients.Go(func() {
			for range work {
				if err := request(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	clients.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "requests/s")
}

// BenchmarkIdleMemory: resident memory of a cluster that has been set up, has run a flow, and does nothing.
func BenchmarkIdleMemory(b *testing.B) {
	n := testcluster.Network(b)
	var t demo.Trade
	if err := n.Alice.Run(b.Context(), rand.Text(), class, demo.Offer("ACME", 1, 100), &t); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(resident(b, n.Alice), "MiB-after-setup")
	restart(b, n.Alice)
	idle, cancel := context.WithTimeout(b.Context(), 5*time.Second)
	defer cancel()
	<-idle.Done()
	b.ReportMetric(resident(b, n.Alice), "MiB-idle")
}

func resident(b *testing.B, o *demo.Org) float64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", o.Process()))
	if err != nil {
		b.Skipf("resident memory is read from /proc: %v", err)
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

// BenchmarkStart: from the start of a cluster's process, in order and with its modules compiled before, to the first
// answered flow.
func BenchmarkStart(b *testing.B) {
	n := testcluster.Network(b)
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		if err := n.Alice.Stop(); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if err := n.Alice.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		var book []demo.Trade
		if err := n.Alice.Run(b.Context(), rand.Text(), demo.ListTrades, struct{}{}, &book); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	report(b, took)
}

func restart(b *testing.B, o *demo.Org) {
	if err := o.Stop(); err != nil {
		b.Fatal(err)
	}
	if err := o.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkWholeStep: a step of the embedded bus, 1 KiB in, 1 KiB out, 4 KiB of state, position and timer rows, synced.
func BenchmarkWholeStep(b *testing.B) {
	store, err := embedded.Open(embedded.Options{Dir: b.TempDir(), Topics: bustest.Definitions(), MemTable: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	bustest.BenchmarkSteps(b.Context(), b, store)
}
