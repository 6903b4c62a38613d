package faults

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/bustest"
	"github.com/hawser-project/hawser/bus/bustest/history"
)

const (
	worker = bus.Role("worker")
	client = bus.Role("client")
)

// numbered is a record, an effect, and a row: N is the record's number, Count how many the row has counted.
type numbered struct {
	N     int    `cbor:"1,keyasint"`
	Count int    `cbor:"2,keyasint,omitempty"`
	Fill  []byte `cbor:"3,keyasint,omitempty"`
}

var (
	records = bus.Topic[numbered]{Name: "records", Writers: []bus.Role{client}, Readers: []bus.Role{worker}}
	effects = bus.Topic[numbered]{Name: "effects", Writers: []bus.Role{worker}, Readers: []bus.Role{client}}
	rows    = bus.State[numbered]{Name: "rows", Owner: worker}
)

// sharedKey is the key of the row that all steps change. It is no record's key.
const sharedKey = "all"

func definitions() []bus.Definition {
	return []bus.Definition{records.Definition(), effects.Definition(), rows.Definition(), noted.Definition()}
}

// handle sends the effect of a record on, and counts it in the key's row and in the shared one.
func handle(_ context.Context, tx *bus.Tx, key string, v numbered) error {
	return count(tx, key, v, sharedKey)
}

func count(tx *bus.Tx, key string, v numbered, shared string) error {
	own, _, err := rows.Get(tx, key, "")
	if err != nil {
		return err
	}
	rows.Put(tx, key, "", numbered{N: v.N, Count: own.Count + 1, Fill: v.Fill})
	effects.Send(tx, key, numbered{N: v.N, Count: own.Count + 1})
	all, _, err := rows.Get(tx, shared, "")
	if err != nil {
		return err
	}
	rows.Put(tx, shared, "", numbered{Count: all.Count + 1})
	return nil
}

// An observer is told what happens, at the moment at which somebody outside of the bus knows it.
type observer interface {
	sent(key string, n int)
	acked(key string, n int)
	seen(key string, n int)
}

// notebook is an observer within the test's process. A moment of truth (a crash, or the process's end) closes it: what comes
// later has not happened.
type notebook struct {
	mu      sync.Mutex
	closed  bool
	history history.History
}

func newNotebook() *notebook { return &notebook{history: history.History{Sent: make(map[string]int)}} }

func (n *notebook) write(do func(h *history.History)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		do(&n.history)
	}
}

func (n *notebook) sent(key string, i int) {
	n.write(func(h *history.History) { h.Sent[key] = max(h.Sent[key], i) })
}
func (n *notebook) acked(key string, i int) {
	n.write(func(h *history.History) { h.Acked = append(h.Acked, history.Record{Key: key, N: i}) })
}
func (n *notebook) seen(key string, i int) {
	n.write(func(h *history.History) { h.Seen = append(h.Seen, history.Record{Key: key, N: i}) })
}

// close runs do at a moment at which nothing is being written down, and nothing will be from then on.
func (n *notebook) close(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	do()
	n.closed = true
}

func (n *notebook) open() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = false
}

func (n *notebook) sentOf() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.history.Sent)
}

// counts returns how many records were acknowledged and how many effects seen.
func (n *notebook) counts() (acked, seen int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.history.Acked), len(n.history.Seen)
}

// load is how much a workload publishes: pairs of records on each of some keys; 0 pairs: until it is stopped.
type load struct {
	keys, pairs int
	fill        int // octets in each record
}

// running is a workload on a driver.
type running struct {
	cancel     context.CancelFunc
	publishing sync.WaitGroup
	ended      sync.WaitGroup
}

// start runs a worker, one publisher per key, which goes on after the numbers in from, and a reader of the effects.
func start(driver bus.Driver, o observer, l load, from map[string]int) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel}
	b := bus.New(driver, bus.Options{Log: slog.New(slog.DiscardHandler)})
	w := b.As(worker).Consumer()
	records.Handle(w, handle)
	r.ended.Go(func() { _ = w.Run(ctx, func() {}) })
	r.ended.Go(func() { watch(ctx, driver, o) })
	for k := range l.keys {
		key := fmt.Sprintf("k%d", k)
		r.publishing.Go(func() { publish(ctx, b.As(client), o, key, from[key], l) })
	}
	return r
}

// publish sends records in pairs. A number whose fate is not known is not used again.
func publish(ctx context.Context, c *bus.Client, o observer, key string, n int, l load) {
	fill := make([]byte, l.fill)
	for pair := 0; ctx.Err() == nil && (l.pairs == 0 || pair < l.pairs); pair++ {
		o.sent(key, n+2)
		_, err := records.Publish(ctx, c,
			bus.Keyed[numbered]{Key: key, Value: numbered{N: n + 1, Fill: fill}},
			bus.Keyed[numbered]{Key: key, Value: numbered{N: n + 2, Fill: fill}})
		if err == nil {
			o.acked(key, n+1)
			o.acked(key, n+2)
		}
		n += 2
	}
}

// watch reads the effects as they become readable.
func watch(ctx context.Context, driver bus.Driver, o observer) {
	_ = bustest.Watch(ctx, driver, effects.Definition(), func(r bus.Record) {
		var v numbered
		if bus.Decode(r.Value, &v) == nil {
			o.seen(r.Key, v.N)
		}
	})
}

func readEffects(ctx context.Context, driver bus.Driver) (list []history.Record, err error) {
	found, err := bustest.ReadAll(ctx, driver, effects.Definition())
	if err != nil {
		return nil, err
	}
	for _, r := range found {
		var v numbered
		if err := bus.Decode(r.Value, &v); err != nil {
			return nil, err
		}
		list = append(list, history.Record{Key: r.Key, N: v.N})
	}
	return list, nil
}

// stop ends the workload; the driver stays open.
func (r *running) stop() {
	r.cancel()
	r.publishing.Wait()
	r.ended.Wait()
}

// settle lets the steps run to their end on what is left, and completes the history with it.
func settle(t *testing.T, driver bus.Driver, h history.History) history.History {
	t.Helper()
	r := start(driver, newNotebook(), load{}, nil)
	defer r.stop()
	for {
		left, err := bustest.Unfinished(t.Context(), driver, records.Name)
		if err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			break
		}
		<-time.After(time.Millisecond)
	}
	if err := driver.Barrier(t.Context()); err != nil { // a position moves before the disk has it
		t.Fatal(err)
	}
	h.Acked, h.Seen = slices.Clone(h.Acked), slices.Clone(h.Seen)
	var err error
	if h.Effects, err = readEffects(t.Context(), driver); err != nil {
		t.Fatal(err)
	}
	h.Rows = make(map[string]history.Row)
	b := bus.New(driver, bus.Options{Log: slog.New(slog.DiscardHandler)})
	if err := b.As(worker).View(t.Context(), func(r bus.Reader) error {
		list, err := rows.ListKeys(r, "")
		for _, e := range list {
			h.Rows[e.Key] = history.Row{Count: e.Value.Count, Last: e.Value.N}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	h.Total = h.Rows[sharedKey].Count
	return h
}

// mustHold fails the test for each violation, up to a number that can be read.
func mustHold(t *testing.T, h history.History) {
	t.Helper()
	for i, v := range history.Check(h) {
		if i == 10 {
			t.Error("and more")
			return
		}
		t.Error(v)
	}
}
