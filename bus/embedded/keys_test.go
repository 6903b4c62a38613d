package embedded

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/bus"
)

func TestRowsSortByKindKeyAndRow(t *testing.T) {
	t.Parallel()
	parts := []string{"", "\x00", "\x00\x00", "\x00\x01", "\x00\xff", "\x01", "a", "a\x00", "a\x00b", "b", "\xff"}
	for _, a := range parts {
		for _, b := range parts {
			first := rowKey(bus.RowKey{Kind: "k", Key: a, Row: "r"})
			second := rowKey(bus.RowKey{Kind: "k", Key: b, Row: ""})
			if a != b && bytes.Compare(first, second) != strings.Compare(a, b) {
				t.Errorf("keys %q and %q sort otherwise than their rows", a, b)
			}
		}
	}
}

func TestARangeHoldsItsRowsAndNoOthers(t *testing.T) {
	t.Parallel()
	in := func(r bus.Range, k bus.RowKey) bool {
		lower, upper := rangeBounds(r)
		key := rowKey(k)
		return bytes.Compare(key, lower) >= 0 && bytes.Compare(key, upper) < 0
	}
	for _, test := range []struct {
		r    bus.Range
		k    bus.RowKey
		want bool
	}{
		{bus.Range{Kind: "k", Key: "a"}, bus.RowKey{Kind: "k", Key: "a", Row: "x"}, true},
		{bus.Range{Kind: "k", Key: "a"}, bus.RowKey{Kind: "k", Key: "ab", Row: "x"}, false},
		{bus.Range{Kind: "k", Key: "a"}, bus.RowKey{Kind: "k", Key: "a\x00", Row: ""}, false},
		{bus.Range{Kind: "k", Key: "a", RowPrefix: "x"}, bus.RowKey{Kind: "k", Key: "a", Row: "xy"}, true},
		{bus.Range{Kind: "k", Key: "a", RowPrefix: "x"}, bus.RowKey{Kind: "k", Key: "a", Row: "y"}, false},
		{bus.Range{Kind: "k", Key: "a", AllKeys: true}, bus.RowKey{Kind: "k", Key: "ab", Row: ""}, true},
		{bus.Range{Kind: "k", AllKeys: true, From: "b"}, bus.RowKey{Kind: "k", Key: "ab", Row: ""}, false},
		{bus.Range{Kind: "k", AllKeys: true, From: "b"}, bus.RowKey{Kind: "k", Key: "b", Row: ""}, true},
		{bus.Range{Kind: "k", Key: "a", AllKeys: true, From: "b"}, bus.RowKey{Kind: "k", Key: "c", Row: ""}, false},
		{bus.Range{Kind: "k", AllKeys: true}, bus.RowKey{Kind: "k\x00", Key: "", Row: ""}, false},
		{bus.Range{Kind: "k", AllKeys: true}, bus.RowKey{Kind: "k", Key: "\xff\xff", Row: "\xff"}, true},
	} {
		if got := in(test.r, test.k); got != test.want {
			t.Errorf("%+v holds %q: %v, want %v", test.r, test.k, got, test.want)
		}
	}
}

func FuzzRowKey(f *testing.F) {
	f.Add("kind", "key\x00", "row")
	f.Fuzz(func(t *testing.T, kind, key, row string) {
		want := bus.RowKey{Kind: kind, Key: key, Row: row}
		if got, err := splitRowKey(rowKey(want)); err != nil || got != want {
			t.Errorf("%q comes back as %q, %v", want, got, err)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(make([]byte, 12))
	f.Fuzz(func(_ *testing.T, octets []byte) {
		_, _ = decodeRecord(octets) // must not panic
		_, _, _ = splitRow(octets)
		if len(octets) > 0 {
			_, _ = splitRowKey(octets)
		}
	})
}
