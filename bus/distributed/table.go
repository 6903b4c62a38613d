package distributed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hawser-project/hawser/bus"
)

// A compacted topic is a table in PostgreSQL too: an entry per key, in the schema of the role that writes it, set in the
// transaction of the step. Its records in Kafka say which keys have changed. A cursor begins with the entries as they are,
// and reads again those that records name.
//
// So it does not matter in which order two partitions that write one key have their records sent, nor that a paused owner
// sends an old one late, nor which of them Kafka's compaction keeps: whoever commits last is what is seen. And where the
// database is restored to an earlier time the tables are what they were then.
type tableCursor struct {
	d  *Driver
	t  bus.Definition
	in *inlet

	begin []bus.Record // entries that were there, and the stamps that are reached with them

	mu      sync.Mutex
	reached bool
	closed  bool
}

func (d *Driver) readTable(ctx context.Context, t bus.Definition) (bus.Cursor, error) {
	c := &tableCursor{d: d, t: t}
	// The end before the entries: what lies below it is in them.
	_, end, err := d.bounds(ctx, t.Name, 0)
	if err != nil {
		return nil, err
	}
	if err := c.load(ctx); err != nil {
		return nil, err
	}
	c.reached = len(c.begin) == 0
	if c.in, err = d.fetcher.open(target{d.o.topic(t.Name), 0}, int64(end)); err != nil {
		return nil, fmt.Errorf("read topic %s: %w", t.Name, err)
	}
	return c, nil
}

// load reads all entries. The stamps are read first: all that they stand for is in the entries.
func (c *tableCursor) load(ctx context.Context) error {
	var stamps []bus.Stamp
	err := c.d.persist(ctx, "read how far topic "+c.t.Name+" is", func(ctx context.Context) (err error) {
		stamps, err = c.d.marks(ctx, c.t)
		return err
	})
	if err != nil {
		return err
	}
	entries, err := c.d.entries(ctx, c.t, nil)
	if err != nil {
		return err
	}
	c.begin = nil
	for key, e := range entries {
		if e.value != nil {
			c.begin = append(c.begin, bus.Record{Topic: c.t.Name, Key: key, Value: e.value})
		}
	}
	for _, s := range stamps {
		c.begin = append(c.begin, bus.Record{Topic: c.t.Name, Stamp: s, Void: true})
	}
	return nil
}

// Next implements bus.Cursor.
func (c *tableCursor) Next(ctx context.Context) ([]bus.Record, error) {
	for {
		if n := min(readBatch, len(c.begin)); n > 0 {
			records := c.begin[:n:n]
			if c.begin = c.begin[n:]; len(c.begin) == 0 {
				c.mu.Lock()
				c.reached = true
				c.mu.Unlock()
			}
			return records, nil
		}
		read, err := c.in.take(ctx, readBatch)
		var loss *kgo.ErrDataLoss
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case c.d.closing.Err() != nil:
			return nil, bus.ErrClosed
		case errors.As(err, &loss): // which keys have changed is not known any more
			c.d.log.Warn("Kafka has lost records of a table; it is read as a whole", "topic", c.t.Name, "error", err)
			if err := c.load(ctx); err != nil {
				return nil, err
			}
			continue
		case err != nil:
			c.d.log.Warn("reading goes on after an error", "topic", c.t.Name, "error", err)
		}
		if len(read) > 0 {
			return c.changed(ctx, read)
		}
	}
}

// changed reads the entries of keys that have changed.
func (c *tableCursor) changed(ctx context.Context, read []*kgo.Record) ([]bus.Record, error) {
	keys := make([][]byte, 0, len(read))
	for _, k := range read {
		keys = append(keys, k.Key)
	}
	entries, err := c.d.entries(ctx, c.t, keys)
	if err != nil {
		return nil, err
	}
	records := make([]bus.Record, 0, len(read))
	for _, k := range read {
		r := bus.Record{Topic: c.t.Name, Offset: uint64(k.Offset), Time: k.Timestamp, Key: string(k.Key), Stamp: bus.Stamp{Sequence: uint64(k.Offset) + 1}}
		r.Value = entries[r.Key].value
		if s, found, err := sourceStamp(k); err != nil {
			c.d.log.Error("a record's source does not decode", "topic", c.t.Name, "offset", k.Offset, "error", err)
		} else if found {
			r.Stamp = s
		}
		records = append(records, r)
	}
	return records, nil
}

// Reached implements bus.Cursor.
func (c *tableCursor) Reached() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reached
}

// Close implements bus.Cursor.
func (c *tableCursor) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.in.close()
	}
}

type entry struct {
	value   []byte // nil: removed
	version int64
}

// entries reads the entries of some keys, or all where keys is nil. Where several roles have written a key, the last one
// counts.
func (d *Driver) entries(ctx context.Context, t bus.Definition, keys [][]byte) (all map[string]entry, err error) {
	err = d.persist(ctx, "read topic "+t.Name, func(ctx context.Context) error {
		all = make(map[string]entry)
		batch := new(pgx.Batch)
		take := func(rows pgx.Rows) error {
			var key, value []byte
			var version int64
			_, err := pgx.ForEachRow(rows, []any{&key, &value, &version}, func() error {
				if version > all[string(key)].version {
					all[string(key)] = entry{slices.Clone(value), version}
					if value != nil && len(value) == 0 {
						all[string(key)] = entry{[]byte{}, version}
					}
				}
				return nil
			})
			return err
		}
		for _, role := range t.From {
			if !slices.Contains(d.o.Roles, role) {
				continue
			}
			if keys == nil {
				batch.Queue(d.schemas.sql(sqlEntries, string(role)), t.Name).Query(take)
			} else {
				batch.Queue(d.schemas.sql(sqlEntriesOf, string(role)), t.Name, keys).Query(take)
			}
		}
		return d.pool.SendBatch(ctx, batch).Close()
	})
	return all, err
}

// tableChanges are the entries that a batch of steps sets; of several for one key the last counts.
type tableChanges map[entryKey][]byte

type entryKey struct{ topic, key string }

func (c tableChanges) add(a *bus.Append) { c[entryKey{a.Topic, a.Key}] = a.Value }

// queue adds the statement that sets them, in order of their keys, so that transactions seldom wait for each other in a circle.
func (c tableChanges) queue(batch *pgx.Batch, s *schemas, role string) {
	if len(c) == 0 {
		return
	}
	list := make([]entryKey, 0, len(c))
	for k := range c {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b entryKey) int {
		return bus.RowKey{Kind: a.topic, Key: a.key}.Compare(bus.RowKey{Kind: b.topic, Key: b.key})
	})
	topics, keys, values := make([]string, 0, len(c)), make([][]byte, 0, len(c)), make([][]byte, 0, len(c))
	for _, k := range list {
		topics, keys, values = append(topics, k.topic), append(keys, []byte(k.key)), append(values, c[k])
	}
	batch.Queue(s.sql(sqlSetEntries, role), topics, keys, values)
}
