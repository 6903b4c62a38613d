package bus

import (
	"context"
	"maps"
	"sync"
)

// Table is a compacted topic in memory. It is as current as its lag; a caller who knows the place of a change can wait
// for it.
type Table[V any] struct {
	topic  Topic[V]
	client *Client

	mu      sync.RWMutex
	entries map[string]V
	next    uint64
	moved   chan struct{} // closed and replaced when next grows
	changed []func(key string)
}

// Table makes a table of the topic. It is empty until Run has read the topic.
func (t Topic[V]) Table(c *Client) *Table[V] {
	if err := c.may(t.Readers, "read", "topic", t.Name); err != nil {
		panic(err) // wired against the table of topics: found by the first test that starts the worker
	}
	return &Table[V]{topic: t, client: c, entries: make(map[string]V), moved: make(chan struct{})}
}

// OnChange makes the table call fn, from Run, after each change of a key. It is to be called before Run.
func (t *Table[V]) OnChange(fn func(key string)) { t.changed = append(t.changed, fn) }

// Run reads the topic, calls ready when it has caught up, and follows it until ctx ends. An entry that does not decode
// is passed over: it was written by a later release for those that understand it.
func (t *Table[V]) Run(ctx context.Context, ready func()) error {
	driver := t.client.bus.driver
	first, _ := driver.End(t.topic.Name, 0)
	caughtUp := false
	for {
		if !caughtUp && t.place() >= first {
			caughtUp = true
			ready()
		}
		end, grown := driver.End(t.topic.Name, 0)
		if t.place() >= end {
			select {
			case <-grown:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		records, err := driver.Read(ctx, t.topic.Name, 0, t.place(), readBatch)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		t.apply(ctx, records, end)
	}
}

// apply takes in records; with none left before end, what is there was compacted away.
func (t *Table[V]) apply(ctx context.Context, records []Record, end uint64) {
	t.mu.Lock()
	for _, r := range records {
		t.next = r.Offset + 1
		if r.Value == nil {
			delete(t.entries, r.Key)
			continue
		}
		var v V
		if err := Decode(r.Value, &v); err != nil {
			t.client.bus.log.WarnContext(ctx, "table entry does not decode", "topic", t.topic.Name, "offset", r.Offset, "error", err)
			continue
		}
		t.entries[r.Key] = v
	}
	if len(records) == 0 {
		t.next = end
	}
	close(t.moved)
	t.moved = make(chan struct{})
	t.mu.Unlock()
	for _, r := range records {
		for _, fn := range t.changed {
			fn(r.Key)
		}
	}
}

func (t *Table[V]) place() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.next
}

// Get returns an entry. What it points to is shared and must not be changed.
func (t *Table[V]) Get(key string) (V, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	v, found := t.entries[key]
	return v, found
}

// All returns a copy of the table.
func (t *Table[V]) All() map[string]V {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return maps.Clone(t.entries)
}

// Until names an entry of the table for Hold.
func (t *Table[V]) Until(key string) Until { return Until{Topic: t.topic.Name, Key: key} }

// Wait returns when the table shows the commit, or when ctx ends.
func (t *Table[V]) Wait(ctx context.Context, at Commit) error {
	for _, o := range at.Offsets {
		if o.Topic != t.topic.Name {
			continue
		}
		if err := t.waitFor(ctx, o.Offset+1); err != nil {
			return err
		}
	}
	return nil
}

// WaitCurrent returns when the table shows what was durable at the time of the call.
func (t *Table[V]) WaitCurrent(ctx context.Context) error {
	end, _ := t.client.bus.driver.End(t.topic.Name, 0)
	return t.waitFor(ctx, end)
}

func (t *Table[V]) waitFor(ctx context.Context, next uint64) error {
	for {
		t.mu.RLock()
		there, moved := t.next >= next, t.moved
		t.mu.RUnlock()
		if there {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return failure(kindUnavailable, "table %s is behind: %w", t.topic.Name, ctx.Err())
		}
	}
}
