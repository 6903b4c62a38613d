package faults

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/bustest/history"
	"github.com/hawser-project/hawser/bus/embedded"
)

// TestACopyOfARunningStoreIsOneMomentOfIt copies a store under load: what was acknowledged before is in the copy, with what
// belongs to it, and a kind of state that is stripped is in none of its octets.
func TestACopyOfARunningStoreIsOneMomentOfIt(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	s, err := embedded.Open(embedded.Options{Dir: from, Topics: definitions(), MemTable: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	private := []byte("private" + rand.Text())
	putRow(t, s, bus.RowKey{Kind: "sessions", Key: "a", Row: "b"}, private)
	blob, err := s.PutBlob(t.Context(), strings.NewReader("a blob"), 100)
	if err != nil {
		t.Fatal(err)
	}
	notes := newNotebook()
	r := start(s, notes, load{keys: 8, fill: 500}, nil)
	awaitAcks(notes, 500)
	var before history.History
	notes.write(func(h *history.History) {
		before = history.History{Acked: slices.Clone(h.Acked), Seen: slices.Clone(h.Seen)}
	})
	if err := s.Copy(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	awaitAcks(notes, 100) // the store goes on
	r.stop()
	before.Sent = notes.sentOf()
	mustClose(t, s)

	if err := embedded.Strip(t.Context(), to, func(err error) { panic(err) }, "sessions"); err != nil {
		t.Fatal(err)
	}
	mustNotContain(t, to, private)
	after, err := embedded.Open(embedded.Options{Dir: to, Topics: definitions()})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, after)
	mustHold(t, settle(t, after, before))
	if b, err := after.OpenBlob(t.Context(), blob.ID); err != nil {
		t.Errorf("the blob is not in the copy: %v", err)
	} else {
		_ = b.Close()
	}
}

func putRow(t *testing.T, s *embedded.Store, key bus.RowKey, value []byte) {
	t.Helper()
	done := make(chan error, 1)
	s.Submit(&bus.Step{Writes: []bus.Write{{RowKey: key, Value: value}}, Done: func(_ bus.Commit, err error) { done <- err }})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func mustNotContain(t *testing.T, dir string, octets []byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, octets) {
			t.Errorf("%s holds what was to be left out", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
