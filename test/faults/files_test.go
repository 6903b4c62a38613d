package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/bustest"
	"github.com/hawser-project/hawser/bus/embedded"
)

const storePath = "data/store"

// appendRecords adds numbered records to a store, one step each, and returns when they are durable.
func appendRecords(t *testing.T, s *embedded.Store, from, count, size int) {
	t.Helper()
	for n := from; n < from+count; n++ {
		value, err := bus.Encode(numbered{N: n, Fill: make([]byte, size)})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		s.Submit(&bus.Step{
			Appends: []bus.Append{{Topic: records.Name, Key: "k", Value: value}},
			Done:    func(_ bus.Commit, err error) { done <- err },
		})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// numbers returns the numbers of the records in a store, in their order.
func numbers(s *embedded.Store) (list []int, err error) {
	found, err := bustest.ReadAll(context.Background(), s, records.Definition())
	if err != nil {
		return nil, err
	}
	for _, r := range found {
		var v numbered
		if err := bus.Decode(r.Value, &v); err != nil {
			return list, err
		}
		list = append(list, v.N)
	}
	return list, nil
}

// filesOf returns the paths of the files of a store whose names match, in order of their names.
func filesOf(t *testing.T, fs vfs.FS, match func(name string) bool) (paths []string) {
	t.Helper()
	names, err := fs.List(storePath)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		if match(name) {
			paths = append(paths, fs.PathJoin(storePath, name))
		}
	}
	return paths
}

func read(t *testing.T, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	octets, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return octets
}

// replace gives a file other content.
func replace(t *testing.T, fs vfs.FS, path string, octets []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(slices.Clone(octets)) // with the race detector on, Write changes the buffer it is given
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// whole copies a disk as it is, with what was not synced.
func whole(fs *vfs.MemFS) *vfs.MemFS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// TestALogThatWasCutOffHoldsAPrefix cuts the last log off at lengths near its ends and at others between; at all of them with
// HAWSER_CUTS=all.
func TestALogThatWasCutOffHoldsAPrefix(t *testing.T) {
	t.Parallel()
	const count = 60
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, fs)
	appendRecords(t, s, 1, count, 40)
	image := whole(fs)
	mustClose(t, s)
	logs := filesOf(t, image, func(name string) bool { return strings.HasSuffix(name, ".log") })
	last := logs[len(logs)-1]
	octets := read(t, image, last)
	used := len(strings.TrimRight(string(octets), "\x00"))

	before := 0
	for length := 0; length <= used; length++ {
		if all := os.Getenv("HAWSER_CUTS") == "all"; !all && length%37 != 0 && length < used-40 {
			continue
		}
		cut := whole(image)
		replace(t, cut, last, octets[:length])
		n := afterCut(t, cut, length)
		if n < before {
			t.Fatalf("cut off at %d: %d records are left, at a smaller length there were %d", length, n, before)
		}
		before = n
	}
	if before != count {
		t.Errorf("the whole log holds %d records, want %d", before, count)
	}
}

// afterCut opens a store, checks that it holds the first records, adds one, and returns how many there were.
func afterCut(t *testing.T, fs *vfs.MemFS, length int) int {
	t.Helper()
	s, err := openOn(fs, nil)
	if err != nil {
		t.Fatalf("cut off at %d: %v", length, err)
	}
	found, err := numbers(s)
	if err != nil {
		t.Fatalf("cut off at %d: %v", length, err)
	}
	appendRecords(t, s, len(found)+1, 1, 40)
	mustClose(t, s)
	s = mustOpen(t, fs)
	defer mustClose(t, s)
	again, err := numbers(s)
	if err != nil || len(again) != len(found)+1 {
		t.Fatalf("cut off at %d: %d records and one more are %d, %v", length, len(found), len(again), err)
	}
	for i, n := range again {
		if n != i+1 {
			t.Fatalf("cut off at %d: record %d has number %d", length, i+1, n)
		}
	}
	return len(found)
}

// TestADamagedStoreSaysSo flips octets of each kind of file. The store may be as it was (the octet was of no use), refuse to
// open, or end the process when it comes to the damage; then it says what to do. It never gives what was not written.
func TestADamagedStoreSaysSo(t *testing.T) {
	t.Parallel()
	const count = 600
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, fs)
	appendRecords(t, s, 1, count, 4000)
	mustClose(t, s)
	mustClose(t, mustOpen(t, fs)) // the log becomes tables
	for _, kind := range []struct {
		name  string
		match func(string) bool
		most  int // of the damages, at least one must be noticed
	}{
		{"a table", func(name string) bool { return strings.HasSuffix(name, ".sst") }, 8},
		{"the manifest", func(name string) bool { return strings.HasPrefix(name, "MANIFEST") }, 8},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			noticed := 0
			for _, path := range filesOf(t, fs, kind.match) {
				octets := read(t, fs, path)
				for i := range kind.most {
					damaged := whole(fs)
					other := slices.Clone(octets)
					other[i*len(other)/kind.most] ^= 0x55
					replace(t, damaged, path, other)
					if useDamaged(t, damaged, count) {
						noticed++
					}
				}
			}
			if noticed == 0 {
				t.Error("no damage was noticed")
			}
		})
	}
}

// useDamaged opens and reads a store, and says whether the damage was noticed.
func useDamaged(t *testing.T, fs vfs.FS, count int) (noticed bool) {
	t.Helper()
	end := newEnding()
	type outcome struct {
		found []int
		err   error
	}
	came := make(chan outcome, 1)
	go func() {
		s, err := openOn(fs, end.fatal)
		if err != nil {
			came <- outcome{err: err}
			return
		}
		found, err := numbers(s)
		came <- outcome{found, errors.Join(err, s.Close())}
	}()
	var o outcome
	select {
	case o = <-came:
	case <-end.came:
		o.err = end.cause
	}
	if o.err == nil && len(o.found) != count {
		t.Errorf("a damaged store gives %d records without a word, of %d", len(o.found), count)
	}
	if o.err != nil && !strings.Contains(o.err.Error(), "restore a backup") {
		t.Errorf("the error does not say what to do: %v", o.err)
	}
	return o.err != nil
}

func TestAStoreOfALaterReleaseIsRefused(t *testing.T) {
	t.Parallel()
	t.Run("of a later layout", func(t *testing.T) {
		t.Parallel()
		fs := vfs.NewCrashableMem()
		mustClose(t, mustOpen(t, fs))
		db, err := pebble.Open(storePath, &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
		if err != nil {
			t.Fatal(err)
		}
		later := []byte{0, 0, 0, 0, 0, 0, 0, 99}
		if err := errors.Join(db.Set([]byte("mformat"), later, pebble.Sync), db.Close()); err != nil {
			t.Fatal(err)
		}
		mustSay(t, fs, "later release")
	})
	t.Run("of a later database", func(t *testing.T) {
		t.Parallel()
		fs := vfs.NewCrashableMem()
		mustClose(t, mustOpen(t, fs))
		marker := filesOf(t, fs, func(name string) bool { return strings.HasPrefix(name, "marker.format-version") })[0]
		if err := fs.Rename(marker, fmt.Sprintf("%s/marker.format-version.999999.999", storePath)); err != nil {
			t.Fatal(err)
		}
		mustSay(t, fs, "later release")
	})
}

type quiet struct{}

func (quiet) Infof(string, ...any)         {}
func (quiet) Errorf(string, ...any)        {}
func (quiet) Fatalf(text string, _ ...any) { panic(text) }

func TestAStoreIsHeldByOneProcess(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, fs)
	mustSay(t, fs, "in use by another process")
	mustClose(t, s)
	mustClose(t, mustOpen(t, fs))
}

func mustSay(t *testing.T, fs vfs.FS, want string) {
	t.Helper()
	if _, err := openOn(fs, nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an error that says %q", err, want)
	}
}
