package bus

import (
	"context"
	"fmt"
	"sync"
)

// readBatch is how many records a feed reads at once.
const readBatch = 256

// feed reads one topic for a consumer. What it has handed out and is not finished is its window, which is bounded: at
// the bound it stops reading.
type feed struct {
	consumer *Consumer
	topic    string
	dispatch func(f *feed, r Record) bool

	mu    sync.Mutex
	pos   Position
	count int
	bytes int
	freed chan struct{}
}

// Handle makes the consumer hand the topic's records to fn, those of one key one at a time, in order. fn may be called
// again for the same record after a crash, with the state as it was before the first try.
func (t Topic[V]) Handle(c *Consumer, fn func(ctx context.Context, tx *Tx, key string, v V) error) {
	c.addFeed(t.Readers, t.Name, func(f *feed, r Record) bool {
		return c.enqueue(f.input(r, recordHandler(r.Key, r.Value, fn)))
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

	feed *feed
	once sync.Once
}

// HandleOpen makes the consumer hand the topic's records to fn one after the other, without waiting for their end.
// A record that does not decode is set aside as poison.
func (t Topic[V]) HandleOpen(c *Consumer, fn func(ctx context.Context, open *Open[V])) {
	c.addFeed(t.Readers, t.Name, func(f *feed, r Record) bool {
		open := &Open[V]{Key: r.Key, Record: r, feed: f}
		if err := Decode(r.Value, &open.Value); err != nil {
			return c.enqueue(f.input(r, func(context.Context, *Tx) error { return err }))
		}
		fn(c.ctx, open)
		return true
	})
}

// Finish commits what fn gathers together with the end of the record. fn may be run again after a conflict. When it
// returns an error the record is not finished, and Finish may be called again.
func (o *Open[V]) Finish(ctx context.Context, fn func(tx *Tx) error) error {
	c := o.feed.consumer
	in := o.feed.input(o.Record, nil)
	for in.Attempt = 1; ; in.Attempt++ {
		tx := newTx(ctx, c.client, in.Input)
		if err := invoke(ctx, tx, func(_ context.Context, tx *Tx) error { return fn(tx) }); err != nil {
			return err
		}
		in.finish(tx)
		_, err := c.commit(tx)
		switch {
		case err == nil:
			o.once.Do(func() { in.done(Commit{}, nil) })
			return nil
		case err != ErrConflict: //nolint:errorlint // a driver returns this very value
			return err
		}
	}
}

func (c *Consumer) addFeed(readers []Role, topic string, dispatch func(*feed, Record) bool) {
	if err := c.client.may(readers, "read", "topic", topic); err != nil {
		panic(err) // a worker wired against the table of topics: found by the first test that starts it
	}
	c.readers = append(c.readers, &feed{consumer: c, topic: topic, dispatch: dispatch, freed: make(chan struct{}, 1)})
}

// input makes the input of a record.
func (f *feed) input(r Record, handle func(context.Context, *Tx) error) *input {
	role := string(f.consumer.client.role)
	return &input{
		Input:  Input{Key: r.Key, ID: fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset), Time: r.Time},
		size:   len(r.Value),
		handle: handle,
		finish: func(tx *Tx) {
			tx.step.Finish = append(tx.step.Finish, Place{role, r.Topic, r.Partition, r.Offset})
		},
		aside: &heldInput{Source: r.Topic, Value: r.Value, At: r.Time},
		done: func(_ Commit, err error) {
			if err == nil {
				f.finished(r)
			}
		},
	}
}

// run reads from the consumer's position on and hands out every record that is not finished.
func (f *feed) run(ctx context.Context) error {
	driver := f.consumer.client.bus.driver
	pos, err := driver.Position(string(f.consumer.client.role), f.topic, 0)
	if err != nil {
		return fmt.Errorf("position of %s: %w", f.topic, err)
	}
	f.pos = pos.Clone()
	for next := pos.Low; ; {
		end, grown := driver.End(f.topic, 0)
		if next >= end {
			select {
			case <-grown:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		records, err := driver.Read(ctx, f.topic, 0, next, readBatch)
		if err != nil {
			return fmt.Errorf("read %s from %d: %w", f.topic, next, err)
		}
		for _, r := range records {
			next = r.Offset + 1
			if pos.Done(r.Offset) {
				continue
			}
			if !f.admit(ctx, r) || !f.dispatch(f, r) {
				return nil
			}
		}
	}
}

// admit waits until the window has room for the record, and counts it in.
func (f *feed) admit(ctx context.Context, r Record) bool {
	for {
		f.mu.Lock()
		full := f.count > 0 && (r.Offset-f.pos.Low >= maxWindowRecords || f.bytes+len(r.Value) > maxWindowBytes)
		if !full {
			f.count++
			f.bytes += len(r.Value)
		}
		f.report()
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
	f.count--
	f.bytes -= len(r.Value)
	f.report()
	f.mu.Unlock()
	select {
	case f.freed <- struct{}{}:
	default:
	}
}

// report sets the gauges of the window. f.mu is held.
func (f *feed) report() {
	m := f.consumer.client.bus.metrics
	m.window.WithLabelValues(string(f.consumer.client.role), f.topic).Set(float64(f.count))
}
