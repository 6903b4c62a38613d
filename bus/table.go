package bus

import (
	"context"
	"fmt"
	"maps"
	"sync"
)

// Table is a compacted topic in memory. It is as current as its lag; a caller who knows the commit of a change can wait
// for it.
type Table[V any] struct {
	topic  Topic[V]
	client *Client

	mu      sync.RWMutex
	entries map[string]V
	latest  map[string]Stamp // by source
	moved   chan struct{}    // closed and replaced when latest grows
	changed []func(key string)
}

// Table makes a table of the topic. It is empty until Run has read the topic.
func (t Topic[V]) Table(c *Client) *Table[V] {
	if err := c.may(t.Readers, "read", "topic", t.Name); err != nil {
		panic(err) // wired against the table of topics: found by the first test that starts the worker
	}
	return &Table[V]{topic: t, client: c, entries: make(map[string]V), latest: make(map[string]Stamp), moved: make(chan struct{})}
}

// OnChange makes the table call fn, from Run, after each change of a key. It is to be called before Run.
func (t *Table[V]) OnChange(fn func(key string)) { t.changed = append(t.changed, fn) }

// Run reads the topic, calls ready when it has caught up, and follows it until ctx ends. An entry that does not decode
// is passed over: it was written by a later release for those that understand it.
func (t *Table[V]) Run(ctx context.Context, ready func()) error {
	reader, err := t.client.bus.driver.Read(ctx, ReadFrom{Topic: t.topic.Name})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("table %s: %w", t.topic.Name, err)
	}
	defer reader.Close()
	for caughtUp := false; ; {
		if !caughtUp && reader.Reached() {
			caughtUp = true
			ready()
		}
		records, err := reader.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", t.topic.Name, err)
		}
		t.apply(ctx, records)
	}
}

// apply takes in records.
func (t *Table[V]) apply(ctx context.Context, records []Record) {
	t.mu.Lock()
	for _, r := range records {
		if r.Stamp.After(t.latest[r.Stamp.Source]) {
			t.latest[r.Stamp.Source] = r.Stamp
		}
		t.set(ctx, r)
	}
	close(t.moved)
	t.moved = make(chan struct{})
	t.mu.Unlock()
	for _, r := range records {
		if r.Void {
			continue
		}
		for _, fn := range t.changed {
			fn(r.Key)
		}
		t.client.bus.entryChanged(t.topic.Name, r.Key)
	}
}

// set takes in one record. t.mu is held.
func (t *Table[V]) set(ctx context.Context, r Record) {
	switch {
	case r.Void:
		return
	case r.Value == nil:
		delete(t.entries, r.Key)
		return
	}
	var v V
	if err := Decode(r.Value, &v); err != nil {
		t.client.bus.Log.WarnContext(ctx, "table entry does not decode", "topic", t.topic.Name, "offset", r.Offset, "error", err)
		return
	}
	t.entries[r.Key] = v
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
	for _, s := range at.Stamps {
		if s.Topic != t.topic.Name {
			continue
		}
		if err := t.waitFor(ctx, s.Stamp); err != nil {
			return err
		}
	}
	return nil
}

// WaitCurrent returns when the table shows what was committed at the time of the call.
func (t *Table[V]) WaitCurrent(ctx context.Context) error {
	now, err := t.client.bus.driver.Current(ctx, t.topic.Name)
	if err != nil {
		return err
	}
	return t.Wait(ctx, now)
}

func (t *Table[V]) waitFor(ctx context.Context, s Stamp) error {
	for {
		t.mu.RLock()
		there, moved := !s.After(t.latest[s.Source]), t.moved
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
