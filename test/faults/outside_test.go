package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/bustest"
	"github.com/hawser-project/hawser/bus/bustest/history"
)

// noted is what a consumer of the effects has written down: below each key a row per effect, named by its place, and one
// without a name that counts them.
var noted = bus.State[numbered]{Name: "noted", Owner: client}

// timed is a notebook that also knows when things happened.
type timed struct {
	*notebook
	mu    sync.Mutex
	due   map[history.Record]time.Time
	first map[history.Record]time.Time // seen
}

func newTimed() *timed {
	return &timed{notebook: newNotebook(), due: make(map[history.Record]time.Time), first: make(map[history.Record]time.Time)}
}

func (o *timed) dueAt(key string, n int, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.due[history.Record{Key: key, N: n}] = at
}

func (o *timed) seen(key string, n int) {
	o.mu.Lock()
	r := history.Record{Key: key, N: n}
	if _, known := o.first[r]; !known {
		o.first[r] = time.Now()
	}
	o.mu.Unlock()
	o.notebook.seen(key, n)
}

// note is the handler of the consumer of effects.
func note(o observer) func(context.Context, *bus.Tx, string, numbered) error {
	return func(_ context.Context, tx *bus.Tx, key string, v numbered) error {
		o.seen(key, v.N)
		all, _, err := noted.Get(tx, key, "")
		if err != nil {
			return err
		}
		noted.Put(tx, key, fmt.Sprintf("%08d", all.Count+1), numbered{N: v.N})
		noted.Put(tx, key, "", numbered{Count: all.Count + 1})
		return nil
	}
}

// quietBus is a bus without a log.
func quietBus(driver bus.Driver) *bus.Bus {
	return bus.New(driver, bus.Options{Log: slog.New(slog.DiscardHandler)})
}

// consume runs a consumer of the effects until stop is called.
func consume(driver bus.Driver, o observer) (stop func()) {
	c := quietBus(driver).As(client).Consumer()
	effects.Handle(c, note(o))
	return inBackground(func(ctx context.Context) { _ = c.Run(ctx, func() {}) })
}

func inBackground(run func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// publishOnTime publishes pairs of records of a key whenever one is due, whatever has become of the ones before, until ctx
// ends. Latencies are counted from when a record was due, so that waiting is not hidden by not asking.
func publishOnTime(ctx context.Context, driver bus.Driver, o *timed, key string, due time.Time, every time.Duration) {
	var open sync.WaitGroup
	defer open.Wait()
	for n := 1; ; n, due = n+2, due.Add(every) {
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return
		}
		step := &bus.Step{}
		for i := range 2 {
			value, err := bus.Encode(numbered{N: n + i, Fill: make([]byte, 200)})
			if err != nil {
				panic(err)
			}
			step.Appends = append(step.Appends, bus.Append{Topic: records.Name, Key: key, Value: value})
			o.dueAt(key, n+i, due)
		}
		o.sent(key, n+1)
		open.Add(1)
		step.Done = func(_ bus.Commit, err error) {
			defer open.Done()
			if err == nil { // else the fate of the numbers is not known, and they are not used again
				o.acked(key, n)
				o.acked(key, n+1)
			}
		}
		driver.Submit(step)
	}
}

// rawEffects are the effects in the order of their topic as a reader has them who drops what a source has sent twice.
type rawEffects struct {
	list              []history.Record
	duplicates, voids int
}

// readRaw reads the topic of effects and judges itself what counts, not as the driver does it for its consumers.
func readRaw(ctx context.Context, driver bus.Driver) (raw rawEffects, err error) {
	for p := range driver.Partitions(client) {
		cursor, err := driver.Read(ctx, bus.ReadFrom{Topic: effects.Name, Partition: p})
		if err != nil {
			return raw, err
		}
		last := make(map[string]bus.Stamp)
		for !cursor.Reached() && err == nil {
			var found []bus.Record
			found, err = cursor.Next(ctx)
			for _, r := range found {
				err = errors.Join(err, raw.add(last, r))
			}
		}
		cursor.Close()
		if err != nil {
			return raw, err
		}
	}
	return raw, nil
}

func (raw *rawEffects) add(last map[string]bus.Stamp, r bus.Record) error {
	if r.Void {
		raw.voids++
		return nil
	}
	if r.Stamp.Source != "" {
		if before, known := last[r.Stamp.Source]; known && !r.Stamp.After(before) {
			raw.duplicates++
			return nil
		}
		last[r.Stamp.Source] = r.Stamp
	}
	var v numbered
	if err := bus.Decode(r.Value, &v); err != nil {
		return err
	}
	raw.list = append(raw.list, history.Record{Key: r.Key, N: v.N})
	return nil
}

// awaitFirst waits until the workers have work.
func awaitFirst(t *testing.T, notes *timed) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settlePatience)
	defer cancel()
	for {
		if _, seen := notes.counts(); seen > 0 {
			return
		}
		if !poll(ctx) {
			t.Fatalf("nothing was done within %s", settlePatience)
		}
	}
}

const settlePatience = 3 * time.Minute

// settled waits until the steps have run to their end and the consumer has all that there is, and completes the history: once
// with what the topic of effects holds, once with what its consumer has written down.
func settled(t *testing.T, driver bus.Driver, h history.History) (topic, consumer history.History, raw rawEffects) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settlePatience)
	defer cancel()
	awaitWork(ctx, t, driver)
	h = withRows(t, driver, h)
	topic, consumer = h, h
	for {
		if unfinished(ctx, t, driver, effects.Name) == 0 {
			consumer.Effects = notedEffects(t, driver)
		}
		// More than there should be is for the checker, less may be on its way.
		if len(consumer.Effects) >= h.Total {
			break
		}
		if !poll(ctx) {
			t.Errorf("after %s the consumer has %d of %d effects", settlePatience, len(consumer.Effects), h.Total)
			break
		}
	}
	raw, err := readRaw(t.Context(), driver)
	if err != nil {
		t.Fatal(err)
	}
	topic.Effects = raw.list
	return topic, consumer, raw
}

// awaitWork waits until no record is unfinished. What the driver says may be a second old.
func awaitWork(ctx context.Context, t *testing.T, driver bus.Driver) {
	t.Helper()
	var done time.Time
	for done.IsZero() || time.Since(done) < 2*time.Second {
		left := unfinished(ctx, t, driver, records.Name)
		if left > 0 {
			done = time.Time{}
		} else if done.IsZero() {
			done = time.Now()
		}
		if !poll(ctx) {
			t.Errorf("after %s there are %d records unfinished", settlePatience, left)
			return
		}
	}
}

func poll(ctx context.Context) bool {
	select {
	case <-time.After(50 * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}

// unfinished is 1 where it is not known.
func unfinished(ctx context.Context, t *testing.T, driver bus.Driver, topic string) uint64 {
	t.Helper()
	n, err := bustest.Unfinished(ctx, driver, topic)
	if err != nil {
		if ctx.Err() == nil {
			t.Log(err)
		}
		return 1
	}
	return n
}

// withRows adds the rows of the workers' state.
func withRows(t *testing.T, driver bus.Driver, h history.History) history.History {
	t.Helper()
	h.Rows, h.Total = make(map[string]history.Row), 0
	if err := quietBus(driver).As(worker).View(t.Context(), func(r bus.Reader) error {
		list, err := rows.ListKeys(r, "")
		for _, e := range list {
			h.Rows[e.Key] = history.Row{Count: e.Value.Count, Last: e.Value.N}
			if strings.HasPrefix(e.Key, sharedKey) {
				h.Total += e.Value.Count
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	h.Sent = maps.Clone(h.Sent)
	return h
}

func notedEffects(t *testing.T, driver bus.Driver) (list []history.Record) {
	t.Helper()
	if err := quietBus(driver).As(client).View(t.Context(), func(r bus.Reader) error {
		all, err := noted.ListKeys(r, "")
		for _, e := range all {
			if e.Row != "" {
				list = append(list, history.Record{Key: e.Key, N: e.Value.N})
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return list
}
