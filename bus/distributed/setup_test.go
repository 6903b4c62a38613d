package distributed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/internal/secret"
)

const testPartitions = 4

// cluster is Kafka and PostgreSQL for one test, under names of its own.
type cluster struct{ o Options }

var testTopics = []bus.Definition{
	{What: "topic", Name: "in", From: []bus.Role{"a", "b"}, To: []bus.Role{"a"}},
	{What: "topic", Name: "out", From: []bus.Role{"a"}, To: []bus.Role{"b"}},
	{What: "topic", Name: "table", From: []bus.Role{"a", "b"}, To: []bus.Role{"a", "b"}, Compacted: true},
	{What: "command", Name: "not.a.topic"},
}

func setup(t testing.TB) *cluster { return setupCluster(t, func(*Options) {}) }

func setupCluster(t testing.TB, change func(*Options)) *cluster {
	brokers, url := os.Getenv("HAWSER_TEST_KAFKA"), os.Getenv("HAWSER_TEST_POSTGRES")
	if brokers == "" || url == "" {
		t.Skip(`HAWSER_TEST_KAFKA and HAWSER_TEST_POSTGRES are not set: eval "$(dev/services up)"`)
	}
	prefix := "t" + strings.ToLower(rand.Text()[:12])
	c := &cluster{o: Options{
		Kafka:    Kafka{Brokers: strings.Split(brokers, ","), Prefix: prefix},
		Postgres: Postgres{URL: secret.FromString(url), Prefix: prefix, Pool: 8},
		Topics:   testTopics, Roles: []bus.Role{"a", "b"}, Run: []bus.Role{"a", "b"},
		Lease: time.Second, Heartbeat: 100 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(&testWriter{t: t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}}
	change(&c.o)
	if err := Init(context.WithoutCancel(t.Context()), c.o, InitOptions{Partitions: testPartitions}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.drop(t) })
	return c
}

// testWriter keeps what is logged after the test from failing it.
type testWriter struct {
	mu   sync.Mutex
	t    testing.TB
	over bool
}

func (w *testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over && w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSuffix(string(b), "\n"))
	}
	return len(b), nil
}

func (c *cluster) drop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.o.Postgres.URL.RevealString())
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	s := newSchemas(c.o.Postgres.Prefix)
	for _, role := range append(roleNames(c.o.Roles), "") {
		if _, err := conn.Exec(ctx, "drop schema if exists "+s.of(role)+" cascade"); err != nil {
			t.Error(err)
		}
	}
	client, err := openKafka(c.o.Kafka, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	var names []string
	for _, d := range c.o.Topics {
		names = append(names, c.o.topic(d.Name))
	}
	if _, err := kadm.NewClient(client).DeleteTopics(ctx, names...); err != nil {
		t.Error(err)
	}
}

// open opens a driver that the test closes, or the end of the test.
func (c *cluster) open(t testing.TB, name string) *Driver {
	t.Helper()
	o := c.o
	o.Name = name
	d, err := Open(context.WithoutCancel(t.Context()), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// owner owns partitions of a role, and does nothing with them.
type owner struct {
	d      *Driver
	role   bus.Role
	cancel context.CancelFunc
	done   chan error

	mu      sync.Mutex
	owned   map[int32]*bus.Ownership
	causes  map[int32]error // of the end of the last ownership
	changed chan struct{}
}

func own(t testing.TB, d *Driver, role bus.Role) *owner {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	o := &owner{
		d: d, role: role, cancel: cancel, done: make(chan error, 1), owned: make(map[int32]*bus.Ownership),
		causes: make(map[int32]error), changed: make(chan struct{}),
	}
	go func() { o.done <- d.Own(ctx, role, o.run) }()
	t.Cleanup(cancel)
	return o
}

func (o *owner) run(ctx context.Context, ownership *bus.Ownership) {
	o.set(func() { o.owned[ownership.Partition] = ownership })
	<-ctx.Done()
	o.set(func() {
		delete(o.owned, ownership.Partition)
		o.causes[ownership.Partition] = context.Cause(ctx)
	})
}

func (o *owner) set(fn func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fn()
	close(o.changed)
	o.changed = make(chan struct{})
}

// await waits until the condition holds; it is called with o.mu held.
func (o *owner) await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	end := time.NewTimer(20 * time.Second)
	defer end.Stop()
	for {
		o.mu.Lock()
		there, changed, has := condition(), o.changed, len(o.owned)
		o.mu.Unlock()
		if there {
			return
		}
		select {
		case <-changed:
		case <-end.C:
			t.Fatalf("%s does not come about; %d partitions are owned", what, has)
		}
	}
}

func (o *owner) awaitCount(t testing.TB, n int) {
	t.Helper()
	o.await(t, fmt.Sprintf("owning %d partitions", n), func() bool { return len(o.owned) == n })
}

func (o *owner) of(partition int32) *bus.Ownership {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.owned[partition]
}

// stop gives up everything.
// one returns one of the partitions that are owned.
func (o *owner) one() *bus.Ownership {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, ownership := range o.owned {
		return ownership
	}
	return nil
}

func (o *owner) stop(t testing.TB) {
	t.Helper()
	o.cancel()
	select {
	case err := <-o.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Own does not return")
	}
}

// do commits a step and returns what Done was told.
func do(d *Driver, step bus.Step) (bus.Commit, error) {
	type result struct {
		commit bus.Commit
		err    error
	}
	done := make(chan result, 1)
	step.Done = func(c bus.Commit, err error) { done <- result{c, err} }
	d.Submit(&step)
	select {
	case r := <-done:
		return r.commit, r.err
	case <-time.After(30 * time.Second):
		return bus.Commit{}, errors.New("the step is never done")
	}
}

func mustDo(t testing.TB, d *Driver, step bus.Step) bus.Commit {
	t.Helper()
	c, err := do(d, step)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// keyIn returns a key of a partition.
func keyIn(partition int32, n int) string {
	for i := 0; ; i++ {
		key := fmt.Sprintf("key-%d-%d", n, i)
		if bus.PartitionOf(key, testPartitions) == partition {
			return key
		}
	}
}

// readSome reads until there are n records that are not void, and returns them all.
func readSome(t testing.TB, c bus.Cursor, n int) (records []bus.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for count := 0; count < n; {
		more, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("after %d records of %d: %v", count, n, err)
		}
		for _, r := range more {
			if !r.Void {
				count++
			}
		}
		records = append(records, more...)
	}
	return records
}

// valid leaves out void records.
func valid(records []bus.Record) (values []string) {
	for _, r := range records {
		if !r.Void {
			values = append(values, string(r.Value))
		}
	}
	return values
}

func read(t testing.TB, d *Driver, from bus.ReadFrom) bus.Cursor {
	t.Helper()
	c, err := d.Read(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func exec(t testing.TB, d *Driver, sql string, args ...any) {
	t.Helper()
	if _, err := d.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// timeoutContext is for cleaning up, when the test's own context has ended.
func timeoutContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}
