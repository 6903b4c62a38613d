package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// feed reads one topic for a partition. What it has handed out and is not finished is its window, which is bounded: at the
// bound it stops reading.
type feed struct {
	*partition
	subscription

	mu    sync.Mutex
	pos   Position
	count int
	bytes int
	freed chan struct{}
}

// Handle makes the consumer hand the topic's records to fn, those of one key one at a time, in order. fn may be called
// again for the same record after a crash, with the state as it was before the first try.
func (t Topic[V]) Handle(c *Consumer, fn func(ctx context.Context, tx *Tx, key string, v V) error) {
	c.subscribe(t.Readers, t.Name, func(f *feed, r Record) bool {
		return f.enqueue(f.input(r, recordHandler(r.Key, r.Value, fn)))
	})
	c.addRehandler(t.Name, func(key string, value []byte) func(context.Context, *Tx) error {
		return recordHandler(key, value, fn)
	})
}

func recordHandler[V any](key string, value []byte, fn func(context.Context, *Tx, string, V) error) func(context.Context, *Tx) error {
	return func(ctx context.Context, tx *Tx) error {
		var v V
		if err := Decode(value, &v); err != nil {
			return err
		}
		return fn(ctx, tx, key, v)
	}
}

// Open is a record whose work ends outside of its handler, in any order. Until Finish it is in the consumer's window.
type Open[V any] struct {
	Key    string
	Value  V
	Record Record
	// Gone is closed when the partition of the record is this process's no more: Finish is of no use then.
	Gone <-chan struct{}

	feed *feed
	once sync.Once
}

// HandleOpen makes the consumer hand the topic's records to fn without waiting for their end, those of one partition one
// after the other. A record that does not decode is set aside as poison.
func (t Topic[V]) HandleOpen(c *Consumer, fn func(ctx context.Context, open *Open[V])) {
	c.subscribe(t.Readers, t.Name, func(f *feed, r Record) bool {
		open := &Open[V]{Key: r.Key, Record: r, Gone: f.quit, feed: f}
		if err := Decode(r.Value, &open.Value); err != nil {
			return f.enqueue(f.input(r, func(context.Context, *Tx) error { return err }))
		}
		fn(f.ctx, open)
		return true
	})
}

// Finish commits what fn gathers together with the end of the record. fn may be run again after a conflict. When it
// returns an error the record is not finished, and Finish may be called again; unless the error is ErrLost.
func (o *Open[V]) Finish(ctx context.Context, fn func(tx *Tx) error) error {
	in := o.feed.input(o.Record, nil)
	for in.Attempt = 1; ; in.Attempt++ {
		tx := newTx(ctx, o.feed.partition, in.Input)
		if err := invoke(ctx, tx, func(_ context.Context, tx *Tx) error { return fn(tx) }); err != nil {
			return err
		}
		in.finish(tx)
		_, err := o.feed.commit(tx)
		switch {
		case err == nil:
			o.once.Do(func() { in.done(Commit{}, nil) })
			return nil
		case !errors.Is(err, ErrConflict):
			return err
		}
	}
}

func (c *Consumer) subscribe(readers []Role, topic string, dispatch func(*feed, Record) bool) {
	if err := c.client.may(readers, "read", "topic", topic); err != nil {
		panic(err) // a worker wired against the table of topics: found by the first test that starts it
	}
	c.topics = append(c.topics, subscription{topic, dispatch})
}

func newFeed(p *partition, s subscription) *feed {
	pos := p.Positions[s.topic]
	return &feed{partition: p, subscription: s, pos: pos.Clone(), freed: make(chan struct{}, 1)}
}

// input makes the input of a record.
func (f *feed) input(r Record, handle func(context.Context, *Tx) error) *input {
	return &input{
		Input:  Input{Key: r.Key, ID: fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset), Time: r.Time},
		size:   len(r.Value),
		handle: handle,
		finish: func(tx *Tx) { tx.step.Finish = append(tx.step.Finish, Place{r.Topic, r.Offset}) },
		aside:  &heldInput{Source: r.Topic, Value: r.Value, At: r.Time},
		done: func(_ Commit, err error) {
			if err == nil {
				f.finished(r)
			}
		},
	}
}

// run reads from the position on and hands out every record that is not finished.
func (f *feed) run(ctx context.Context) error {
	next := f.pos.Low
	reader, err := f.client.bus.driver.Read(ctx, ReadFrom{Topic: f.topic, Partition: f.Partition, Offset: next, Owner: f.Ownership})
	if err != nil {
		return fmt.Errorf("read %s: %w", f.topic, err)
	}
	defer reader.Close()
	for {
		records, err := reader.Next(ctx)
		if err != nil {
			return fmt.Errorf("read %s from %d: %w", f.topic, next, err)
		}
		for _, r := range records {
			if !f.begin(next, r) {
				next = r.Offset + 1
				continue
			}
			next = r.Offset + 1
			if !f.admit(ctx, r) || !f.dispatch(f, r) {
				return nil
			}
		}
	}
}

// begin says whether a record is to be handled. There is nothing between next and the record.
func (f *feed) begin(next uint64, r Record) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pos.FinishRange(next, r.Offset)
	if r.Void {
		f.pos.Finish(r.Offset)
	}
	return !f.pos.Done(r.Offset)
}

// admit waits until the window has room for the record, and counts it in.
func (f *feed) admit(ctx context.Context, r Record) bool {
	for {
		f.mu.Lock()
		full := f.count > 0 && (r.Offset-f.pos.Low >= maxWindowRecords || f.bytes+len(r.Value) > maxWindowBytes)
		if !full {
			f.count++
			f.bytes += len(r.Value)
			f.client.bus.metrics.window.WithLabelValues(string(f.Role), f.topic).Inc()
		}
		f.mu.Unlock()
		if !full {
			return true
		}
		select {
		case <-f.freed:
		case <-ctx.Done():
			return false
		}
	}
}

func (f *feed) finished(r Record) {
	f.mu.Lock()
	f.pos.Finish(r.Offset)
	if f.count > 0 { // else the partition is another process's, and the window forgotten
		f.count--
		f.bytes -= len(r.Value)
		f.client.bus.metrics.window.WithLabelValues(string(f.Role), f.topic).Dec()
	}
	f.mu.Unlock()
	select {
	case f.freed <- struct{}{}:
	default:
	}
}

// forget takes the window out of the gauge when the partition's work has ended.
func (f *feed) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.client.bus.metrics.window.WithLabelValues(string(f.Role), f.topic).Sub(float64(f.count))
	f.count, f.bytes = 0, 0
}
