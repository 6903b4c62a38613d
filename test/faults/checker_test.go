package faults

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/bustest/history"
)

// buggy is a driver that hands steps on in a way of its own. Publishers' steps finish nothing; the worker's do.
type buggy struct {
	bus.Driver
	submit func(next bus.Driver, step *bus.Step)
}

func (b *buggy) Submit(step *bus.Step) { b.submit(b.Driver, step) }

func published(step *bus.Step) bool { return len(step.Finish) == 0 && len(step.Appends) > 0 }

// silent is a copy of a step that answers nobody.
func silent(step *bus.Step) *bus.Step {
	other := *step
	other.Done = func(bus.Commit, error) {}
	return &other
}

// bugs are drivers with one bug each, and what must be found of it.
var bugs = []struct {
	name string
	make func() func(next bus.Driver, step *bus.Step)
	want history.Kind
}{
	{"a driver without a bug", func() func(bus.Driver, *bus.Step) {
		return func(next bus.Driver, step *bus.Step) { next.Submit(step) }
	}, ""},
	{"a commit is dropped", func() func(bus.Driver, *bus.Step) {
		var mu sync.Mutex
		n := 0
		return func(next bus.Driver, step *bus.Step) {
			mu.Lock()
			n++
			drop := n%7 == 0 && published(step)
			mu.Unlock()
			if drop {
				step.Done(bus.Commit{}, nil)
				return
			}
			next.Submit(step)
		}
	}, history.Lost},
	{"a step is acknowledged before it is written", func() func(bus.Driver, *bus.Step) {
		var mu sync.Mutex
		var late *bus.Step
		return func(next bus.Driver, step *bus.Step) {
			if !published(step) {
				next.Submit(step)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if late != nil {
				next.Submit(late)
			}
			late = silent(step)
			step.Done(bus.Commit{}, nil)
		}
	}, history.Lost},
	{"a step is committed twice", func() func(bus.Driver, *bus.Step) {
		return func(next bus.Driver, step *bus.Step) {
			next.Submit(step)
			if !published(step) {
				again := silent(step)
				again.Checks = nil
				next.Submit(again)
			}
		}
	}, history.Doubled},
	{"the finished place is not kept", func() func(bus.Driver, *bus.Step) {
		return func(next bus.Driver, step *bus.Step) {
			step.Finish = nil
			next.Submit(step)
		}
	}, history.Doubled},
	{"the versions of what was read are not checked", func() func(bus.Driver, *bus.Step) {
		return func(next bus.Driver, step *bus.Step) {
			step.Checks = nil
			next.Submit(step)
		}
	}, history.Uncounted},
	{"the records of a step change places", func() func(bus.Driver, *bus.Step) {
		return func(next bus.Driver, step *bus.Step) {
			slices.Reverse(step.Appends)
			next.Submit(step)
		}
	}, history.Disorder},
	{"a step keeps its records and loses its rows", func() func(bus.Driver, *bus.Step) {
		return func(next bus.Driver, step *bus.Step) {
			step.Writes = nil
			next.Submit(step)
		}
	}, history.Half},
}

// TestTheCheckerFindsSeededBugs proves that the suite can fail.
func TestTheCheckerFindsSeededBugs(t *testing.T) {
	t.Parallel()
	for _, bug := range bugs {
		t.Run(bug.name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewCrashableMem()
			h := runToTheEnd(t, fs, func(s bus.Driver) bus.Driver { return &buggy{s, bug.make()} })
			mustFind(t, h, bug.want)
		})
	}
}

// TestTheCheckerFindsADiskThatDoesNotSync has the driver as it is, which then acknowledges, and sends, before anything is
// safe.
func TestTheCheckerFindsADiskThatDoesNotSync(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	mustClose(t, mustOpen(t, fs)) // the store itself is there
	notes := newNotebook()
	s := mustOpen(t, lazy{fs})
	r := start(s, notes, load{keys: 4, pairs: 20}, nil)
	r.publishing.Wait()
	awaitEffects(notes)
	var left *vfs.MemFS
	notes.close(func() { left = fs.CrashClone(vfs.CrashCloneCfg{}) })
	r.stop()
	mustClose(t, s)
	after := mustOpen(t, left)
	defer mustClose(t, after)
	h := settle(t, after, notes.history)
	mustFind(t, h, history.Lost)
	mustFind(t, h, history.TakenBack)
}

// runToTheEnd publishes a fixed number of records through a driver, loses what was not synced, and settles on what is left.
func runToTheEnd(t *testing.T, fs *vfs.MemFS, wrap func(bus.Driver) bus.Driver) history.History {
	t.Helper()
	notes := newNotebook()
	s := mustOpen(t, fs)
	r := start(wrap(s), notes, load{keys: 4, pairs: 20}, nil)
	r.publishing.Wait()
	awaitEffects(notes)
	var left *vfs.MemFS
	notes.close(func() { left = fs.CrashClone(vfs.CrashCloneCfg{}) })
	r.stop()
	mustClose(t, s)
	after := mustOpen(t, left)
	defer mustClose(t, after)
	return settle(t, after, notes.history)
}

// awaitEffects waits until the worker has had work of its own.
func awaitEffects(notes *notebook) {
	const enough = 40
	for _, seen := notes.counts(); seen < enough; _, seen = notes.counts() {
		<-time.After(time.Millisecond)
	}
}

// mustFind fails the test unless the violation is found; with none wanted, none may be.
func mustFind(t *testing.T, h history.History, want history.Kind) {
	t.Helper()
	found := history.Check(h)
	if want == "" {
		mustHold(t, h)
		return
	}
	if !slices.ContainsFunc(found, func(v history.Violation) bool { return v.Kind == want }) {
		t.Errorf("%d violations were found, but not that %s", len(found), want)
	}
}

// lazy is a file system that does not sync write-ahead logs.
type lazy struct{ vfs.FS }

func (l lazy) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, category)
	return lazily(name, f), err
}

func (l lazy) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.ReuseForWrite(from, to, category)
	return lazily(to, f), err
}

func lazily(name string, f vfs.File) vfs.File {
	if strings.HasSuffix(name, ".log") {
		return unsynced{f}
	}
	return f
}

type unsynced struct{ vfs.File }

func (unsynced) Sync() error                { return nil }
func (unsynced) SyncData() error            { return nil }
func (unsynced) SyncTo(int64) (bool, error) { return true, nil }
