package distributed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/bustest"
)

// harness is a cluster whose processes are all in the test's own.
type harness struct {
	*cluster

	mu        sync.Mutex
	processes map[bus.Driver]*lines
}

var _ bustest.Shared = (*harness)(nil)

func newHarness(t testing.TB) *harness {
	c := setupWith(t, bustest.Definitions(), bustest.Roles())
	c.o.Lease, c.o.Heartbeat = 4*time.Second, 200*time.Millisecond // a busy machine must not take the living for dead
	return &harness{cluster: c, processes: make(map[bus.Driver]*lines)}
}

// Open implements bustest.Harness.
func (h *harness) Open(t testing.TB) bus.Driver {
	t.Helper()
	l := &lines{open: make(map[*line]struct{})}
	h.mu.Lock()
	o := h.o
	o.Name = fmt.Sprintf("process %d", len(h.processes)+1)
	h.mu.Unlock()
	o.Kafka.Dial, o.Postgres.Dial = l.dial, l.dial
	d, err := Open(context.WithoutCancel(t.Context()), o)
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.processes[d] = l
	return d
}

func (h *harness) linesOf(d bus.Driver) *lines {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.processes[d]
}

// Lose implements bustest.Shared.
func (h *harness) Lose(t testing.TB, d bus.Driver) {
	t.Helper()
	silence(d.(*Driver), true)
	h.expire(t, d.(*Driver))
}

// expire ends the lease of a process that does not renew it.
func (h *harness) expire(t testing.TB, d *Driver) {
	t.Helper()
	h.database(t, func(ctx context.Context, db *pgx.Conn) error {
		_, err := db.Exec(ctx, d.schemas.sql("update @common@.member set expires = clock_timestamp() - interval '1 second' where id = $1", ""), d.member.id)
		return err
	})
}

func (h *harness) database(t testing.TB, fn func(ctx context.Context, db *pgx.Conn) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, h.o.Postgres.URL.RevealString())
	if err == nil {
		err = errors.Join(fn(ctx, conn), conn.Close(ctx))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// HoldSends implements bustest.Shared.
func (h *harness) HoldSends(d bus.Driver) (release func()) { return h.linesOf(d).hold() }

// Kill implements bustest.Shared.
func (h *harness) Kill(t testing.TB, d bus.Driver) (bury func()) {
	t.Helper()
	l := h.linesOf(d)
	l.cut()
	h.expire(t, d.(*Driver))
	return l.mend
}

// Again implements bustest.Shared.
func (h *harness) Again(t testing.TB, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	opts, err := clientOptions(h.o.Kafka, h.o.Log)
	if err != nil {
		t.Fatal(err)
	}
	name := h.o.topic(topic)
	client, err := kgo.NewClient(append(opts, kgo.ConsumeTopics(name), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	var left int64
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	var again []*kgo.Record
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			again = append(again, &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp})
		})
	}
	if err := client.ProduceSync(ctx, again...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// Snapshot implements bustest.Shared. Blobs are left out.
func (h *harness) Snapshot(t testing.TB) (restore func()) {
	t.Helper()
	tables := map[string][]string{"": {"meta", "member", "state", "published"}}
	for _, r := range h.o.Roles {
		tables[string(r)] = []string{"state", "partition", "epoch", "outbox", "entry"}
	}
	live, saved := newSchemas(h.o.Postgres.Prefix), newSchemas(h.o.Postgres.Prefix+"_save")
	copyAll := func(from, to *schemas, statements ...string) {
		t.Helper()
		h.database(t, func(ctx context.Context, db *pgx.Conn) error {
			return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
				for role, names := range tables {
					for _, n := range names {
						for _, s := range statements {
							s = strings.NewReplacer("TO", to.of(role), "FROM", from.of(role), "TABLE", n).Replace(s)
							if _, err := tx.Exec(ctx, s); err != nil {
								return err
							}
						}
					}
				}
				return nil
			})
		})
	}
	copyAll(live, saved, "create schema if not exists TO", "create table TO.TABLE as table FROM.TABLE",
		"create table if not exists TO.version as select last_value from FROM.version")
	t.Cleanup(func() { copyAll(live, saved, "drop schema if exists TO cascade") })
	return func() {
		t.Helper()
		copyAll(saved, live, "set local session_replication_role = replica", "delete from TO.TABLE", "insert into TO.TABLE select * from FROM.TABLE",
			"select setval('TO.version', (select last_value from FROM.version))")
	}
}

// lines are the connections of one process.
type lines struct {
	mu   sync.Mutex
	dead bool
	held chan struct{} // while records are held back; closed when they may go
	open map[*line]struct{}
}

var errCut = errors.New("the process is dead")

func (l *lines) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	dead := l.dead
	l.mu.Unlock()
	if dead {
		return nil, errCut
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w := &line{Conn: conn, of: l, closed: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return nil, errors.Join(errCut, conn.Close())
	}
	l.open[w] = struct{}{}
	return w, nil
}

// cut ends all connections, and makes new ones fail.
func (l *lines) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for w := range l.open {
		_ = w.Conn.Close()
	}
}

func (l *lines) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = false
}

func (l *lines) hold() (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(chan struct{})
	l.held = held
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.held = nil
		close(held)
	}
}

// line is a connection that holds back requests to produce: their kind is 0, and comes after their length.
type line struct {
	net.Conn
	of     *lines
	once   sync.Once
	closed chan struct{}
}

func (w *line) Write(b []byte) (int, error) {
	w.of.mu.Lock()
	held := w.of.held
	w.of.mu.Unlock()
	if held != nil && len(b) > 6 && b[4] == 0 && b[5] == 0 && int(b[0])<<24|int(b[1])<<16|int(b[2])<<8|int(b[3]) == len(b)-4 {
		select {
		case <-held:
		case <-w.closed:
			return 0, net.ErrClosed
		}
	}
	return w.Conn.Write(b)
}

func (w *line) Close() error {
	w.once.Do(func() {
		close(w.closed)
		w.of.mu.Lock()
		defer w.of.mu.Unlock()
		delete(w.of.open, w)
	})
	return w.Conn.Close()
}
