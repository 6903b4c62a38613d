package bustest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

func conflicts(t *testing.T, h Harness) {
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, _ string, v item) error { return sum(ctx, tx, "shared", v) })
	})
	for k := range 100 {
		c.publish(fmt.Sprintf("k%d", k), item{N: 1})
	}
	c.until("every step", func() bool { return len(c.outputs()) == 100 })
	if got := c.sumOf("shared"); got != 100 {
		t.Errorf("shared sum is %d, want 100", got)
	}
}

// firstWins has many keys make the same absent row.
func firstWins(t *testing.T, h Harness) {
	const keys = 50
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(_ context.Context, tx *bus.Tx, key string, _ item) error {
			_, taken, err := sums.Get(tx, "prize", "")
			if err != nil {
				return err
			}
			if !taken {
				sums.Put(tx, "prize", "", item{Text: key})
			}
			sums.Put(tx, key, "", item{N: 1, Text: fmt.Sprint(taken)})
			out.Send(tx, key, item{Text: fmt.Sprint(taken)})
			return nil
		})
	})
	var keyed []bus.Keyed[item]
	for k := range keys {
		keyed = append(keyed, bus.Keyed[item]{Key: keyName(k)})
	}
	c.publishAll(keyed)
	c.until("every key", func() bool { return len(c.outputs()) == keys })
	winner := c.row("prize", "").Text
	for k := range keys {
		if was, want := c.row(keyName(k), "").Text, fmt.Sprint(keyName(k) != winner); was != want {
			t.Errorf("%s found the row taken: %s, want %s; it is %s's", keyName(k), was, want, winner)
		}
	}
}

// newVersions writes, deletes and makes a row again from several sides while somebody looks: one version is one value.
func newVersions(t *testing.T, h Harness) {
	d := h.Open(t)
	defer func() { _ = d.Close() }()
	key := bus.RowKey{Role: worker, Kind: "versions", Key: "k", Row: "r"}
	var mu sync.Mutex
	of := make(map[uint64]string) // the value of each version
	var last uint64
	look := func() {
		value, version, err := d.Get(t.Context(), key)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || version == 0 {
			return
		}
		if had, known := of[version]; known && had != string(value) {
			t.Errorf("version %d was %s and is %s", version, had, value)
		}
		of[version], last = string(value), version
	}
	var writing sync.WaitGroup
	for writer := range 4 {
		writing.Go(func() {
			for n := range 40 {
				value := fmt.Appendf(nil, "%d/%d", writer, n)
				for _, v := range [][]byte{value, nil, append(value, '+')} {
					if _, err := submit(d, bus.Step{Writes: []bus.Write{{RowKey: key, Value: v}}}); err != nil {
						t.Error(err)
					}
					look()
				}
			}
		})
	}
	writing.Wait()
	before := last
	for _, v := range [][]byte{nil, []byte("anew")} {
		if _, err := submit(d, bus.Step{Writes: []bus.Write{{RowKey: key, Value: v}}}); err != nil {
			t.Fatal(err)
		}
	}
	if look(); last == before {
		t.Errorf("the row was deleted and made again, and its version is %d again", before)
	}
}

// writeSkew has pairs of keys that may each switch themselves off as long as the other is on. Both read before one commits.
func writeSkew(t *testing.T, h Harness) {
	const pairs = 20
	var met [pairs]meeting
	for i := range met {
		met[i].both = make(chan struct{})
	}
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(_ context.Context, tx *bus.Tx, key string, v item) error {
			other, _, err := sums.Get(tx, v.Text, "")
			if err != nil {
				return err
			}
			if tx.Input().Attempt == 1 {
				met[v.N].wait()
			}
			sums.Put(tx, key, "", item{N: 1 - other.N}) // 1 is off
			out.Send(tx, key, item{})
			return nil
		})
	})
	for n := range pairs {
		a, b := fmt.Sprintf("a%d", n), fmt.Sprintf("b%d", n)
		c.publishAll([]bus.Keyed[item]{{Key: a, Value: item{N: n, Text: b}}, {Key: b, Value: item{N: n, Text: a}}})
	}
	c.until("all pairs", func() bool { return len(c.outputs()) == 2*pairs })
	for n := range pairs {
		if off := c.sumOf(fmt.Sprintf("a%d", n)) + c.sumOf(fmt.Sprintf("b%d", n)); off != 1 {
			t.Errorf("of pair %d, %d are off, want 1", n, off)
		}
	}
}

// meeting is where two wait for each other, for a while.
type meeting struct {
	came atomic.Int32
	both chan struct{}
}

func (m *meeting) wait() {
	if m.came.Add(1) == 2 {
		close(m.both)
	}
	select {
	case <-m.both:
	case <-time.After(2 * time.Second): // the other one has tried before
	}
}

// scans has a handler look at all keys, and while it goes on, others write what it has seen.
func scans(t *testing.T, h Harness) {
	scanned, goOn := make(chan int, 10), make(chan struct{})
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if key != "scanner" {
				return sum(ctx, tx, key, v)
			}
			list, err := sums.ListKeys(tx, "k")
			if err != nil {
				return err
			}
			scanned <- len(list)
			<-goOn
			sums.Put(tx, key, "", item{N: tx.Input().Attempt})
			return nil
		})
	})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	c.publish("k1", item{N: 1})
	c.publish("k2", item{N: 1})
	c.until("two rows", func() bool { return c.sumOf("k1") == 1 && c.sumOf("k2") == 1 })
	c.publish("scanner", item{})
	if n := <-scanned; n != 2 {
		t.Errorf("the scan has %d rows, want 2", n)
	}
	c.publish("k1", item{N: 1})
	c.publish("k3", item{N: 1})
	c.until("others write meanwhile", func() bool { return c.sumOf("k1") == 2 && c.sumOf("k3") == 1 })
	release()
	c.until("the scanner", func() bool { return c.sumOf("scanner") > 0 })
	if n := c.sumOf("scanner"); n != 1 {
		t.Errorf("a step that scanned took %d tries, want 1", n)
	}
}
