package distributed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// silence makes a process look dead to the others while it goes on.
func silence(d *Driver, silent bool) {
	d.member.mu.Lock()
	d.member.paused = silent
	d.member.mu.Unlock()
	d.member.kick()
}

func TestWhoIsTakenForDeadIsFenced(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d, e := c.open(t, "one"), c.open(t, "two")
	one := own(t, d, "a")
	one.awaitCount(t, 4)
	old := one.of(1)
	row := bus.RowKey{Role: "a", Kind: "k", Key: keyIn(1, 0)}
	mustDo(t, d, bus.Step{Owner: old, Writes: []bus.Write{{RowKey: row, Value: []byte("first")}}})
	silence(d, true)
	exec(t, d, d.schemas.sql("update @common@.member set expires = clock_timestamp() - interval '1 second' where id = $1", ""), d.member.id)
	two := own(t, e, "a")
	two.awaitCount(t, 4)
	mustDo(t, e, bus.Step{Owner: two.of(1), Writes: []bus.Write{{RowKey: row, Value: []byte("second")}}})
	step := bus.Step{Owner: old, Writes: []bus.Write{{RowKey: row, Value: []byte("late")}}, Appends: []bus.Append{{Topic: "out", Key: "x", Value: []byte("late")}}}
	if _, err := do(d, step); !errors.Is(err, bus.ErrLost) {
		t.Errorf("the late step: got %v", err)
	}
	one.await(t, "the loss of partition 1", func() bool { return one.owned[1] == nil })
	if cause := one.causes[1]; !errors.Is(cause, bus.ErrLost) {
		t.Errorf("the cause: got %v", cause)
	}
	if value, _, err := e.Get(t.Context(), row); string(value) != "second" || err != nil {
		t.Errorf("got %q, %v", value, err)
	}
	// It comes back, sees the rest and takes its share again.
	silence(d, false)
	one.awaitCount(t, 2)
	two.awaitCount(t, 2)
}

func TestARestoredDatabaseFencesToo(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	o := own(t, d, "a")
	o.awaitCount(t, 4)
	old := o.of(0)
	mustDo(t, d, bus.Step{Owner: old})
	mustDo(t, d, bus.Step{Owner: old})
	exec(t, d, d.schemas.sql("update @role@.partition set commits = commits - 1 where id = 0", "a"))
	if _, err := do(d, bus.Step{Owner: old}); !errors.Is(err, bus.ErrLost) {
		t.Errorf("got %v", err)
	}
	o.await(t, "another ownership of partition 0", func() bool { return o.owned[0] != nil && o.owned[0] != old })
	mustDo(t, d, bus.Step{Owner: o.of(0)})
}

// blocked makes a driver's connections to Kafka fail while it is set.
func blocked(o *Options) *atomic.Bool {
	var block atomic.Bool
	o.Kafka.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if block.Load() {
			return nil, errors.New("Kafka is not to be reached")
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &gate{conn, &block}, nil
	}
	return &block
}

type gate struct {
	net.Conn
	block *atomic.Bool
}

func (g *gate) Write(b []byte) (int, error) {
	if g.block.Load() {
		_ = g.Conn.Close()
		return 0, errors.New("the connection is cut")
	}
	return g.Conn.Write(b)
}

func TestWhatADeadOwnerLeftIsSentFirst(t *testing.T) {
	t.Parallel()
	c := setup(t)
	cutOff := *c
	block := blocked(&cutOff.o)
	d, e := cutOff.open(t, "one"), c.open(t, "two")
	one := own(t, d, "a")
	one.awaitCount(t, 4)
	mustDo(t, d, bus.Step{Owner: one.of(1), Appends: []bus.Append{{Topic: "out", Key: "x", Value: []byte("0")}}})
	d.all()
	for _, p := range d.all() {
		p.outbox.await(t.Context(), 0, 0)
	}
	block.Store(true)
	for i := range 3 {
		mustDo(t, d, bus.Step{Owner: one.of(1), Appends: []bus.Append{{Topic: "out", Key: "x", Value: fmt.Append(nil, i+1)}}})
	}
	epoch := one.of(1).Epoch
	silence(d, true)
	exec(t, d, d.schemas.sql("update @common@.member set expires = clock_timestamp() - interval '1 second' where id = $1", ""), d.member.id)
	two := own(t, e, "a")
	two.awaitCount(t, 4)
	mustDo(t, e, bus.Step{Owner: two.of(1), Appends: []bus.Append{{Topic: "out", Key: "x", Value: []byte("4")}}})
	records := readSome(t, read(t, e, bus.ReadFrom{Topic: "out", Partition: bus.PartitionOf("x", 4)}), 5)
	var got []string
	for _, r := range records {
		got = append(got, fmt.Sprintf("%s:%d:%v", r.Value, r.Stamp.Sequence, r.Stamp.Epoch == epoch))
	}
	if want := []string{"0:1:true", "1:2:true", "2:3:true", "3:4:true", "4:5:false"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	block.Store(false)
}

func TestRecordsSentAgainAreDropped(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	a, b := own(t, d, "a"), own(t, d, "b")
	a.awaitCount(t, 4)
	b.awaitCount(t, 4)
	to := bus.PartitionOf("x", 4)
	var records []outRecord
	for i := range 4 {
		commit := mustDo(t, d, bus.Step{Owner: a.of(0), Appends: []bus.Append{{Topic: "out", Key: "x", Value: fmt.Append(nil, i)}}})
		records = append(records, outRecord{topic: "out", partition: to, key: "x", value: fmt.Append(nil, i), time: time.Now(), sequence: commit.Stamps[0].Stamp.Sequence})
	}
	p, _ := d.find(a.of(0))
	p.outbox.await(t.Context(), 0, 0)
	p.send(records[1:], a.of(0).Epoch) // as a next owner does that finds them in the outbox
	cursor := read(t, d, bus.ReadFrom{Topic: "out", Partition: to, Owner: b.of(to)})
	mustDo(t, d, bus.Step{Owner: a.of(0), Appends: []bus.Append{{Topic: "out", Key: "x", Value: []byte("4")}}})
	all := readSome(t, cursor, 5)
	if got, want := valid(all), []string{"0", "1", "2", "3", "4"}; !slices.Equal(got, want) || len(all) != 8 {
		t.Errorf("got %v in %d records, want %v in 8", got, len(all), want)
	}
	// What was read and is not finished counts as new for the next owner; what is finished does not, wherever it stands.
	mustDo(t, d, bus.Step{Owner: b.of(to), Finish: []bus.Place{{Topic: "out", Offset: 0}, {Topic: "out", Offset: 1}, {Topic: "out", Offset: 3}}})
	cursor.Close()
	b.stop(t)
	again := own(t, d, "b")
	again.awaitCount(t, 4)
	pos := again.of(to).Positions["out"]
	if pos.Low != 2 || !pos.Done(3) || !pos.Done(4) {
		t.Errorf("got position %+v", pos)
	}
	next := readSome(t, read(t, d, bus.ReadFrom{Topic: "out", Partition: to, Offset: pos.Low, Owner: again.of(to)}), 2)
	if got, want := valid(next), []string{"2", "4"}; !slices.Equal(got, want) {
		t.Errorf("the next owner: got %v, want %v", got, want)
	}
}

func TestVoidRecordsAreFinishedWithoutAStep(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	a, b := own(t, d, "a"), own(t, d, "b")
	a.awaitCount(t, 4)
	b.awaitCount(t, 4)
	to := bus.PartitionOf("x", 4)
	mustDo(t, d, bus.Step{Owner: a.of(0), Appends: []bus.Append{{Topic: "out", Key: "x", Value: []byte("0")}}})
	p, _ := d.find(a.of(0))
	p.outbox.await(t.Context(), 0, 0)
	p.send([]outRecord{{topic: "out", partition: to, key: "x", time: time.Now(), sequence: 1}}, a.of(0).Epoch)
	p.outbox.await(t.Context(), 0, 0)
	cursor := read(t, d, bus.ReadFrom{Topic: "out", Partition: to, Owner: b.of(to)})
	for n := 0; n < 2; {
		records, err := cursor.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n += len(records)
	}
	mustDo(t, d, bus.Step{Owner: b.of(to), Finish: []bus.Place{{Topic: "out", Offset: 0}}})
	awaitLag(t, d, "out", to, 0)
}

// awaitLag waits until the reader of a partition is so far behind.
func awaitLag(t *testing.T, d *Driver, topic string, partition int32, want uint64) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		lags, err := d.Lags(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		if lags[partition].Records == want {
			if (lags[partition].Age > 0) != (want > 0) {
				t.Errorf("got %+v", lags[partition])
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("got %+v, want %d", lags[partition], want)
		}
		pause(t.Context(), 100*time.Millisecond)
	}
}

func TestLagsSayHowFarAndHowLong(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	a := own(t, d, "a")
	a.awaitCount(t, 4)
	to := bus.PartitionOf("x", 4)
	for range 3 {
		mustDo(t, d, bus.Step{Appends: []bus.Append{{Topic: "in", Key: "x", Value: []byte("v")}}})
	}
	readSome(t, read(t, d, bus.ReadFrom{Topic: "in", Partition: to, Owner: a.of(to)}), 3)
	mustDo(t, d, bus.Step{Owner: a.of(to), Finish: []bus.Place{{Topic: "in", Offset: 1}}})
	awaitLag(t, d, "in", to, 2)
	mustDo(t, d, bus.Step{Owner: a.of(to), Finish: []bus.Place{{Topic: "in", Offset: 0}, {Topic: "in", Offset: 2}}})
	awaitLag(t, d, "in", to, 0)
}

// TestARestoredDatabaseKnowsWhatNeverWas goes back to an earlier state of the database while Kafka stays: what was sent
// since is void for readers, also for those of a later owner.
func TestARestoredDatabaseKnowsWhatNeverWas(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	a, b := own(t, d, "a"), own(t, d, "b")
	a.awaitCount(t, 4)
	b.awaitCount(t, 4)
	to := bus.PartitionOf("x", 4)
	send := func(d *Driver, o *bus.Ownership, value string) {
		t.Helper()
		mustDo(t, d, bus.Step{Owner: o, Appends: []bus.Append{{Topic: "out", Key: "x", Value: []byte(value)}, {Topic: "table", Key: "x", Value: []byte(value)}}})
	}
	send(d, a.of(0), "kept")
	a.stop(t)
	b.stop(t)
	_ = d.Close()

	c.copySchemas(t, c.o.Postgres.Prefix, c.o.Postgres.Prefix+"_save")
	t.Cleanup(func() { c.dropSaved(t, c.o.Postgres.Prefix+"_save") })
	d = c.open(t, "one, later")
	a, b = own(t, d, "a"), own(t, d, "b")
	a.awaitCount(t, 4)
	b.awaitCount(t, 4)
	send(d, a.of(0), "undone")
	cursor := read(t, d, bus.ReadFrom{Topic: "out", Partition: to, Owner: b.of(to)})
	if got := valid(readSome(t, cursor, 2)); !slices.Equal(got, []string{"kept", "undone"}) {
		t.Errorf("before: got %v", got)
	}
	mustDo(t, d, bus.Step{Owner: b.of(to), Finish: []bus.Place{{Topic: "out", Offset: 0}, {Topic: "out", Offset: 1}}})
	undone := a.of(0).Epoch
	a.stop(t)
	b.stop(t)
	_ = d.Close()

	c.copySchemas(t, c.o.Postgres.Prefix+"_save", c.o.Postgres.Prefix)
	for try := range 2 { // and a later owner sees the same
		d = c.open(t, "after the restore")
		a, b = own(t, d, "a"), own(t, d, "b")
		a.awaitCount(t, 4)
		b.awaitCount(t, 4)
		if got := a.of(0).Epoch; got <= undone {
			t.Errorf("got epoch %d, want one above %d, which the database has forgotten", got, undone)
		}
		cursor = read(t, d, bus.ReadFrom{Topic: "out", Partition: to, Owner: b.of(to)})
		table := read(t, d, bus.ReadFrom{Topic: "table"})
		send(d, a.of(0), fmt.Sprint("new ", try))
		want := []string{"kept", "new 0", "new 1"}[:2+try]
		if got := valid(readSome(t, cursor, len(want))); !slices.Equal(got, want) {
			t.Errorf("owner's: got %v, want %v", got, want)
		}
		if got, want := valuesUntil(t, table, want[len(want)-1]), want[len(want)-2:]; !slices.Equal(got, want) {
			t.Errorf("table's: got %v, want %v", got, want)
		}
		a.stop(t)
		b.stop(t)
		_ = d.Close()
	}
}

// valuesUntil returns the values that a cursor gives until a certain one, without those that are given again.
func valuesUntil(t *testing.T, c bus.Cursor, last string) (values []string) {
	t.Helper()
	for !slices.Contains(values, last) {
		values = slices.Compact(append(values, valid(readSome(t, c, 1))...))
	}
	return values
}

// copySchemas copies the tables of all schemas from one prefix to another.
func (c *cluster) copySchemas(t *testing.T, from, to string) {
	t.Helper()
	pool, err := openPool(t.Context(), c.o.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	tables := map[string][]string{
		"": {"meta", "member", "state", "published", "schema_version"}, "a": {"state", "partition", "epoch", "outbox", "entry"}, "b": {"state", "partition", "epoch", "outbox", "entry"},
	}
	for role, names := range tables {
		source, sink := newSchemas(from).of(role), newSchemas(to).of(role)
		statements := []string{"create schema if not exists " + sink}
		for _, n := range slices.Backward(names) {
			statements = append(statements, fmt.Sprintf("create table if not exists %s.%s (like %s.%s)", sink, n, source, n), fmt.Sprintf("delete from %s.%s", sink, n))
		}
		for _, n := range names {
			statements = append(statements, fmt.Sprintf("insert into %s.%s select * from %s.%s", sink, n, source, n))
		}
		if _, err := pool.Exec(t.Context(), strings.Join(statements, ";")); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cluster) dropSaved(t *testing.T, prefix string) {
	pool, err := openPool(context.Background(), c.o.Postgres)
	if err != nil {
		t.Error(err)
		return
	}
	defer pool.Close()
	for _, role := range []string{"", "a", "b"} {
		if _, err := pool.Exec(context.Background(), "drop schema "+newSchemas(prefix).of(role)+" cascade"); err != nil {
			t.Error(err)
		}
	}
}

// TestCommitsWhoseAnswerIsLost cuts connections to PostgreSQL at random places while counters are written: each step is
// done once, whatever became of its answer.
func TestCommitsWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	c := setup(t)
	var cuts, count atomic.Int64
	c.o.Postgres.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &flaky{Conn: conn, count: &count, cuts: &cuts}, nil
	}
	d := c.open(t, "one")
	o := own(t, d, "a")
	o.awaitCount(t, 4)
	const steps = 300
	shared := bus.RowKey{Kind: "count", Key: "n"}
	want := 0
	for i := range steps {
		if i == 20 {
			count.Store(1) // from now on
		}
		step := bus.Step{Owner: o.of(3), Appends: []bus.Append{{Topic: "out", Key: "x", Value: fmt.Append(nil, i)}}}
		if i%2 == 0 {
			value, version, err := d.Get(t.Context(), shared)
			if err != nil {
				t.Fatal(err)
			}
			step.Checks = []bus.Check{{RowKey: shared, Version: version}}
			step.Writes = []bus.Write{{RowKey: shared, Value: append(value, 'x')}}
			want++
		}
		commit := mustDo(t, d, step)
		if got := commit.Stamps[0].Stamp.Sequence; got != uint64(i+1) {
			t.Fatalf("step %d: got sequence %d", i, got)
		}
	}
	count.Store(0)
	if value, _, err := d.Get(t.Context(), shared); len(value) != want || err != nil {
		t.Errorf("got %d, %v; want %d", len(value), err, want)
	}
	records := valid(readSome(t, read(t, d, bus.ReadFrom{Topic: "out", Partition: bus.PartitionOf("x", 4)}), steps))
	for i, got := range records {
		if got != fmt.Sprint(i) {
			t.Fatalf("record %d: got %s", i, got)
		}
	}
	t.Logf("%d connections were cut", cuts.Load())
	if cuts.Load() == 0 {
		t.Error("no connection was cut")
	}
}

// flaky breaks every seventh or so write, before or after it, once count is not 0.
type flaky struct {
	net.Conn
	count, cuts *atomic.Int64
}

func (f *flaky) Write(b []byte) (int, error) {
	if f.count.Load() == 0 {
		return f.Conn.Write(b)
	}
	switch n := f.count.Add(1); {
	case n%23 == 0: // it arrives, and the answer does not
		f.cuts.Add(1)
		_, _ = f.Conn.Write(b)
		pause(context.Background(), 3*time.Millisecond)
		_ = f.Conn.Close()
		return 0, errors.New("the connection is cut")
	case n%37 == 0: // it does not arrive
		f.cuts.Add(1)
		_ = f.Conn.Close()
		return 0, errors.New("the connection is cut")
	case n%41 == 0: // half of it does
		f.cuts.Add(1)
		_, _ = f.Conn.Write(b[:len(b)/2])
		_ = f.Conn.Close()
		return 0, errors.New("the connection is cut")
	}
	return f.Conn.Write(b)
}
