package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/embedded"
)

// fromEnvironment returns a number that longer runs set.
func fromEnvironment(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// openOn opens a store on a file system. fatal may be nil: the test process then ends at a fault of the disk.
func openOn(fs vfs.FS, fatal func(error)) (*embedded.Store, error) {
	return embedded.Open(embedded.Options{Dir: "data", FS: fs, Topics: definitions(), MemTable: 1 << 20, Fatal: fatal})
}

func mustOpen(t testing.TB, fs vfs.FS) *embedded.Store {
	t.Helper()
	s, err := openOn(fs, nil)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

// TestWhatWasAcknowledgedSurvivesALossOfPower loses power between two seeded operations on files, and with it a random part
// of what was not synced.
func TestWhatWasAcknowledgedSurvivesALossOfPower(t *testing.T) {
	t.Parallel()
	first, count := 1, fromEnvironment(t, "HAWSER_CRASH_SEEDS", 40)
	if seed := fromEnvironment(t, "HAWSER_CRASH_SEED", 0); seed != 0 {
		first, count = seed, 1
	}
	acked, crashes := 0, 0
	for seed := first; seed < first+count && !t.Failed(); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			a, c := losePower(t, uint64(seed))
			acked, crashes = acked+a, crashes+c
		})
	}
	t.Logf("%d seeds, %d losses of power, %d records acknowledged", count, crashes, acked)
}

// losePower runs a workload over up to four losses of power, and returns how many records were acknowledged and how many
// losses there were.
func losePower(t *testing.T, seed uint64) (acked, crashes int) {
	rng := rand.New(rand.NewPCG(seed, 7))
	fs := vfs.NewCrashableMem()
	notes := newNotebook()
	for range 1 + rng.IntN(4) {
		fs = untilPowerIsLost(t, rng, fs, notes)
		crashes++
	}
	s := mustOpen(t, fs)
	defer mustClose(t, s)
	mustHold(t, settle(t, s, notes.history))
	return len(notes.history.Acked), crashes
}

// untilPowerIsLost runs a workload until a random operation on a file, and returns what the disk has then.
func untilPowerIsLost(t *testing.T, rng *rand.Rand, fs *vfs.MemFS, notes *notebook) (left *vfs.MemFS) {
	t.Helper()
	crashAt, kept := int64(1+rng.IntN(250)), rng.IntN(101)
	image := rand.New(rand.NewPCG(rng.Uint64(), 7))
	l := load{keys: 1 + rng.IntN(8), fill: rng.IntN(3) * 500}
	lost := make(chan struct{})
	var operations atomic.Int64
	failing := errorfs.Wrap(fs, errorfs.InjectorFunc(func(errorfs.Op) error {
		if operations.Add(1) == crashAt {
			notes.close(func() { left = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: image}) })
			close(lost)
		}
		return nil
	}))
	notes.open()
	s := mustOpen(t, failing)
	r := start(s, notes, l, notes.sentOf())
	<-lost
	r.stop()
	mustClose(t, s)
	return left
}

func mustClose(t testing.TB, d bus.Driver) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
