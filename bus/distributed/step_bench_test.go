package distributed

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/bus"
)

var (
	benchIn    = bus.Topic[[]byte]{Name: "in", Writers: []bus.Role{"b"}, Readers: []bus.Role{"a"}}
	benchOut   = bus.Topic[[]byte]{Name: "out", Writers: []bus.Role{"a"}, Readers: []bus.Role{"b"}}
	benchState = bus.State[[]byte]{Name: "a.sums", Owner: "a"}
)

const benchKeys = 256

// benchCluster is a worker of whole steps, 1 KiB in, 1 KiB out, 4 KiB of state that is read and written, and what watches
// the outcome.
type benchCluster struct {
	*cluster
	d    *Driver
	bus  *bus.Bus
	seen func(key string) // of each record on the topic out
}

func newBench(b *testing.B, lease time.Duration) (*benchCluster, *prometheus.Registry) {
	registry := prometheus.NewRegistry()
	c := &benchCluster{cluster: setupCluster(b, func(o *Options) {
		o.Lease, o.Heartbeat, o.Postgres.Pool, o.Metrics, o.Log = lease, lease/5, 20, registry, slog.New(slog.DiscardHandler)
	})}
	c.d = c.open(b, "bench")
	c.bus = bus.New(c.d, bus.Options{Log: slog.New(slog.DiscardHandler)})
	return c, registry
}

// work runs the worker until stop, and tells seen of every effect.
func (c *benchCluster) work(b *testing.B) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := c.bus.As("a").Consumer()
	record, state := make([]byte, 1024), make([]byte, 4096)
	benchIn.Handle(w, func(_ context.Context, tx *bus.Tx, key string, _ []byte) error {
		if _, _, err := benchState.Get(tx, key, ""); err != nil {
			return err
		}
		benchState.Put(tx, key, "", state)
		benchOut.Send(tx, key, record)
		return nil
	})
	var running sync.WaitGroup
	ready := make(chan struct{})
	running.Go(func() {
		if err := w.Run(ctx, func() { close(ready) }); err != nil {
			b.Error(err)
		}
	})
	for p := range c.d.partitions {
		running.Go(func() {
			cursor, err := c.d.Read(ctx, bus.ReadFrom{Topic: "out", Partition: p})
			if err != nil {
				return
			}
			defer cursor.Close()
			for {
				records, err := cursor.Next(ctx)
				if err != nil {
					return
				}
				for _, r := range records {
					c.seen(r.Key)
				}
			}
		})
	}
	<-ready
	return func() { cancel(); running.Wait() }
}

func (c *benchCluster) publish(b *testing.B, key string, records int) {
	list := make([]bus.Keyed[[]byte], records)
	for i := range list {
		list[i] = bus.Keyed[[]byte]{Key: key, Value: make([]byte, 1024)}
	}
	if _, err := benchIn.Publish(context.Background(), c.bus.As("b"), list...); err != nil {
		b.Error(err)
	}
}

// BenchmarkWholeSteps works off records that are there already, and compares with a bare loop that does the same statements
// in the same batches on the same PostgreSQL, in the same run. What is on top of it is Kafka, which shares the machine's
// processors here, and the bus.
func BenchmarkWholeSteps(b *testing.B) {
	c, registry := newBench(b, 5*time.Second)
	var got atomic.Int64
	all := make(chan struct{})
	c.seen = func(string) {
		if got.Add(1) == int64(b.N) {
			close(all)
		}
	}
	var publishing sync.WaitGroup
	each := (b.N + benchKeys - 1) / benchKeys
	for k := range benchKeys {
		publishing.Go(func() { c.publish(b, fmt.Sprintf("k%d", k), max(0, min(each, b.N-k*each))) })
	}
	publishing.Wait()
	b.ResetTimer()
	start := time.Now()
	stop := c.work(b)
	<-all
	ours := float64(b.N) / time.Since(start).Seconds()
	b.StopTimer()
	stop()
	batch := meanBatch(b, registry)
	bare := c.bare(b, b.N, max(1, int(batch+0.5)))
	b.ReportMetric(ours, "steps/s")
	b.ReportMetric(bare, "bare-steps/s")
	b.ReportMetric(ours/bare, "of-bare")
	b.ReportMetric(batch, "steps/commit")
}

// meanBatch is how many steps a transaction had.
func meanBatch(b *testing.B, registry *prometheus.Registry) float64 {
	families, err := registry.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "hawser_bus_commit_steps" {
			for _, m := range f.GetMetric() {
				if h := m.GetHistogram(); m.GetLabel()[0].GetValue() == "a" {
					return h.GetSampleSum() / float64(h.GetSampleCount())
				}
			}
		}
	}
	b.Fatal("no metric of batches")
	return 0
}

// bare does what the steps do in PostgreSQL, and nothing else: each partition in a loop of its own reads the rows of a batch,
// as so many handlers at once would, and commits it.
func (c *benchCluster) bare(b *testing.B, steps, batch int) float64 {
	value := make([]byte, 4096)
	records := make([]outRecord, batch)
	for i := range records {
		records[i] = outRecord{topic: "out", key: "k000", value: make([]byte, 1024), time: time.Now()}
	}
	outbox := encodeOutbox(records)
	d := c.d
	if _, err := d.pool.Exec(context.Background(), d.schemas.sql(`update @role@.partition set epoch = 1, commits = 0`, "a")); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	var loops sync.WaitGroup
	var done atomic.Int64
	for p := range d.partitions {
		loops.Go(func() {
			next := int64(1 << 40)
			for commits := int64(0); done.Add(int64(batch)) <= int64(steps); commits++ {
				kinds, keys, rows, values := make([]string, batch), make([][]byte, batch), make([][]byte, batch), make([][]byte, batch)
				var reading sync.WaitGroup
				for i := range batch {
					kinds[i], keys[i], rows[i], values[i] = "bare", fmt.Appendf(nil, "p%d-%d", p, i%benchKeys), fmt.Appendf(nil, "%d", i/benchKeys), value
					reading.Go(func() {
						var v []byte
						var version int64
						err := d.pool.QueryRow(context.Background(), d.schemas.sql(sqlGet, "a"), kinds[i], keys[i], rows[i]).Scan(&v, &version)
						if err != nil && err != pgx.ErrNoRows {
							b.Error(err)
						}
					})
				}
				reading.Wait()
				q := new(pgx.Batch)
				q.Queue(d.schemas.sql(sqlAdvance, "a"), p, int64(1), commits, int64(7), next+int64(batch), []byte("positions of some octets"))
				q.Queue(d.schemas.sql(sqlUpsert, "a"), kinds, keys, rows, values)
				q.Queue(d.schemas.sql(sqlSend, "a"), p, next, next+int64(batch)-1, int64(1), outbox)
				q.Queue(d.schemas.sql(sqlSent, "a"), p, next-1)
				if err := d.pool.SendBatch(context.Background(), q).Close(); err != nil {
					b.Error(err)
					return
				}
				next += int64(batch)
			}
		})
	}
	loops.Wait()
	return float64(steps) / time.Since(start).Seconds()
}

// BenchmarkLatency publishes at a steady rate: when a record is acknowledged, and when the effect of its step can be read.
// Half load is about half of what BenchmarkWholeSteps gives on two processors.
func BenchmarkLatency(b *testing.B) {
	for name, rate := range map[string]int{"idle": 20, "half-load": 1500} {
		b.Run(name, func(b *testing.B) {
			c, _ := newBench(b, 5*time.Second)
			var mu sync.Mutex
			sent := make(map[string]time.Time)
			var acked, stepped []time.Duration
			warm := 0
			c.seen = func(key string) {
				mu.Lock()
				defer mu.Unlock()
				warm++
				if begun, timed := sent[key]; timed {
					stepped = append(stepped, time.Since(begun))
				}
			}
			stop := c.work(b)
			const first = 64 // a cursor that was just made waits a while for its first record
			for i := range first {
				c.publish(b, fmt.Sprintf("warm-up %d", i), 1)
			}
			for ready := false; !ready; {
				<-time.After(time.Millisecond)
				mu.Lock()
				ready = warm >= first
				mu.Unlock()
			}
			tick := time.NewTicker(time.Second / time.Duration(rate))
			defer tick.Stop()
			var publishing sync.WaitGroup
			b.ResetTimer()
			for i := range b.N {
				<-tick.C
				publishing.Go(func() {
					key := fmt.Sprintf("n%d", i)
					start := time.Now()
					mu.Lock()
					sent[key] = start
					mu.Unlock()
					c.publish(b, key, 1)
					mu.Lock()
					defer mu.Unlock()
					acked = append(acked, time.Since(start))
				})
			}
			publishing.Wait()
			for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
				mu.Lock()
				n := len(stepped)
				mu.Unlock()
				if n >= b.N {
					break
				}
				<-time.After(time.Millisecond)
			}
			b.StopTimer()
			stop()
			for of, list := range map[string][]time.Duration{"ack": acked, "step": stepped} {
				slices.Sort(list)
				for q, at := range map[string]int{"p50": len(list) / 2, "p99": len(list) * 99 / 100} {
					b.ReportMetric(float64(list[at].Microseconds())/1000, strings.Join([]string{of, q, "ms"}, "-"))
				}
			}
		})
	}
}

// BenchmarkPublish publishes 1 KiB records, each acknowledged by Kafka, from one caller and from many.
func BenchmarkPublish(b *testing.B) {
	for _, callers := range []int{1, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			c, _ := newBench(b, 5*time.Second)
			var took []time.Duration
			var mu sync.Mutex
			work := make(chan int)
			var done sync.WaitGroup
			for range callers {
				done.Go(func() {
					for i := range work {
						start := time.Now()
						c.publish(b, fmt.Sprint(i%benchKeys), 1)
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
