package bustest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// The tests in this file hold a driver to its contract (bus/driver.go) without a bus.

// submit hands in a step and returns what came of it.
func submit(d bus.Driver, step bus.Step) (bus.Commit, error) {
	type outcome struct {
		commit bus.Commit
		err    error
	}
	done := make(chan outcome, 1)
	step.Done = func(c bus.Commit, err error) { done <- outcome{c, err} }
	d.Submit(&step)
	select {
	case o := <-done:
		return o.commit, o.err
	case <-time.After(patience):
		return bus.Commit{}, errors.New("the step is never done")
	}
}

func open(t *testing.T, h Harness) bus.Driver {
	t.Helper()
	d := h.Open(t)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// own takes all partitions of the worker until the test ends, and returns that of a key.
func own(t *testing.T, d bus.Driver) func(key string) *bus.Ownership {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	owned := make(map[int32]*bus.Ownership)
	ended := make(chan error, 1)
	go func() {
		ended <- d.Own(ctx, worker, func(ctx context.Context, o *bus.Ownership) {
			mu.Lock()
			owned[o.Partition] = o
			mu.Unlock()
			<-ctx.Done()
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	count := d.Partitions(worker)
	until(t, "all partitions", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(owned) == int(count)
	})
	return func(key string) *bus.Ownership {
		mu.Lock()
		defer mu.Unlock()
		return owned[bus.PartitionOf(key, count)]
	}
}

func rowKey(key, row string) bus.RowKey {
	return bus.RowKey{Role: worker, Kind: "contract", Key: key, Row: row}
}

// write writes rows, each with its key and name as the value.
func write(t *testing.T, d bus.Driver, keys ...bus.RowKey) {
	t.Helper()
	var step bus.Step
	for _, k := range keys {
		step.Writes = append(step.Writes, bus.Write{RowKey: k, Value: []byte(k.Key + "/" + k.Row)})
	}
	if _, err := submit(d, step); err != nil {
		t.Fatal(err)
	}
}

func ownerless(t *testing.T, h Harness) {
	d := open(t, h)
	if value, version, err := d.Get(t.Context(), rowKey("absent", "r")); err != nil || version != 0 || len(value) > 0 {
		t.Errorf("an absent row has %q, version %d, %v", value, version, err)
	}
	write(t, d, rowKey("k", "r"))
	value, version, err := d.Get(t.Context(), rowKey("k", "r"))
	if err != nil || version == 0 || string(value) != "k/r" {
		t.Errorf("a row has %q, version %d, %v", value, version, err)
	}
	if err := d.Barrier(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := submit(d, bus.Step{Writes: []bus.Write{{RowKey: rowKey("k", "r")}, {RowKey: rowKey("absent", "r")}}}); err != nil {
		t.Errorf("rows, one of them absent, are not deleted: %v", err)
	}
	if _, version, err := d.Get(t.Context(), rowKey("k", "r")); err != nil || version != 0 {
		t.Errorf("a deleted row has version %d, %v", version, err)
	}
	record := bus.Append{Topic: in.Name, Key: "k", Value: []byte{1}}
	commit, err := submit(d, bus.Step{Role: client, Appends: []bus.Append{record, record}})
	if err != nil || len(commit.Stamps) != 1 || commit.Stamps[0].Topic != in.Name {
		t.Fatalf("records are stamped %+v, %v", commit.Stamps, err)
	}
	records, err := ReadAll(t.Context(), d, in.Definition())
	if err != nil || len(records) != 2 || records[1].Stamp != commit.Stamps[0].Stamp || !records[1].Stamp.After(records[0].Stamp) {
		t.Errorf("read %+v, %v; want two records, the last stamped %+v", records, err, commit.Stamps[0].Stamp)
	}
	if _, err := submit(d, bus.Step{}); err != nil {
		t.Errorf("an empty step: %v", err)
	}
}

func checks(t *testing.T, h Harness) {
	d := open(t, h)
	owner := own(t, d)
	write(t, d, rowKey("there", ""))
	_, version, err := d.Get(t.Context(), rowKey("there", ""))
	if err != nil {
		t.Fatal(err)
	}
	for n, of := range []struct {
		check bus.Check
		want  error
	}{
		{bus.Check{RowKey: rowKey("there", ""), Version: version}, nil},
		{bus.Check{RowKey: rowKey("there", ""), Version: 0}, bus.ErrConflict},
		{bus.Check{RowKey: rowKey("there", ""), Version: version + 1}, bus.ErrConflict},
		{bus.Check{RowKey: rowKey("absent", ""), Version: 0}, nil},
		{bus.Check{RowKey: rowKey("absent", ""), Version: version}, bus.ErrConflict},
	} {
		key := keyName(n)
		_, err := submit(d, bus.Step{
			Owner: owner(key), Checks: []bus.Check{{RowKey: rowKey("none", keyName(n))}, of.check},
			Writes:  []bus.Write{{RowKey: rowKey(key, ""), Value: []byte{1}}},
			Appends: []bus.Append{{Topic: out.Name, Key: key, Value: []byte{1}}},
		})
		if !errors.Is(err, of.want) || (err == nil) != (of.want == nil) {
			t.Errorf("check %d: got %v, want %v", n, err, of.want)
		}
		if _, version, err := d.Get(t.Context(), rowKey(key, "")); err != nil || (version != 0) != (of.want == nil) {
			t.Errorf("check %d: its row has version %d, %v", n, version, err)
		}
	}
	var seen []string
	if err := d.Scan(t.Context(), bus.Range{Role: worker, Kind: "contract", AllKeys: true}, func(r bus.Row) bool {
		seen = append(seen, r.Key)
		return true
	}); err != nil || !slices.Equal(seen, []string{"k0", "k3", "there"}) {
		t.Errorf("the rows are of %v, %v: a row that was only checked is seen, or one of a refused step", seen, err)
	}
	var sent int
	until(t, "two records", func() bool {
		records, err := ReadAll(t.Context(), d, out.Definition())
		if err != nil {
			t.Fatal(err)
		}
		sent = len(records)
		return sent >= 2
	})
	if sent != 2 {
		t.Errorf("%d records were sent, want 2", sent)
	}
}

// scanned returns the rows of a range, as key/row.
func scanned(t *testing.T, d bus.Driver, in bus.Range) (list []string) {
	t.Helper()
	in.Role, in.Kind = worker, "contract"
	if err := d.Scan(t.Context(), in, func(r bus.Row) bool {
		if r.Version == 0 || string(r.Value) != r.Key+"/"+r.RowKey.Row {
			t.Errorf("%s/%s has %q, version %d", r.Key, r.RowKey.Row, r.Value, r.Version)
		}
		list = append(list, r.Key+"/"+r.RowKey.Row)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

func driverScans(t *testing.T, h Harness) {
	d := open(t, h)
	write(t, d, rowKey("a", "1"), rowKey("a", "12"), rowKey("a", "2"), rowKey("ab", "1"), rowKey("a\x00", "1"), rowKey("b", ""), rowKey("b", "\xff"),
		rowKey("b", "\xff\xff"), rowKey("b\xff", "0"), rowKey("", "x"), bus.RowKey{Role: worker, Kind: "contract2", Key: "a", Row: "no"},
		bus.RowKey{Role: worker, Kind: "contrac", Key: "ta", Row: "no"})
	for _, of := range []struct {
		in   bus.Range
		want []string
	}{
		{bus.Range{Key: "a"}, []string{"a/1", "a/12", "a/2"}},
		{bus.Range{Key: "a", RowPrefix: "1"}, []string{"a/1", "a/12"}},
		{bus.Range{Key: "b", RowPrefix: "\xff"}, []string{"b/\xff", "b/\xff\xff"}},
		{bus.Range{Key: ""}, []string{"/x"}},
		{bus.Range{Key: "c"}, nil},
		{bus.Range{AllKeys: true, Key: "a"}, []string{"a/1", "a/12", "a/2", "a\x00/1", "ab/1"}},
		{bus.Range{AllKeys: true, Key: "b"}, []string{"b/", "b/\xff", "b/\xff\xff", "b\xff/0"}},
		{bus.Range{AllKeys: true, Key: "a", From: "ab"}, []string{"ab/1"}},
		{bus.Range{AllKeys: true, From: "ab"}, []string{"ab/1", "b/", "b/\xff", "b/\xff\xff", "b\xff/0"}},
		{bus.Range{AllKeys: true, Key: "b", From: "a"}, []string{"b/", "b/\xff", "b/\xff\xff", "b\xff/0"}},
	} {
		if got := scanned(t, d, of.in); !slices.Equal(got, of.want) {
			t.Errorf("%+v has %q, want %q", of.in, got, of.want)
		}
	}
	scanStops(t, d)
	scanSeesOneMoment(t, d)
}

func scanStops(t *testing.T, d bus.Driver) {
	t.Helper()
	n := 0
	if err := d.Scan(t.Context(), bus.Range{Role: worker, Kind: "contract", AllKeys: true}, func(bus.Row) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("a scan that was stopped at the third row has had %d, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Scan(ctx, bus.Range{Role: worker, Kind: "contract", AllKeys: true}, func(bus.Row) bool { return true }); err == nil {
		t.Error("a scan whose context has ended is complete")
	}
}

// scanSeesOneMoment reads many rows, and changes all of them when the first is there.
func scanSeesOneMoment(t *testing.T, d bus.Driver) {
	t.Helper()
	const rows = 2000
	change := func(value string) {
		step := bus.Step{}
		for n := range rows {
			step.Writes = append(step.Writes, bus.Write{RowKey: rowKey("many", fmt.Sprintf("%04d", n)), Value: []byte(value)})
		}
		if value == "after" {
			step.Writes[rows-1].Value = nil
			step.Writes = append(step.Writes, bus.Write{RowKey: rowKey("many", "9999"), Value: []byte(value)})
		}
		if _, err := submit(d, step); err != nil {
			t.Fatal(err)
		}
	}
	change("before")
	n := 0
	var kept []bus.Row
	err := d.Scan(t.Context(), bus.Range{Role: worker, Kind: "contract", Key: "many"}, func(r bus.Row) bool {
		if n++; n == 1 {
			change("after")
		}
		kept = append(kept, r)
		return true
	})
	if err != nil || n != rows {
		t.Errorf("the scan has %d rows, %v; want %d", n, err, rows)
	}
	for _, r := range kept {
		if string(r.Value) != "before" {
			t.Fatalf("row %s is from another moment than the first: %s", r.RowKey.Row, r.Value)
		}
	}
}

// partitionOf returns the partition of a key in the topic in.
func partitionOf(d bus.Driver, key string) int32 { return bus.PartitionOf(key, d.Partitions(worker)) }

func cursors(t *testing.T, h Harness) {
	d := open(t, h)
	read := func(topic, key string, offset uint64) bus.Cursor {
		t.Helper()
		from := bus.ReadFrom{Topic: topic, Offset: offset}
		if topic == in.Name {
			from.Partition = partitionOf(d, key)
		}
		c, err := d.Read(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	appendTo := func(topic string, values ...byte) bus.Commit {
		t.Helper()
		step := bus.Step{Role: client}
		for _, v := range values {
			step.Appends = append(step.Appends, bus.Append{Topic: topic, Key: "k", Value: []byte{v}})
		}
		commit, err := submit(d, step)
		if err != nil {
			t.Fatal(err)
		}
		return commit
	}
	c := read(in.Name, "k", 0)
	if !c.Reached() {
		t.Error("a cursor on an empty topic has not reached its end")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if records, err := c.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an empty topic gave %d records, %v", len(records), err)
	}
	appendTo(in.Name, 1, 2, 3)
	appendTo(in.Name, 4)
	if got := next(t, c, 4); !bytes.Equal(got, []byte{1, 2, 3, 4}) {
		t.Errorf("read %v", got)
	}
	c = read(in.Name, "k", 0)
	if c.Reached() {
		t.Error("a cursor has reached four records that it has not read")
	}
	appendTo(in.Name, 5)
	if next(t, c, 4); !c.Reached() {
		t.Error("a cursor has not reached what was there when it was made")
	}
	if got := next(t, read(in.Name, "k", 3), 2); !bytes.Equal(got, []byte{4, 5}) {
		t.Errorf("from offset 3 on there are %v", got)
	}
	appendTo(entries.Name, 1, 2)
	last := appendTo(entries.Name, 3)
	now, err := d.Current(t.Context(), entries.Name)
	if err != nil || len(now.Stamps) != 1 || now.Stamps[0] != last.Stamps[0] {
		t.Errorf("the present state is %+v, %v; want %+v", now.Stamps, err, last.Stamps)
	}
	if got := next(t, read(entries.Name, "k", 0), 0); got[len(got)-1] != 3 {
		t.Errorf("a compacted topic has %v, want 3 at the end", got)
	}
}

// next reads n records, or, if n is 0, up to the end.
func next(t *testing.T, c bus.Cursor, n int) (values []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(values) < n || n == 0 && !c.Reached() {
		records, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", values, err)
		}
		for _, r := range records {
			if !r.Void {
				values = append(values, r.Value...)
			}
		}
	}
	return values
}

func driverLags(t *testing.T, h Harness) {
	d := open(t, h)
	owner := own(t, d)
	lag := func() (n uint64, age time.Duration) {
		lags, err := d.Lags(t.Context(), in.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lags {
			if l.Reader == worker && l.Partition == partitionOf(d, "k") {
				return l.Records, l.Age
			}
		}
		return 0, 0
	}
	if n, _ := lag(); n != 0 {
		t.Errorf("the lag is %d before there is anything", n)
	}
	record := bus.Append{Topic: in.Name, Key: "k", Value: []byte{1}}
	if _, err := submit(d, bus.Step{Role: client, Appends: []bus.Append{record, record, record, record, record}}); err != nil {
		t.Fatal(err)
	}
	until(t, "five records", func() bool { n, _ := lag(); return n == 5 })
	cursor, err := d.Read(t.Context(), bus.ReadFrom{Topic: in.Name, Partition: partitionOf(d, "k"), Owner: owner("k")})
	if err != nil {
		t.Fatal(err)
	}
	defer cursor.Close()
	next(t, cursor, 5)
	until(t, "the age of records that were read", func() bool { _, age := lag(); return age > 0 })
	for _, of := range []struct {
		finish []uint64
		want   uint64
	}{{[]uint64{3, 1}, 3}, {[]uint64{0}, 2}, {[]uint64{2, 4}, 0}} {
		step := bus.Step{Owner: owner("k")}
		for _, offset := range of.finish {
			step.Finish = append(step.Finish, bus.Place{Topic: in.Name, Offset: offset})
		}
		if _, err := submit(d, step); err != nil {
			t.Fatal(err)
		}
		until(t, fmt.Sprintf("a lag of %d", of.want), func() bool { n, _ := lag(); return n == of.want })
	}
	if lags, err := d.Lags(t.Context(), out.Name); err != nil || len(lags) == 0 || lags[0].Reader != client {
		t.Errorf("the other topic's lags are %+v, %v", lags, err)
	}
}

func closedDriver(t *testing.T, h Harness) {
	d := h.Open(t)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for name, step := range map[string]bus.Step{
		"records": {Role: client, Appends: []bus.Append{{Topic: in.Name, Key: "k", Value: []byte{1}}}},
		"writes":  {Writes: []bus.Write{{RowKey: rowKey("k", ""), Value: []byte{1}}}},
	} {
		if _, err := submit(d, step); !errors.Is(err, bus.ErrClosed) {
			t.Errorf("%s after Close: got %v, want ErrClosed", name, err)
		}
	}
	if err := d.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}
