package avro

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestNumbersAreZigZagVarints(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		n    int64
		want string
	}{
		{0, "00"}, {-1, "01"}, {1, "02"}, {-2, "03"}, {2, "04"}, {-64, "7f"}, {64, "8001"},
		{1700000000000, "80a0abfef962"},
		{math.MaxInt64, "feffffffffffffffff01"}, {math.MinInt64, "ffffffffffffffffff01"},
	} {
		if got := hex.EncodeToString(AppendLong(nil, test.n)); got != test.want {
			t.Errorf("%d: got %s, want %s", test.n, got, test.want)
		}
		r := NewReader(unhex(t, test.want))
		if got := r.Long(); got != test.n || r.Err() != nil {
			t.Errorf("%s: got %d, %v, want %d", test.want, got, r.Err(), test.n)
		}
	}
}

func TestReaderRefusesWhatNoWriterWrites(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		about, octets string
		read          func(*Reader)
		want          error
	}{
		{"nothing", "", func(r *Reader) { r.Long() }, ErrTruncated},
		{"open number", "8080", func(r *Reader) { r.Long() }, ErrTruncated},
		{"number of 65 bits", "ffffffffffffffffff02", func(r *Reader) { r.Long() }, ErrMalformed},
		{"number of eleven octets", "8080808080808080808000", func(r *Reader) { r.Long() }, ErrMalformed},
		{"int of 33 bits", "8080808020", func(r *Reader) { r.Int() }, ErrMalformed},
		{"branch beyond the union", "04", func(r *Reader) { r.Index(2) }, ErrMalformed},
		{"negative branch", "01", func(r *Reader) { r.Index(2) }, ErrMalformed},
		{"negative length", "01", func(r *Reader) { r.Bytes() }, ErrMalformed},
		{"length beyond the input", "0461", func(r *Reader) { r.Bytes() }, ErrTruncated},
		{"length beyond the bound", hex.EncodeToString(AppendLong(nil, MaxField+1)), func(r *Reader) { r.Bytes() }, ErrTooLarge},
		{"length beyond int", "feffffffffffffffff01", func(r *Reader) { r.Bytes() }, ErrTooLarge},
		{"string that is not UTF-8", "02ff", func(r *Reader) { r.String() }, ErrMalformed},
		{"more items than octets", "06020400", func(r *Reader) { readLongs(r) }, ErrTruncated},
		{"far more items than octets", "feffffffffffffffff01", func(r *Reader) { readLongs(r) }, ErrTruncated},
		{"smallest item count", "ffffffffffffffffff0100", func(r *Reader) { readLongs(r) }, ErrMalformed},
		{"negative block size", "0101", func(r *Reader) { readLongs(r) }, ErrMalformed},
		{"array without an end", "0202", func(r *Reader) { readLongs(r) }, ErrTruncated},
	} {
		r := NewReader(unhex(t, test.octets))
		test.read(&r)
		if !errors.Is(r.Err(), test.want) {
			t.Errorf("%s: got %v, want %v", test.about, r.Err(), test.want)
		}
	}
}

func TestArraysReadInAnyBlocksAndWriteAsOne(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		about, octets string
		want          []int64
	}{
		{"empty", "00", nil},
		{"one block", "04020400", []int64{1, 2}},
		{"two blocks", "0202020400", []int64{1, 2}},
		{"count with size", "0304020400", []int64{1, 2}},
	} {
		r := NewReader(unhex(t, test.octets))
		if got := readLongs(&r); !slices.Equal(got, test.want) || r.Err() != nil {
			t.Errorf("%s: got %v, %v, want %v", test.about, got, r.Err(), test.want)
		}
	}
	if got := hex.EncodeToString(AppendArray(nil, []int64{1, 2}, AppendLong)); got != "04020400" {
		t.Errorf("two items: got %s, want 04020400", got)
	}
	if got := hex.EncodeToString(AppendArray(nil, nil, AppendLong)); got != "00" {
		t.Errorf("no items: got %s, want 00", got)
	}
}

func TestCRC64IsAvros(t *testing.T) {
	t.Parallel()
	for schema, want := range map[Primitive]uint64{
		"int": 0x7275d51a3f395c8f, "float": 0x4d7c02cb3ea8d790, "long": 0xd054e14493f41db7,
		"double": 0x8e7535c032ab957e, "bytes": 0x4fc016dac3201965, "string": 0x8f014872634503c7,
		"boolean": 0x9f42fc78a4d4f764, "null": 0x63dd24e7cc258f8a,
	} {
		if got := CRC64([]byte(Canonical(schema))); got != want {
			t.Errorf("%s: got %x, want %x", schema, got, want)
		}
	}
}

// evolved is the record of the samples in Corda's schema registry test (spec/p2p-wire.md 9.2).
func evolved(extra ...string) RecordSchema {
	s := RecordSchema{"net.corda.data.test.EvolvedMessage", []Field{{"flags", Primitive("int")}}}
	for _, name := range extra {
		s.Fields = append(s.Fields, Field{name, Primitive("string")})
	}
	return s
}

type rawRecord []byte

func (r rawRecord) AppendRaw(b []byte) []byte { return append(b, r...) }

func TestEnvelopeIsCordas(t *testing.T) {
	t.Parallel()
	text := AppendString(AppendString([]byte{0x0a}, "evolution is cool"), "no really, it is!")
	for _, test := range []struct {
		schema RecordSchema
		record []byte
		want   string
	}{
		{evolved(), []byte{0x0a}, "636f726461010000da291c049362e1ac80c927626090f4ecb88a0f881673325c2c994cbba108c48400020a"},
		{evolved("extra_field", "yet_another_field"), text,
			"636f726461010000b1e17fa3827b5ed83904370292a687e387295c6bdafca4df99aa2f2cbbaf141c004a0a22" + hex.EncodeToString(text[2:])},
	} {
		recordType := Fingerprints(test.schema)
		envelope := AppendEnvelope(nil, &recordType, rawRecord(test.record))
		if got := hex.EncodeToString(envelope); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
		if payload, err := OpenEnvelopeOf(append(envelope, "trailing"...), &recordType); err != nil || !bytes.Equal(payload, test.record) {
			t.Errorf("got payload %x, %v", payload, err)
		}
		for n := range envelope {
			if _, err := OpenEnvelopeOf(envelope[:n], &recordType); !errors.Is(err, ErrTruncated) {
				t.Errorf("%d octets of %d: got %v, want ErrTruncated", n, len(envelope), err)
			}
		}
	}
}

func TestEnvelopeFingerprintOfArraysAndOptionals(t *testing.T) {
	t.Parallel()
	pair := RecordSchema{"net.corda.data.KeyValuePair", []Field{
		{"key", Primitive("string")}, {"value", Union{Primitive("null"), Primitive("string")}}}}
	list := Fingerprints(RecordSchema{"net.corda.data.KeyValuePairList", []Field{{"items", Array{pair}}}})
	const want = "dbcddc2fcfe74d60cace6fef0e56164efb1b1ab7d03ff6759dde59137d3e59b1" // spec/networks.md 11.3
	if got := hex.EncodeToString(list.Registry[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCompressedEnvelopeInflatesOnlySoFar(t *testing.T) {
	t.Parallel()
	small := compressedEnvelope(t, 1)
	if _, payload, err := OpenEnvelope(small); err != nil || len(payload) != MaxField {
		t.Errorf("got %d octets, %v, want %d", len(payload), err, MaxField)
	}
	bomb := compressedEnvelope(t, 20) // 100 MB out of half a megabyte
	if _, _, err := OpenEnvelope(bomb); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	broken := AppendBytes(append(append([]byte(magic), make([]byte, 32)...), 2 /* flag bit 0 */), []byte("not zlib"))
	if _, _, err := OpenEnvelope(broken); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
	other := AppendBytes(append(append([]byte(magic), make([]byte, 32)...), 4 /* flag bit 1 */), []byte("plain"))
	if _, payload, err := OpenEnvelope(other); err != nil || string(payload) != "plain" {
		t.Errorf("another flag bit: got %q, %v, want it ignored", payload, err)
	}
}

func TestEnvelopeNeedsItsMagic(t *testing.T) {
	t.Parallel()
	wrong := []byte(strings.Repeat("x", 60))
	if _, _, err := OpenEnvelope(wrong); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
	known, other := Fingerprints(evolved()), Fingerprints(evolved("extra"))
	if _, err := OpenEnvelopeOf(AppendEnvelope(nil, &other, rawRecord("x")), &known); !errors.Is(err, ErrUnknownType) {
		t.Errorf("got %v, want ErrUnknownType", err)
	}
}

func TestSingleObjectEncodingNeedsItsHeader(t *testing.T) {
	t.Parallel()
	known, other := Fingerprints(evolved()), Fingerprints(evolved("extra"))
	object := AppendObject(nil, &known, rawRecord{0x0a})
	if record, err := OpenObjectOf(object, &known); err != nil || !bytes.Equal(record, []byte{0x0a}) {
		t.Errorf("got %x, %v", record, err)
	}
	if _, err := OpenObjectOf(object, &other); !errors.Is(err, ErrUnknownType) {
		t.Errorf("got %v, want ErrUnknownType", err)
	}
	for n := range 10 {
		if _, _, err := OpenObject(object[:n]); !errors.Is(err, ErrTruncated) {
			t.Errorf("%d octets: got %v, want ErrTruncated", n, err)
		}
	}
	if _, _, err := OpenObject([]byte("0123456789")); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
}

func FuzzOpenEnvelope(f *testing.F) {
	recordType := Fingerprints(evolved())
	f.Add(AppendEnvelope(nil, &recordType, rawRecord("record")))
	f.Fuzz(func(t *testing.T, b []byte) {
		fingerprint, payload, err := OpenEnvelope(b)
		if err != nil {
			return
		}
		again := AppendEnvelope(nil, &Type{Registry: fingerprint}, rawRecord(payload))
		if _, second, err := OpenEnvelope(again); err != nil || !bytes.Equal(second, payload) {
			t.Errorf("payload %x reads back as %x, %v", payload, second, err)
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{4, 2, 4, 0, 2, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(b)
		if got := readLongs(&r); len(got) > len(b) {
			t.Errorf("%d items from %d octets", len(got), len(b))
		}
		text := r.String("likely")
		if r.Err() == nil {
			again := NewReader(AppendString(nil, text))
			if got := again.String(); got != text {
				t.Errorf("%q reads back as %q", text, got)
			}
		}
	})
}

func readLongs(r *Reader) (list []int64) {
	for range r.Items() {
		list = append(list, r.Long())
	}
	return list
}

// compressedEnvelope has a payload that inflates to so many times MaxField octets.
func compressedEnvelope(t *testing.T, times int) []byte {
	t.Helper()
	var compressed bytes.Buffer
	z, err := zlib.NewWriterLevel(&compressed, zlib.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	for range times {
		if _, err := z.Write(make([]byte, MaxField)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	b := append([]byte(magic), make([]byte, 32)...)
	return AppendBytes(AppendLong(b, flagCompressed), compressed.Bytes())
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	octets, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return octets
}
