package distributed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hawser-project/hawser/bus"
)

// readBatch is how many records Next returns at most.
const readBatch = 256

// cursor reads one partition. It has one caller.
type cursor struct {
	d       *Driver
	from    bus.ReadFrom
	in      *inlet
	history *lineage
	next    uint64 // the offset after the last record read
	end     uint64 // of the log when the cursor was made: below it the history decides

	owner   *partition           // nil without owner
	done    bus.Position         // what was finished when the owner took over
	seen    map[string]bus.Stamp // of each source the last one read; for an owner
	sources map[string]string    // so that equal names are kept once

	mu      sync.Mutex
	reached bool
	closed  bool
}

// Read implements bus.Driver. It waits for Kafka and PostgreSQL as long as it takes.
func (d *Driver) Read(ctx context.Context, from bus.ReadFrom) (bus.Cursor, error) {
	t, declared := d.topics[from.Topic]
	if !declared {
		return nil, fmt.Errorf("topic %s is not declared", from.Topic)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.closing, func() { cancel(bus.ErrClosed) })()
	if t.Compacted {
		return d.readTable(ctx, t)
	}
	c := &cursor{d: d, from: from, next: from.Offset, sources: make(map[string]string)}
	if from.Owner != nil {
		p, found := d.find(from.Owner)
		if !found {
			return nil, bus.ErrLost
		}
		c.begin(p)
	}
	start, end, err := d.bounds(ctx, from.Topic, from.Partition)
	if err != nil {
		return nil, err
	}
	if c.end = end; c.end < c.next && c.owner != nil {
		return nil, fmt.Errorf("topic %s partition %d ends at %d, before the position %d: it was made anew, or Kafka has lost records", from.Topic, from.Partition, c.end, c.next)
	}
	// After the end is looked up: whatever lies below it was committed before, and the history has it.
	if c.history, err = d.readLineage(ctx, t.From); err != nil {
		return nil, err
	}
	c.checkStart(start)
	c.reached = c.end <= c.next
	if c.in, err = d.fetcher.open(target{d.o.topic(from.Topic), from.Partition}, int64(c.next)); err != nil {
		return nil, fmt.Errorf("read topic %s: %w", from.Topic, err)
	}
	return c, nil
}

// begin sets where an owner's cursor begins: always where the owner began, for the stamps that were seen are known as of
// there; what lies before the offset that is wanted is not given to the caller.
func (c *cursor) begin(p *partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.owner = p
	start := p.track(c.from.Topic).start
	c.done = start.pos.Clone()
	c.seen = maps.Clone(start.seen)
	c.next = start.pos.Low
}

// bounds finds both ends of the log of a partition.
func (d *Driver) bounds(ctx context.Context, name string, partition int32) (start, end uint64, err error) {
	topic := d.o.topic(name)
	err = d.kafkaWait(ctx, "find the ends of topic "+topic, func(ctx context.Context) error {
		begins, err := d.admin.ListStartOffsets(ctx, topic)
		if err != nil {
			return err
		}
		ends, err := d.admin.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		b, e := offsetOf(begins, topic, partition), offsetOf(ends, topic, partition)
		start, end = uint64(b.Offset), uint64(e.Offset)
		return errors.Join(b.Err, e.Err)
	})
	return start, end, err
}

func offsetOf(list kadm.ListedOffsets, topic string, partition int32) kadm.ListedOffset {
	o, found := list.Lookup(topic, partition)
	if !found {
		o.Err = fmt.Errorf("topic %s has no partition %d", topic, partition)
	}
	return o
}

// checkStart passes over what Kafka has dropped.
func (c *cursor) checkStart(start uint64) {
	if start <= c.next {
		return
	}
	if c.owner != nil {
		c.d.log.Error("records were dropped by retention before they were finished", "role", c.owner.role, "topic", c.from.Topic,
			"partition", c.from.Partition, "from", c.next, "to", start-1)
		c.d.metrics.missed.WithLabelValues(c.owner.role).Add(float64(start - c.next))
	}
	c.next = start
}

// Next implements bus.Cursor.
func (c *cursor) Next(ctx context.Context) ([]bus.Record, error) {
	for {
		read, err := c.in.take(ctx, readBatch)
		if err != nil {
			var loss *kgo.ErrDataLoss
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case errors.As(err, &loss):
				c.d.log.Error("Kafka has lost records", "topic", c.from.Topic, "partition", c.from.Partition, "error", err)
			case c.d.closing.Err() != nil:
				return nil, bus.ErrClosed
			default:
				c.d.log.Warn("reading goes on after an error", "topic", c.from.Topic, "partition", c.from.Partition, "error", err)
			}
		}
		if records := c.judge(read); len(records) > 0 {
			return records, nil
		}
	}
}

// judge turns what was read into records, and says of each whether it counts.
func (c *cursor) judge(read []*kgo.Record) []bus.Record {
	records := make([]bus.Record, 0, len(read))
	if c.owner != nil {
		c.owner.mu.Lock()
		defer c.owner.mu.Unlock()
	}
	for _, k := range read {
		r, ok := c.one(k)
		if ok {
			records = append(records, r)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reached && c.next >= c.end {
		c.reached = true
	}
	return records
}

// one judges a record. The owner's lock is held.
func (c *cursor) one(k *kgo.Record) (bus.Record, bool) {
	offset := uint64(k.Offset)
	if offset < c.next {
		return bus.Record{}, false // the log was cut and is read again
	}
	r := bus.Record{
		Topic: c.from.Topic, Partition: c.from.Partition, Offset: offset, Time: k.Timestamp, Key: string(k.Key), Value: k.Value,
		Stamp: bus.Stamp{Sequence: offset + 1},
	}
	if r.Value == nil {
		r.Value = []byte{}
	}
	c.next = offset + 1
	noted, found, err := sourceStamp(k)
	switch {
	case err != nil:
		c.d.log.Error("a record's source does not decode", "topic", c.from.Topic, "partition", c.from.Partition, "offset", offset, "error", err)
		r.Void = true
	case found:
		noted.Source = c.intern(noted.Source)
		r.Stamp = noted
		r.Void = !c.counts(noted, offset)
	}
	if c.owner != nil {
		if c.owner.track(c.from.Topic).note(offset, noted, k.Timestamp, r.Void) {
			c.owner.unsaved = true
		}
		r.Void = r.Void || c.done.Done(offset)
	}
	return r, offset >= c.from.Offset
}

func (c *cursor) intern(source string) string {
	if known, found := c.sources[source]; found {
		return known
	}
	c.sources[source] = source
	return source
}

// sourceStamp reads the source of a record; it may have none.
func sourceStamp(k *kgo.Record) (s bus.Stamp, found bool, err error) {
	for _, h := range k.Headers {
		if h.Key == headerName {
			s, err := decodeHeader(h.Value)
			return s, err == nil, err
		}
	}
	return bus.Stamp{}, false, nil
}

// counts says whether a record was committed, and is read for the first time. Who has no position drops nothing that was
// sent twice.
func (c *cursor) counts(s bus.Stamp, offset uint64) bool {
	role := ""
	if c.owner != nil {
		role = c.owner.role
	}
	if offset < c.end && !c.history.committed(s) {
		c.d.metrics.voided.WithLabelValues(role).Inc()
		return false
	}
	if c.owner == nil {
		return true
	}
	if last, before := c.seen[s.Source]; before && !s.After(last) {
		c.d.metrics.duplicates.WithLabelValues(role).Inc()
		return false
	}
	c.seen[s.Source] = s
	return true
}

// Reached implements bus.Cursor.
func (c *cursor) Reached() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reached
}

// Close implements bus.Cursor.
func (c *cursor) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.in.close()
	}
}

// readLineage reads the history of epochs of the partitions of roles.
func (d *Driver) readLineage(ctx context.Context, roles []bus.Role) (*lineage, error) {
	l := newLineage()
	for _, role := range roles {
		err := d.persist(ctx, "read the history of "+string(role), func(ctx context.Context) error { return d.readHistory(ctx, l, role) })
		if err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (d *Driver) readHistory(ctx context.Context, l *lineage, role bus.Role) error {
	for id := range d.partitions { // from the beginning, for this may be another try
		delete(l.epochs, sourceOf(role, id))
	}
	batch := new(pgx.Batch)
	batch.Queue("begin isolation level repeatable read read only")
	batch.Queue(d.schemas.sql(sqlLineage, string(role))).Query(func(rows pgx.Rows) error {
		var id int32
		var epoch, first int64
		_, err := pgx.ForEachRow(rows, []any{&id, &epoch, &first}, func() error {
			source := sourceOf(role, id)
			l.epochs[source] = append(l.epochs[source], begun{uint64(epoch), uint64(first)})
			return nil
		})
		return err
	})
	batch.Queue(d.schemas.sql(sqlPositions, string(role))).Query(func(rows pgx.Rows) error {
		var id int32
		var next int64
		var positions []byte
		_, err := pgx.ForEachRow(rows, []any{&id, &next, &positions}, func() error {
			l.next[sourceOf(role, id)] = uint64(next)
			return nil
		})
		return err
	})
	batch.Queue("commit")
	return d.pool.SendBatch(ctx, batch).Close()
}
