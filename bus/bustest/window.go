package bustest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

func openRecords(t *testing.T, h Harness) {
	var mu sync.Mutex
	var open []*bus.Open[item]
	wire := func(_ *bus.Client, w *bus.Consumer) {
		in.HandleOpen(w, func(_ context.Context, o *bus.Open[item]) {
			mu.Lock()
			defer mu.Unlock()
			open = append(open, o)
		})
	}
	c := start(t, h, wire)
	c.publish("k", item{N: 1}, item{N: 2}, item{N: 3}, item{N: 4})
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(open) }
	c.until("all are open", func() bool { return count() == 4 })
	for _, i := range []int{3, 1} {
		err := open[i].Finish(t.Context(), func(tx *bus.Tx) error { out.Send(tx, "k", open[i].Value); return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	c.stop()
	open = nil
	c = start(t, h, wire)
	c.until("the others are open again", func() bool { return count() == 2 })
	if open[0].Value.N != 1 || open[1].Value.N != 3 {
		t.Errorf("open again: %d and %d, want 1 and 3", open[0].Value.N, open[1].Value.N)
	}
}

// windowSize is how many records of a partition are open at most (DESIGN.md 2).
const windowSize = 10_000

// opener keeps the open records that it is given, in order.
type opener struct {
	mu   sync.Mutex
	list []*bus.Open[item]
}

func (o *opener) wire(_ *bus.Client, w *bus.Consumer) {
	in.HandleOpen(w, func(_ context.Context, r *bus.Open[item]) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.list = append(o.list, r)
	})
}

func (o *opener) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.list)
}

func (o *opener) at(n int) *bus.Open[item] {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.list[n]
}

// finish ends some records, with a row for each.
func (o *opener) finish(t testing.TB, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		r := o.at(n)
		err := r.Finish(t.Context(), func(tx *bus.Tx) error {
			sums.Put(tx, r.Key, keyName(r.Value.N), item{N: r.Value.N})
			return nil
		})
		if err != nil {
			t.Fatalf("finish %d: %v", n, err)
		}
	}
}

// publishMany publishes records 0 to n-1 of one key.
func (c *cluster) publishMany(key string, n int) {
	c.t.Helper()
	for from := 0; from < n; from += 1000 {
		var items []item
		for i := from; i < min(n, from+1000); i++ {
			items = append(items, item{N: i})
		}
		c.publish(key, items...)
	}
}

func fullWindow(t *testing.T, h Harness) {
	o := new(opener)
	c := start(t, h, o.wire)
	c.publishMany("k", windowSize+50)
	c.until("the window is full", func() bool { return o.count() >= windowSize })
	for _, step := range []struct {
		finish []int
		open   int
	}{
		{nil, windowSize},
		{[]int{5, 3, 9999, 4000}, windowSize}, // the first is still open
		{[]int{0}, windowSize + 1},
		{[]int{2, 1}, windowSize + 4},
		{[]int{4}, windowSize + 6},
	} {
		o.finish(t, step.finish...)
		c.until(fmt.Sprintf("%d records were opened", step.open), func() bool { return o.count() >= step.open })
		wait(30 * time.Millisecond) // for one too many to come
		if n := o.count(); n != step.open {
			t.Fatalf("after %v were finished, %d records were opened; want %d", step.finish, n, step.open)
		}
	}
	for n := range o.count() {
		if got := o.at(n).Value.N; got != n {
			t.Fatalf("record %d was opened as number %d", got, n)
		}
	}
}

// parked moves the whole window to rows, but for one record in the middle, and starts again.
func parked(t *testing.T, h Harness) {
	const records, left, behind = 300, 100, 20
	o := new(opener)
	c := start(t, h, o.wire)
	c.publishMany("k", records)
	c.until("all are open", func() bool { return o.count() == records })
	var moving sync.WaitGroup
	for from := range 3 {
		moving.Go(func() {
			for n := from; n < records; n += 3 {
				if n != left {
					o.finish(t, n)
				}
			}
		})
	}
	moving.Wait()
	c.until("the lag is one record", func() bool {
		n, err := Unfinished(t.Context(), c.driver, in.Name)
		return err == nil && n == 1
	})
	c.stop()
	o = new(opener)
	c = start(t, h, o.wire)
	c.publishMany("k", behind)
	c.until("the one that was left, and new ones, are open", func() bool { return o.count() >= 1+behind })
	if n, first := o.count(), o.at(0).Value.N; n != 1+behind || first != left {
		t.Errorf("%d records are open, the first is %d; want %d and %d", n, first, 1+behind, left)
	}
	if got := c.row("k", keyName(left-1)).N; got != left-1 {
		t.Errorf("the row of a record that was moved holds %d, want %d", got, left-1)
	}
}
