package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/embedded"
)

const (
	benchMemTable = 32 << 20
	benchRecord   = 1024
)

// BenchmarkPublishBesideRawPebble measures records of 1 KiB that are acknowledged after their fsync, on the driver and on the
// bare database below it, in turns. The budget: with one caller the driver's p50 is at most 1.5 times Pebble's, with 256
// its rate at least 0.6 times.
func BenchmarkPublishBesideRawPebble(b *testing.B) {
	for _, callers := range []int{1, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			raw, stopRaw := rawPebble(b)
			defer stopRaw()
			driver, stopDriver := driverAppend(b)
			defer stopDriver()
			const turns = 4
			each := max(b.N/turns, callers)
			var rawTimes, times []time.Duration
			var rawTook, took time.Duration
			b.ResetTimer()
			for range turns {
				list, d := measure(callers, each, raw)
				rawTimes, rawTook = append(rawTimes, list...), rawTook+d
				list, d = measure(callers, each, driver)
				times, took = append(times, list...), took+d
			}
			b.ReportMetric(float64(len(times))/took.Seconds(), "records/s")
			b.ReportMetric(float64(rawTook)/float64(took), "rate/raw")
			b.ReportMetric(float64(median(times).Microseconds()), "p50-us")
			b.ReportMetric(float64(median(times))/float64(median(rawTimes)), "p50/raw")
		})
	}
}

func rawPebble(b *testing.B) (write func(caller, n int), stop func()) {
	b.Helper()
	db, err := pebble.Open(filepath.Join(b.TempDir(), "raw"), &pebble.Options{
		MemTableSize: benchMemTable, MemTableStopWritesThreshold: 4, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{},
	})
	if err != nil {
		b.Fatal(err)
	}
	value := make([]byte, benchRecord)
	return func(caller, n int) {
			if err := db.Set(fmt.Appendf(nil, "%08d-%012d", n, caller), value, pebble.Sync); err != nil {
				panic(err)
			}
		}, func() {
			if err := db.Close(); err != nil {
				b.Error(err)
			}
		}
}

func driverAppend(b *testing.B) (write func(caller, n int), stop func()) {
	b.Helper()
	s := openReal(b, b.TempDir())
	value := make([]byte, benchRecord)
	return func(int, int) { appendRaw(s, value) }, func() { mustClose(b, s) }
}

func openReal(b *testing.B, dir string) *embedded.Store {
	b.Helper()
	s, err := embedded.Open(embedded.Options{Dir: dir, Topics: definitions(), MemTable: benchMemTable})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func appendRaw(s *embedded.Store, value []byte) {
	done := make(chan error, 1)
	s.Submit(&bus.Step{
		Appends: []bus.Append{{Topic: records.Name, Key: "k", Value: value}},
		Done:    func(_ bus.Commit, err error) { done <- err },
	})
	if err := <-done; err != nil {
		panic(err)
	}
}

// measure runs count writes from some callers, and returns how long each took, and all.
func measure(callers, count int, write func(caller, n int)) ([]time.Duration, time.Duration) {
	times := make([][]time.Duration, callers)
	var wg sync.WaitGroup
	start := time.Now()
	for c := range callers {
		wg.Go(func() {
			for n := range count / callers {
				begun := time.Now()
				write(c, n)
				times[c] = append(times[c], time.Since(begun))
			}
		})
	}
	wg.Wait()
	return slices.Concat(times...), time.Since(start)
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// BenchmarkOpen opens a store with HAWSER_OPEN_MB megabytes in it (1024 is what the budget is for: 1 s and 200 MiB), and says
// how much memory the process has by then, which is an upper bound: it has written the store too.
func BenchmarkOpen(b *testing.B) {
	size := fromEnvironment(b, "HAWSER_OPEN_MB", 16)
	dir := b.TempDir()
	s := openReal(b, dir)
	value := make([]byte, 64<<10)
	rng := newFill(size)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				n, more := rng.next()
				if !more {
					return
				}
				own := slices.Clone(value)
				for i := range own { // does not compress
					n = n*6364136223846793005 + 1442695040888963407
					own[i] = byte(n >> 56)
				}
				appendRaw(s, own)
			}
		})
	}
	wg.Wait()
	mustClose(b, s)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		s := openReal(b, dir)
		b.StopTimer()
		mustClose(b, s)
		b.StartTimer()
	}
	b.StopTimer()
	runtime.ReadMemStats(&after)
	b.ReportMetric(residentMiB(b), "MiB-resident")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/(1<<20), "MiB-allocated/op")
}

// fill hands out as many numbers as 64 KiB values make some megabytes.
type fill struct {
	mu   sync.Mutex
	left int
}

func newFill(megabytes int) *fill { return &fill{left: megabytes << 20 / (64 << 10)} }

func (f *fill) next() (n uint64, more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left--
	return uint64(f.left), f.left >= 0
}

// residentMiB is the memory of this process that the kernel holds, on Linux; 0 elsewhere.
func residentMiB(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var total, resident float64
	if _, err := fmt.Sscan(string(text), &total, &resident); err != nil {
		b.Fatal(err)
	}
	return resident * float64(os.Getpagesize()) / (1 << 20)
}
