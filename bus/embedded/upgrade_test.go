package embedded

import (
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hawser-project/hawser/bus"
)

// TestAStoreOfTheFirstFormatIsBroughtUp makes a store as the first format had it: without partitions in the bus's own kinds.
func TestAStoreOfTheFirstFormatIsBroughtUp(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	open := func() *Store {
		s, err := Open(Options{Dir: "data", FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	for _, kind := range []string{"_timer:flow", "_held:flow", "_expiry:flow", "_timerset:flow", "flow.runs"} {
		if err := s.db.Set(rowKey(bus.RowKey{Kind: kind, Key: "k\x00", Row: "r"}), joinRow(7, []byte(kind)), pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.Set(metaKey("format"), encodeUint(1), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and once is enough
		s = open()
		for kind, was := range map[string]string{
			"_timer:flow/0": "_timer:flow", "_held:flow/0": "_held:flow", "_expiry:flow/0": "_expiry:flow", "_timerset:flow": "_timerset:flow",
			"flow.runs": "flow.runs", "_timer:flow": "", "_timer:flow/0/0": "",
		} {
			value, _, err := s.Get(t.Context(), bus.RowKey{Kind: kind, Key: "k\x00", Row: "r"})
			if err != nil || string(value) != was {
				t.Errorf("kind %s: got %q, %v; want %q", kind, value, err, was)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
