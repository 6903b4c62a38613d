package faults

import (
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/embedded"
)

// faulty is a disk that fails operations of some kinds while it is told to.
type faulty struct {
	vfs.FS
	on atomic.Bool
}

func newFaulty(fs vfs.FS, err error, hits func(errorfs.Op) bool) *faulty {
	f := new(faulty)
	f.FS = errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f.on.Load() && hits(op) {
			return err
		}
		return nil
	}))
	return f
}

func anySync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}

// needsSpace says whether an operation takes room on the disk.
func needsSpace(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFilePreallocate, errorfs.OpReuseForWrite, errorfs.OpMkdirAll, errorfs.OpLink:
		return true
	default:
		return false
	}
}

// ending stands in for the end of the process: who comes to it goes no further.
type ending struct {
	once  sync.Once
	cause error
	came  chan struct{}
}

func newEnding() *ending { return &ending{came: make(chan struct{})} }

func (e *ending) fatal(err error) {
	e.once.Do(func() {
		e.cause = err
		close(e.came)
	})
	select {}
}

func (e *ending) await(t *testing.T) {
	t.Helper()
	select {
	case <-e.came:
	case <-time.After(20 * time.Second):
		t.Fatal("the disk failed and the process did not end")
	}
}

func TestAFaultOfTheDiskEndsTheProcessAndLosesNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		err  error
		hits func(errorfs.Op) bool
		// total faults leave nothing with which a store could be opened.
		total bool
	}{
		{"an fsync of the log fails", syscall.EIO, func(op errorfs.Op) bool { return anySync(op) && strings.HasSuffix(op.Path, ".log") }, false},
		{"every fsync fails", syscall.EIO, anySync, true},
		{"a write to the log fails", syscall.EIO, func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".log")
		}, false},
		{"the disk is full", syscall.ENOSPC, needsSpace, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			disk := vfs.NewCrashableMem()
			fs := newFaulty(disk, test.err, test.hits)
			end, notes := newEnding(), newNotebook()
			s, err := openOn(fs, end.fatal)
			if err != nil {
				t.Fatal(err)
			}
			start(s, notes, load{keys: 4, fill: 500}, nil)
			awaitAcks(notes, 100)
			fs.on.Store(true)
			end.await(t)
			if !strings.Contains(end.cause.Error(), test.err.Error()) {
				t.Errorf("the process ended with %q, which does not say that it was %q", end.cause, test.err)
			}
			mustBeSilent(t, s)
			var left *vfs.MemFS
			notes.close(func() { left = disk.CrashClone(vfs.CrashCloneCfg{}) })

			if test.total {
				still := newFaulty(left, test.err, test.hits)
				still.on.Store(true)
				mustNotOpen(t, still)
			}
			after := mustOpen(t, left) // the disk is well again
			defer mustClose(t, after)
			mustHold(t, settle(t, after, notes.history))
		})
	}
}

func awaitAcks(notes *notebook, want int) {
	before, _ := notes.counts()
	for now := before; now < before+want; now, _ = notes.counts() {
		<-time.After(time.Millisecond)
	}
}

// mustBeSilent fails the test if a store acknowledges anything after its end.
func mustBeSilent(t *testing.T, s *embedded.Store) {
	t.Helper()
	answered := make(chan struct{}, 1)
	go s.Submit(&bus.Step{
		Appends: []bus.Append{{Topic: records.Name, Key: "late", Value: []byte{0xa0}}},
		Done:    func(bus.Commit, error) { answered <- struct{}{} },
	})
	select {
	case <-answered:
		t.Error("a step was answered after the end")
	case <-time.After(100 * time.Millisecond):
	}
}

// mustNotOpen opens a store while the disk still fails: it is refused.
func mustNotOpen(t *testing.T, fs vfs.FS) {
	t.Helper()
	end := newEnding()
	refused := make(chan error, 1)
	go func() {
		_, err := openOn(fs, end.fatal)
		refused <- err
	}()
	select {
	case err := <-refused:
		if err == nil {
			t.Error("the store opened on a disk that fails")
		}
	case <-end.came:
		t.Error("the process ended instead of refusing the store")
	case <-time.After(20 * time.Second):
		t.Error("opening on a disk that fails does not end")
	}
}

// TestAStoreWaitsOutADiskThatTakesNoTables fails everything but the log for a while: what is in the log is safe, and so the
// store goes on.
func TestAStoreWaitsOutADiskThatTakesNoTables(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	fs := newFaulty(disk, syscall.ENOSPC, func(op errorfs.Op) bool { return needsSpace(op) && strings.HasSuffix(op.Path, ".sst") })
	notes := newNotebook()
	s := mustOpen(t, fs)
	r := start(s, notes, load{keys: 4, fill: 4000}, nil)
	fs.on.Store(true)
	awaitAcks(notes, 400) // more than a memtable
	fs.on.Store(false)
	awaitAcks(notes, 400)
	var left *vfs.MemFS
	notes.close(func() { left = disk.CrashClone(vfs.CrashCloneCfg{}) })
	r.stop()
	mustClose(t, s)
	after := mustOpen(t, left)
	defer mustClose(t, after)
	mustHold(t, settle(t, after, notes.history))
}
