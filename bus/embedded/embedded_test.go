package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/bustest"
	"github.com/hawser-project/hawser/bus/embedded"
)

type disk struct{ dir string }

func (d disk) Open(t testing.TB) bus.Driver {
	t.Helper()
	s, err := embedded.Open(embedded.Options{Dir: d.dir, Topics: bustest.Definitions()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSuite is not parallel to others, for it measures memory.
func TestSuite(t *testing.T) {
	bustest.Run(t, func(t testing.TB) bustest.Harness { return disk{t.TempDir()} })
}

func TestAStoreIsHeldByOneProcess(t *testing.T) {
	t.Parallel()
	d := disk{t.TempDir()}
	s := d.Open(t)
	defer func() { _ = s.Close() }()
	if second, err := embedded.Open(embedded.Options{Dir: d.dir}); err == nil {
		_ = second.Close()
		t.Error("a second process opened the store")
	}
}

// TestWhatWasAcknowledgedSurvivesACrash publishes records and steps them from a seeded schedule, loses a random part of
// the writes that were not synced, and checks on what is left: every acknowledged record is there or was stepped, no step
// took effect twice or by half. Seeds can be given in HAWSER_CRASH_SEED, for one, and HAWSER_CRASH_SEEDS, for how many.
func TestWhatWasAcknowledgedSurvivesACrash(t *testing.T) {
	t.Parallel()
	first, count := uint64(1), 60
	if s := os.Getenv("HAWSER_CRASH_SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		count = 1
	}
	if s := os.Getenv("HAWSER_CRASH_SEEDS"); s != "" {
		count, _ = strconv.Atoi(s)
	}
	for seed := first; seed < first+uint64(count); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { crash(t, seed) })
		})
	}
}

func crash(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	fs := vfs.NewCrashableMem()
	acked := make(map[string]int)
	for range 1 + rng.IntN(3) {
		fs = bustest.CrashRound(t, rng, acked, func() (bus.Driver, error) {
			return embedded.Open(embedded.Options{Dir: "data", FS: fs, Topics: bustest.Definitions(), MemTable: 1 << 20})
		}, func() *vfs.MemFS {
			return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		})
	}
	bustest.CrashVerify(t, acked, func() (bus.Driver, error) {
		return embedded.Open(embedded.Options{Dir: "data", FS: fs, Topics: bustest.Definitions()})
	})
}

func BenchmarkPublish(b *testing.B) {
	for _, callers := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, err := embedded.Open(embedded.Options{Dir: b.TempDir(), Topics: bustest.Definitions()})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			value := make([]byte, 1024)
			work := make(chan struct{})
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for range work {
						done := make(chan error, 1)
						s.Submit(&bus.Step{
							Appends: []bus.Append{{Topic: "in", Key: "k", Value: value}},
							Done:    func(_ bus.Commit, err error) { done <- err },
						})
						if err := <-done; err != nil {
							panic(errors.Join(errors.New("benchmark"), err))
						}
					}
				})
			}
			start := time.Now()
			b.ResetTimer()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "records/s")
		})
	}
}

func BenchmarkSlowKey(b *testing.B) { bustest.BenchmarkSlowKey(b, disk{b.TempDir()}) }

func BenchmarkWholeStep(b *testing.B) {
	s, err := embedded.Open(embedded.Options{Dir: b.TempDir(), Topics: bustest.Definitions(), MemTable: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	bustest.BenchmarkSteps(context.Background(), b, s)
}
