package distributed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/hawser-project/hawser/bus"
)

func TestInitTwiceIsOnce(t *testing.T) {
	t.Parallel()
	c := setup(t)
	if err := Init(t.Context(), c.o, InitOptions{Partitions: testPartitions}); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if err := Init(t.Context(), c.o, InitOptions{Partitions: testPartitions + 1}); err == nil || !strings.Contains(err.Error(), "can't be changed") {
		t.Errorf("another number of partitions: got %v", err)
	}
	if err := Check(t.Context(), c.o); err != nil {
		t.Error(err)
	}
}

func TestOpenAdvisesToInit(t *testing.T) {
	t.Parallel()
	c := setup(t)
	o := c.o
	o.Postgres.Prefix += "x"
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "hawser bus init") {
		t.Errorf("without schemas: got %v", err)
	}
	o = c.o
	o.Kafka.Prefix += "x"
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "hawser bus init") {
		t.Errorf("without topics: got %v", err)
	}
}

func TestDifferingTopicsAreReported(t *testing.T) {
	t.Parallel()
	c := setup(t)
	client, err := openKafka(c.o.Kafka, c.o.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	small := "1000"
	_, err = admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: settingMessage, Value: &small}}, c.o.topic("in"))
	if err != nil {
		t.Fatal(err)
	}
	policy := "delete"
	if _, err = admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: settingPolicy, Value: &policy}}, c.o.topic("table")); err != nil {
		t.Fatal(err)
	}
	err = Init(t.Context(), c.o, InitOptions{Partitions: testPartitions})
	for _, want := range []string{"in has max.message.bytes=1000", "table has cleanup.policy=delete, and should have compact"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something with %q", err, want)
		}
	}
	if _, err := admin.CreatePartitions(t.Context(), 2, c.o.topic("out")); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), c.o); err == nil || !strings.Contains(err.Error(), "out has 6 partitions, and should have 4") {
		t.Errorf("got %v", err)
	}
}

func TestProcessesShareThePartitions(t *testing.T) {
	t.Parallel()
	c := setup(t)
	one := own(t, c.open(t, "one"), "a")
	one.awaitCount(t, 4)
	first := one.of(0).Epoch
	two := own(t, c.open(t, "two"), "a")
	one.awaitCount(t, 2)
	two.awaitCount(t, 2)
	three := own(t, c.open(t, "three"), "a")
	three.awaitCount(t, 1)
	start := time.Now()
	two.stop(t)
	one.awaitCount(t, 2)
	three.awaitCount(t, 2)
	t.Logf("after one left in order the others had its partitions in %s", time.Since(start))
	one.stop(t)
	three.awaitCount(t, 4)
	if got := three.of(0).Epoch; got <= first {
		t.Errorf("got epoch %d, want one above %d", got, first)
	}
	three.stop(t)
}

func TestPlacementKnowsOwners(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d, other := c.open(t, "one"), c.open(t, "two")
	o := own(t, d, "b")
	o.awaitCount(t, 4)
	if a, b := d.Self(), other.Self(); a.Number == 0 || a.Number == b.Number {
		t.Errorf("got numbers %d and %d", a.Number, b.Number)
	}
	end := time.After(10 * time.Second)
	for {
		changed := other.Changed()
		got, owned := other.Owner("b", 3)
		if owned && got == d.Self() && len(other.Instances("b")) == 2 {
			break
		}
		select {
		case <-changed:
		case <-end:
			t.Fatalf("got owner %+v, %v; instances %+v", got, owned, other.Instances("b"))
		}
	}
	if _, owned := other.Owner("a", 3); owned {
		t.Error("a partition of a role that nobody runs has an owner")
	}
}

func TestStepsCommitAsAWhole(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	o := own(t, d, "a")
	o.awaitCount(t, 4)
	key := keyIn(2, 0)
	row := bus.RowKey{Role: "a", Kind: "kind", Key: key, Row: "r\x00\xff"}
	shared := bus.RowKey{Kind: "shared", Key: key}
	commit := mustDo(t, d, bus.Step{
		Owner: o.of(2), Writes: []bus.Write{{RowKey: row, Value: []byte("v1")}, {RowKey: shared, Value: []byte{}}},
		Appends: []bus.Append{{Topic: "out", Key: "x", Value: []byte("1")}, {Topic: "out", Key: "x", Value: []byte("2")}, {Topic: "table", Key: "t", Value: []byte("3")}},
	})
	if len(commit.Stamps) != 2 || commit.Stamps[0].Topic != "out" || commit.Stamps[0].Stamp != (bus.Stamp{Source: "a/2", Epoch: o.of(2).Epoch, Sequence: 2}) {
		t.Errorf("got stamps %+v", commit.Stamps)
	}
	value, version, err := d.Get(t.Context(), row)
	if string(value) != "v1" || version == 0 || err != nil {
		t.Errorf("got %q, %d, %v", value, version, err)
	}
	if value, version, err := d.Get(t.Context(), shared); value == nil || len(value) != 0 || version == 0 || err != nil {
		t.Errorf("an empty value: got %v, %d, %v", value, version, err)
	}
	records := readSome(t, read(t, d, bus.ReadFrom{Topic: "out", Partition: bus.PartitionOf("x", 4)}), 2)
	if got := valid(records); !slices.Equal(got, []string{"1", "2"}) || records[1].Stamp != commit.Stamps[0].Stamp || records[0].Key != "x" {
		t.Errorf("got %+v", records)
	}
	mustDo(t, d, bus.Step{Owner: o.of(2), Writes: []bus.Write{{RowKey: row}}})
	if value, version, err := d.Get(t.Context(), row); value != nil || version != 0 || err != nil {
		t.Errorf("a deleted row: got %q, %d, %v", value, version, err)
	}
}

func TestRefusedStepsDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	o := own(t, d, "a")
	o.awaitCount(t, 4)
	for name, step := range map[string]bus.Step{
		"large record":  {Owner: o.of(0), Appends: []bus.Append{{Topic: "out", Value: make([]byte, bus.MaxValue+1)}}},
		"large row":     {Owner: o.of(0), Writes: []bus.Write{{RowKey: bus.RowKey{Role: "a", Kind: "k"}, Value: make([]byte, maxRow+1)}}},
		"unknown topic": {Owner: o.of(0), Appends: []bus.Append{{Topic: "nowhere", Value: []byte("x")}}},
		"bad kind":      {Owner: o.of(0), Writes: []bus.Write{{RowKey: bus.RowKey{Role: "a", Kind: "k\x00"}, Value: []byte("x")}}},
		"mixed":         {Appends: []bus.Append{{Topic: "out"}}, Writes: []bus.Write{{RowKey: bus.RowKey{Role: "a", Kind: "k"}, Value: []byte("x")}}},
	} {
		if _, err := do(d, step); err == nil || errors.Is(err, bus.ErrLost) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	mustDo(t, d, bus.Step{Owner: o.of(0), Appends: []bus.Append{{Topic: "out", Key: "k", Value: make([]byte, bus.MaxValue)}}})
	readSome(t, read(t, d, bus.ReadFrom{Topic: "out", Partition: bus.PartitionOf("k", 4)}), 1)
}

func TestConflictsAreStrict(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d, e := c.open(t, "one"), c.open(t, "two")
	a, b := own(t, d, "a"), own(t, e, "b")
	a.awaitCount(t, 4)
	b.awaitCount(t, 4)
	row := bus.RowKey{Kind: "shared", Key: "k", Row: "r"}
	write := []bus.Write{{RowKey: row, Value: []byte("x")}}
	mustDo(t, d, bus.Step{Owner: a.of(0), Checks: []bus.Check{{RowKey: row}}, Writes: write})
	if _, err := do(e, bus.Step{Owner: b.of(0), Checks: []bus.Check{{RowKey: row}}, Writes: write}); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("a row that is there by now: got %v", err)
	}
	_, version, _ := d.Get(t.Context(), row)
	check := []bus.Check{{RowKey: row, Version: version}}
	mustDo(t, e, bus.Step{Owner: b.of(0), Checks: check})
	mustDo(t, e, bus.Step{Owner: b.of(0), Checks: check, Writes: write})
	if _, err := do(d, bus.Step{Owner: a.of(0), Checks: check, Writes: write}); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("a row that was written again: got %v", err)
	}
	// A check of an absent row leaves nothing behind.
	absent := bus.RowKey{Kind: "shared", Key: "absent"}
	mustDo(t, d, bus.Step{Owner: a.of(1), Checks: []bus.Check{{RowKey: absent}}})
	var n int
	if err := d.pool.QueryRow(t.Context(), d.schemas.sql("select count(*) from @common@.state where version = 0", "")).Scan(&n); err != nil || n != 0 {
		t.Errorf("got %d placeholders, %v", n, err)
	}
}

// TestCountersLoseNoIncrement has many read, check and write the same few rows.
func TestCountersLoseNoIncrement(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d, e := c.open(t, "one"), c.open(t, "two")
	a, b := own(t, d, "a"), own(t, e, "b")
	a.awaitCount(t, 4)
	b.awaitCount(t, 4)
	const each = 25
	var work sync.WaitGroup
	for i := range 8 {
		driver, ownership := d, a.of(int32(i%4))
		if i%2 == 1 {
			driver, ownership = e, b.of(int32(i%4))
		}
		work.Go(func() {
			for n := 0; n < each; {
				rows := []bus.RowKey{{Kind: "count", Key: "one"}, {Kind: "count", Key: "two"}}
				if i > 3 {
					slices.Reverse(rows)
				}
				step := bus.Step{Owner: ownership}
				for _, row := range rows {
					value, version, err := driver.Get(context.Background(), row)
					if err != nil {
						t.Error(err)
						return
					}
					step.Checks = append(step.Checks, bus.Check{RowKey: row, Version: version})
					step.Writes = append(step.Writes, bus.Write{RowKey: row, Value: append(value, 'x')})
				}
				switch _, err := do(driver, step); {
				case err == nil:
					n++
				case !errors.Is(err, bus.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	for _, key := range []string{"one", "two"} {
		if value, _, err := d.Get(t.Context(), bus.RowKey{Kind: "count", Key: key}); len(value) != 8*each || err != nil {
			t.Errorf("%s: got %d, %v; want %d", key, len(value), err, 8*each)
		}
	}
}

func TestScansAreOfOneMomentAndStopEarly(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	const keys, rows = 30, 50
	for k := range keys {
		var writes []bus.Write
		for r := range rows {
			writes = append(writes, bus.Write{RowKey: bus.RowKey{Role: "a", Kind: "s", Key: fmt.Sprintf("k%02d", k), Row: fmt.Sprintf("r%02d\x00", r)}, Value: []byte("v")})
		}
		mustDo(t, d, bus.Step{Writes: writes})
	}
	scan := func(in bus.Range, stop int) (got []bus.RowKey) {
		t.Helper()
		in.Role, in.Kind = "a", "s"
		err := d.Scan(t.Context(), in, func(r bus.Row) bool {
			got = append(got, r.RowKey)
			// What is written meanwhile is not seen, and what is read needs no connection of the scan's.
			if len(got) == 2 {
				mustDo(t, d, bus.Step{Writes: []bus.Write{{RowKey: bus.RowKey{Role: "a", Kind: "s", Key: "k99", Row: fmt.Sprint(time.Now())}, Value: []byte("v")}}})
			}
			return len(got) != stop
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	all := scan(bus.Range{AllKeys: true, Key: "k"}, 0)
	if len(all) != keys*rows || !slices.IsSortedFunc(all, bus.RowKey.Compare) {
		t.Errorf("all: got %d rows, want %d in order", len(all), keys*rows)
	}
	for _, test := range []struct {
		in   bus.Range
		stop int
		want int
	}{
		{bus.Range{AllKeys: true}, 3, 3},
		{bus.Range{AllKeys: true, Key: "k0"}, 0, 10 * rows},
		{bus.Range{AllKeys: true, Key: "k0", From: "k08"}, 0, 2 * rows},
		{bus.Range{AllKeys: true, Key: "k1", From: "k"}, 70, 70},
		{bus.Range{Key: "k07"}, 0, rows},
		{bus.Range{Key: "k07", RowPrefix: "r1"}, 0, 10},
		{bus.Range{Key: "k07", RowPrefix: "\xff"}, 0, 0},
		{bus.Range{Key: "none"}, 0, 0},
	} {
		if got := scan(test.in, test.stop); len(got) != test.want {
			t.Errorf("%+v: got %d rows, want %d", test.in, len(got), test.want)
		}
	}
	var order []string
	mustDo(t, d, bus.Step{Writes: []bus.Write{
		{RowKey: bus.RowKey{Role: "a", Kind: "o", Key: "a", Row: "z"}, Value: []byte("1")}, {RowKey: bus.RowKey{Role: "a", Kind: "o", Key: "a\x00", Row: ""}, Value: []byte("1")},
		{RowKey: bus.RowKey{Role: "a", Kind: "o", Key: "\xff\xff", Row: ""}, Value: []byte("1")}, {RowKey: bus.RowKey{Role: "a", Kind: "o", Key: "", Row: "q"}, Value: []byte("1")},
	}})
	if err := d.Scan(t.Context(), bus.Range{Role: "a", Kind: "o", AllKeys: true}, func(r bus.Row) bool { order = append(order, r.RowKey.Key); return true }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"", "a", "a\x00", "\xff\xff"}; !slices.Equal(order, want) {
		t.Errorf("got %q, want %q", order, want)
	}
}

// TestScansWithinScansDoNotUseUpThePool begins more scans than there are connections, each of which scans and reads.
func TestScansWithinScansDoNotUseUpThePool(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	var writes []bus.Write
	for r := range 200 {
		writes = append(writes, bus.Write{RowKey: bus.RowKey{Role: "a", Kind: "s", Key: fmt.Sprintf("k%03d", r)}, Value: []byte("v")})
	}
	mustDo(t, d, bus.Step{Writes: writes})
	in := bus.Range{Role: "a", Kind: "s", AllKeys: true}
	var work sync.WaitGroup
	for range 16 {
		work.Go(func() {
			n := 0
			err := d.Scan(t.Context(), in, func(r bus.Row) bool {
				if n++; n == 100 {
					m := 0
					if err := d.Scan(t.Context(), in, func(bus.Row) bool { m++; return true }); err != nil || m != 200 {
						t.Errorf("the inner scan: got %d rows, %v", m, err)
					}
					if _, version, err := d.Get(t.Context(), r.RowKey); version == 0 || err != nil {
						t.Error(version, err)
					}
				}
				return true
			})
			if err != nil || n != 200 {
				t.Errorf("got %d rows, %v", n, err)
			}
		})
	}
	work.Wait()
}

func TestRecordsWithoutStepArePublished(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	for i := range 3 {
		commit := mustDo(t, d, bus.Step{Appends: []bus.Append{{Topic: "in", Key: "k", Value: fmt.Append(nil, i)}}})
		want := []bus.Sent{{Topic: "in", Stamp: bus.Stamp{Sequence: uint64(i + 1)}}}
		if !reflect.DeepEqual(commit.Stamps, want) {
			t.Errorf("got %+v, want %+v", commit.Stamps, want)
		}
	}
	records := readSome(t, read(t, d, bus.ReadFrom{Topic: "in", Partition: bus.PartitionOf("k", 4)}), 3)
	if got := valid(records); !slices.Equal(got, []string{"0", "1", "2"}) || records[2].Stamp != (bus.Stamp{Sequence: 3}) {
		t.Errorf("got %+v", records)
	}
	mustDo(t, d, bus.Step{Role: "a", Appends: []bus.Append{{Topic: "table", Key: "k", Value: []byte("x")}}})
	if current, err := d.Current(t.Context(), "table"); err != nil || !reflect.DeepEqual(current.Stamps, []bus.Sent{{Topic: "table", Stamp: bus.Stamp{Sequence: 1}}}) {
		t.Errorf("got %+v, %v", current, err)
	}
}

func TestTablesAreReadToTheEnd(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	o := own(t, d, "a")
	o.awaitCount(t, 4)
	if empty := read(t, d, bus.ReadFrom{Topic: "table"}); !empty.Reached() {
		t.Error("the end of an empty topic is not reached at once")
	}
	var last bus.Commit
	for i := range 10 {
		step := bus.Step{Owner: o.of(int32(i % 2)), Appends: []bus.Append{{Topic: "table", Key: fmt.Sprint(i % 3), Value: fmt.Append(nil, i)}}}
		if i == 9 {
			step.Appends[0].Value = nil
		}
		last = mustDo(t, d, step)
	}
	cursor := read(t, d, bus.ReadFrom{Topic: "table"})
	var records []bus.Record
	for !cursor.Reached() {
		records = append(records, readSome(t, cursor, 1)...)
	}
	latest := make(map[string]bus.Stamp)
	table := make(map[string]string)
	for _, r := range records {
		if r.Stamp.After(latest[r.Stamp.Source]) {
			latest[r.Stamp.Source] = r.Stamp
		}
		switch {
		case r.Void:
		case r.Value == nil:
			delete(table, r.Key)
		default:
			table[r.Key] = string(r.Value)
		}
	}
	if want := map[string]string{"1": "7", "2": "8"}; !reflect.DeepEqual(table, want) {
		t.Errorf("got %v, want %v", table, want)
	}
	current, err := d.Current(t.Context(), "table")
	if err != nil || len(current.Stamps) != 2 {
		t.Errorf("got %+v, %v", current, err)
	}
	for _, s := range append(current.Stamps, last.Stamps...) {
		if s.Stamp.After(latest[s.Stamp.Source]) {
			t.Errorf("%+v is not reached: %+v", s, latest)
		}
	}
}

func TestBlobsAreStoredInPieces(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	content := bytes.Repeat([]byte("0123456789abcdef"), (3*blobPiece+1000)/16)
	blob, err := d.PutBlob(t.Context(), bytes.NewReader(content), 10<<20)
	if err != nil || blob.ID != sha256.Sum256(content) || blob.Size != int64(len(content)) {
		t.Fatalf("got %+v, %v", blob, err)
	}
	again, err := d.PutBlob(t.Context(), bytes.NewReader(content), 10<<20)
	if err != nil || again.ID != blob.ID || !again.Stored.After(blob.Stored) {
		t.Errorf("the same again: got %+v, %v", again, err)
	}
	r, err := d.OpenBlob(t.Context(), blob.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d octets, %v", len(got), err)
	}
	part := make([]byte, 100)
	if n, err := r.ReadAt(part, blobPiece-50); n != 100 || err != nil || !bytes.Equal(part, content[blobPiece-50:][:100]) {
		t.Errorf("got %d, %v", n, err)
	}
	if n, err := r.ReadAt(part, r.Size()-10); n != 10 || !errors.Is(err, io.EOF) {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := d.PutBlob(t.Context(), bytes.NewReader(content), 1000); kindOf(err) != "too large" {
		t.Errorf("got %v", err)
	}
	if _, err := d.PutBlob(t.Context(), io.MultiReader(strings.NewReader("x"), cut{}), 1000); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	empty, err := d.PutBlob(t.Context(), strings.NewReader(""), 1000)
	if err != nil || empty.Size != 0 {
		t.Errorf("got %+v, %v", empty, err)
	}
	if list, err := d.Blobs(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("got %+v, %v", list, err)
	}
	for range 2 {
		if err := d.RemoveBlob(t.Context(), blob.ID); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.OpenBlob(t.Context(), blob.ID); kindOf(err) != "not found" {
		t.Errorf("got %v", err)
	}
	if _, err := r.ReadAt(part, 0); kindOf(err) != "not found" {
		t.Errorf("got %v", err)
	}
	var n int
	if err := d.pool.QueryRow(t.Context(), d.schemas.sql("select count(*) from @common@.blob_piece", "")).Scan(&n); n != 0 || err != nil {
		t.Errorf("got %d pieces, %v", n, err)
	}
}

type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func kindOf(err error) string {
	var k interface{ FaultKind() string }
	if errors.As(err, &k) {
		return k.FaultKind()
	}
	return ""
}
