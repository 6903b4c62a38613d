package distributed

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/internal/secret"
)

func sampleMemory() memory {
	m := newMemory()
	p := m.of("flow.in")
	p.pos = bus.Position{Low: 7, Above: map[uint64]struct{}{9: {}, 10: {}, 40: {}}}
	p.low = time.UnixMilli(1_700_000_000_123)
	p.seen["flow/3"] = bus.Stamp{Source: "flow/3", Epoch: 1 << 50, Sequence: 12}
	p.seen["rest/0"] = bus.Stamp{Source: "rest/0", Epoch: 2, Sequence: 1}
	m.of("p2p.in").pos = bus.Position{Low: 1, Above: map[uint64]struct{}{}}
	m.marks["config"] = bus.Stamp{Epoch: 5, Sequence: 6}
	return m
}

func TestPositionsSurviveEncoding(t *testing.T) {
	t.Parallel()
	want := sampleMemory()
	octets, err := appendMemory(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeMemory(octets)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for n := 1; n < len(octets); n++ {
		if _, err := decodeMemory(octets[:n]); err == nil {
			t.Errorf("cut to %d octets it still decodes", n)
		}
	}
	if _, err := decodeMemory(append(octets, 0)); err == nil {
		t.Error("with an octet too many it still decodes")
	}
}

func sampleRecords() []outRecord {
	at := time.UnixMilli(1_700_000_000_456)
	return []outRecord{
		{topic: "a", partition: 3, key: "k", value: []byte("v"), time: at, sequence: 9},
		{topic: "b", partition: 0, key: "", value: nil, time: at, sequence: 10},
		{topic: "a", partition: 1, key: "k2", value: []byte{}, time: at, sequence: 11},
	}
}

func TestOutboxSurvivesEncoding(t *testing.T) {
	t.Parallel()
	want := sampleRecords()
	octets := encodeOutbox(want)
	got, err := decodeOutbox(octets, 9)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for n := range octets {
		if _, err := decodeOutbox(octets[:n], 9); err == nil {
			t.Errorf("cut to %d octets it still decodes", n)
		}
	}
}

func TestHeaderSurvivesEncoding(t *testing.T) {
	t.Parallel()
	want := bus.Stamp{Source: "flow/17", Epoch: 1 << 51, Sequence: 99}
	octets := encodeHeader(want)
	got, err := decodeHeader(octets)
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for n := range octets {
		if _, err := decodeHeader(octets[:n]); err == nil {
			t.Errorf("cut to %d octets it still decodes", n)
		}
	}
}

func FuzzPositions(f *testing.F) {
	octets, _ := appendMemory(nil, sampleMemory())
	f.Add(octets)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMemory(b)
		if err != nil {
			return
		}
		again, err := appendMemory(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		if m2, err := decodeMemory(again); err != nil || !reflect.DeepEqual(m, m2) {
			t.Errorf("got %+v, %v; want %+v", m2, err, m)
		}
	})
}

func FuzzOutbox(f *testing.F) {
	f.Add(encodeOutbox(sampleRecords()))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := decodeOutbox(b, 1)
		if err != nil || len(records) == 0 {
			return
		}
		if again, err := decodeOutbox(encodeOutbox(records), 1); err != nil || !reflect.DeepEqual(records, again) {
			t.Errorf("got %+v, %v; want %+v", again, err, records)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add(encodeHeader(bus.Stamp{Source: "a/1", Epoch: 1, Sequence: 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeHeader(b)
		if err != nil {
			return
		}
		if again, err := decodeHeader(encodeHeader(s)); err != nil || again != s {
			t.Errorf("got %+v, %v; want %+v", again, err, s)
		}
	})
}

// TestBatchIsKafkas reads a batch with kmsg's own decoder.
func TestBatchIsKafkas(t *testing.T) {
	t.Parallel()
	var list []*outgoing
	for _, r := range sampleRecords() {
		list = append(list, &outgoing{outRecord: r, header: []byte{1, 2}})
	}
	var b kmsg.RecordBatch
	if err := b.ReadFrom(newBatch(list, 77, 2, 5).octets); err != nil {
		t.Fatal(err)
	}
	if b.ProducerID != 77 || b.ProducerEpoch != 2 || b.FirstSequence != 5 || b.NumRecords != 3 || b.LastOffsetDelta != 2 {
		t.Errorf("got %+v", b)
	}
	rest := b.Records
	for i, want := range sampleRecords() {
		length, n := varint(rest)
		var r kmsg.Record
		if err := r.ReadFrom(rest[:n+length]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n+length:]
		if string(r.Key) != want.key || !bytes.Equal(r.Value, want.value) || (r.Value == nil) != (want.value == nil) || int(r.OffsetDelta) != i {
			t.Errorf("got %+v, want %+v", r, want)
		}
	}
}

func varint(b []byte) (value, n int) {
	u := 0
	for shift := 0; ; shift += 7 {
		u |= int(b[n]&0x7f) << shift
		n++
		if b[n-1] < 0x80 {
			return u >> 1, n
		}
	}
}

func TestHistoryKnowsWhatWasCommitted(t *testing.T) {
	t.Parallel()
	l := newLineage()
	l.epochs["a/0"] = []begun{{10, 1}, {20, 100}, {40, 150}}
	l.next["a/0"] = 160
	for _, c := range []struct {
		stamp bus.Stamp
		want  bool
	}{
		{bus.Stamp{Source: "a/0", Epoch: 10, Sequence: 99}, true},
		{bus.Stamp{Source: "a/0", Epoch: 10, Sequence: 100}, false}, // epoch 20 began with it
		{bus.Stamp{Source: "a/0", Epoch: 20, Sequence: 149}, true},
		{bus.Stamp{Source: "a/0", Epoch: 30, Sequence: 120}, false}, // an epoch that the database has forgotten
		{bus.Stamp{Source: "a/0", Epoch: 40, Sequence: 159}, true},
		{bus.Stamp{Source: "a/0", Epoch: 40, Sequence: 160}, false},
		{bus.Stamp{Source: "b/0", Epoch: 1, Sequence: 1}, true}, // nothing is known of b
	} {
		if got := l.committed(c.stamp); got != c.want {
			t.Errorf("%+v: got %v, want %v", c.stamp, got, c.want)
		}
	}
}

func TestSharesDifferByOneAtMostAndMoveLittle(t *testing.T) {
	t.Parallel()
	for members := 1; members <= 9; members++ {
		v := &view{partitions: make(map[bus.Role][]partitionRow)}
		for id := range members {
			v.members = append(v.members, memberRow{id: int64(id + 1), instance: bus.Instance{Number: uint16(id + 1)}, candidate: []string{"a"}})
		}
		for id := range int32(8) {
			v.partitions["a"] = append(v.partitions["a"], partitionRow{id: id, owner: int64(members)})
		}
		sum := 0
		for id := range members {
			share := shareOf(v, "a", int64(id+1))
			if share < 8/members || share > (8+members-1)/members {
				t.Errorf("%d members: a share of %d", members, share)
			}
			sum += share
		}
		if sum != 8 {
			t.Errorf("%d members: got shares of %d in all, want 8", members, sum)
		}
		if got, want := shareOf(v, "a", int64(members)), (8+members-1)/members; got != want {
			t.Errorf("%d members: the owner of all is to keep %d, want %d", members, got, want)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	o := Options{Postgres: Postgres{URL: secret.FromString("postgres://u:marker@h/db")}, Kafka: Kafka{SASL: SASL{Password: secret.FromString("marker")}}}
	for _, text := range []string{fmt.Sprint(o), fmt.Sprintf("%+v %#v", o, o)} {
		if strings.Contains(text, "marker") {
			t.Errorf("a secret is printed: %s", text)
		}
	}
}
