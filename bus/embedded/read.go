package embedded

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hawser-project/hawser/bus"
)

// readBatch is how many records a cursor returns at once.
const readBatch = 256

// Partitions implements bus.Driver. One process owns everything, so that one partition is enough.
func (s *Store) Partitions(bus.Role) int32 { return 1 }

// Own implements bus.Driver.
func (s *Store) Own(ctx context.Context, role bus.Role, run func(context.Context, *bus.Ownership)) error {
	o := &bus.Ownership{Role: role, Epoch: s.epoch.Add(1), Positions: make(map[string]bus.Position)}
	s.mu.Lock()
	for key, p := range s.positions {
		if key.role == role {
			o.Positions[key.topic] = p.Clone()
		}
	}
	s.mu.Unlock()
	run(ctx, o)
	return nil
}

// declared says that there is no such topic, if there is none.
func (s *Store) declared(topic string) error {
	if _, found := s.topics[topic]; !found {
		return fmt.Errorf("topic %s is not declared", topic)
	}
	return nil
}

// Read implements bus.Driver.
func (s *Store) Read(_ context.Context, from bus.ReadFrom) (bus.Cursor, error) {
	if err := s.declared(from.Topic); err != nil {
		return nil, err
	}
	end, _ := s.end(from.Topic)
	return &cursor{s, from.Topic, from.Offset, end}, nil
}

// end returns the offset after the last durable record, and what is closed when it grows.
func (s *Store) end(topic string) (uint64, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.topicLog(topic)
	return l.durable, l.grown
}

// cursor is a place in a topic's log.
type cursor struct {
	store *Store
	topic string
	next  uint64
	known uint64 // the end when it was made
}

// Reached implements bus.Cursor.
func (c *cursor) Reached() bool { return c.next >= c.known }

// Close implements bus.Cursor.
func (*cursor) Close() {}

// Next implements bus.Cursor.
func (c *cursor) Next(ctx context.Context) ([]bus.Record, error) {
	for {
		end, grown := c.store.end(c.topic)
		if c.next < end {
			records, err := c.store.records(c.topic, c.next, end)
			if err != nil {
				return nil, err
			}
			if len(records) > 0 {
				c.next = records[len(records)-1].Offset + 1
				return records, nil
			}
			c.next = end // the rest was compacted away
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// records reads some of those from one offset up to another.
func (s *Store) records(topic string, from, end uint64) (records []bus.Record, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: recordKey(topic, from), UpperBound: recordKey(topic, end)})
	if err != nil {
		return nil, s.readError(err)
	}
	defer func() { _ = it.Close() }()
	for valid := it.First(); valid && len(records) < readBatch; valid = it.Next() {
		r, err := decodeRecord(it.Value())
		if err != nil {
			return nil, fmt.Errorf("record %x: %w", it.Key(), err)
		}
		r.Topic, r.Offset = topic, offsetOf(it.Key())
		r.Stamp.Sequence = r.Offset + 1
		records = append(records, r)
	}
	if err := it.Error(); err != nil {
		return nil, s.readError(err)
	}
	return records, nil
}

// Current implements bus.Driver.
func (s *Store) Current(_ context.Context, topic string) (bus.Commit, error) {
	if err := s.declared(topic); err != nil {
		return bus.Commit{}, err
	}
	end, _ := s.end(topic)
	var c bus.Commit
	c.Add(topic, bus.Stamp{Sequence: end})
	return c, nil
}

// Lags implements bus.Driver.
func (s *Store) Lags(_ context.Context, topic string) (lags []bus.Lag, err error) {
	if err := s.declared(topic); err != nil {
		return nil, err
	}
	s.mu.Lock()
	end := s.topicLog(topic).durable
	positions := make(map[bus.Role]bus.Position)
	for _, reader := range s.topics[topic].To {
		positions[reader] = s.position(reader, topic).Clone()
	}
	s.mu.Unlock()
	for reader, p := range maps.All(positions) {
		l := bus.Lag{Reader: reader}
		if p.Low < end {
			l.Records = end - p.Low - uint64(len(p.Above))
			if l.Age, err = s.age(topic, p.Low); err != nil {
				return nil, err
			}
		}
		lags = append(lags, l)
	}
	return lags, nil
}

// age returns how long ago the record at an offset was committed.
func (s *Store) age(topic string, offset uint64) (time.Duration, error) {
	value, closer, err := s.db.Get(recordKey(topic, offset))
	if err != nil {
		return 0, nil //nolint:nilerr // finished and dropped meanwhile
	}
	defer func() { _ = closer.Close() }()
	r, err := decodeRecord(value)
	if err != nil {
		return 0, fmt.Errorf("record %d of %s: %w", offset, topic, err)
	}
	return max(0, time.Since(r.Time)), nil
}
