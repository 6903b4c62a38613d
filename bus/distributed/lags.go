package distributed

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/hawser-project/hawser/bus"
)

// Current implements bus.Driver. Of records without a step it knows by a row that is written before they are acknowledged.
func (d *Driver) Current(ctx context.Context, topic string) (commit bus.Commit, err error) {
	t, declared := d.topics[topic]
	if !declared {
		return commit, fmt.Errorf("topic %s is not declared", topic)
	}
	var marks []bus.Stamp
	err = d.read(ctx, "read how far topic "+t.Name+" is", func(ctx context.Context) (err error) {
		marks, err = d.marks(ctx, t)
		return err
	})
	for _, s := range marks {
		commit.Stamps = append(commit.Stamps, bus.Sent{Topic: topic, Stamp: s})
	}
	return commit, err
}

// marks returns the last stamps of a compacted topic's sources.
func (d *Driver) marks(ctx context.Context, t bus.Definition) (stamps []bus.Stamp, err error) {
	batch := new(pgx.Batch)
	for _, role := range t.From {
		if !slices.Contains(d.o.Roles, role) {
			continue
		}
		batch.Queue(d.schemas.sql(sqlPositions, string(role))).Query(func(rows pgx.Rows) error {
			return eachMemory(rows, func(id int32, m memory) {
				if mark, found := m.marks[t.Name]; found {
					mark.Source = sourceOf(role, id)
					stamps = append(stamps, mark)
				}
			})
		})
	}
	batch.Queue(d.schemas.sql(sqlPublishedOf, ""), t.Name).Query(func(rows pgx.Rows) error {
		var sequence int64
		_, err := pgx.ForEachRow(rows, []any{&sequence}, func() error {
			stamps = append(stamps, bus.Stamp{Sequence: uint64(sequence)})
			return nil
		})
		return err
	})
	return stamps, d.pool.SendBatch(ctx, batch).Close()
}

func eachMemory(rows pgx.Rows, fn func(id int32, m memory)) error {
	var id int32
	var next int64
	var positions []byte
	_, err := pgx.ForEachRow(rows, []any{&id, &next, &positions}, func() error {
		m, err := decodeMemory(positions)
		if err == nil {
			fn(id, m)
		}
		return err
	})
	return err
}

// lagCache keeps the ends of topics for a second.
type lagCache struct {
	mu   sync.Mutex
	ends map[string]knownEnds
}

type knownEnds struct {
	at   time.Time
	ends []uint64 // by partition
}

func newLagCache() *lagCache { return &lagCache{ends: make(map[string]knownEnds)} }

const endsAge = time.Second

func (d *Driver) ends(ctx context.Context, topic string) ([]uint64, error) {
	d.lags.mu.Lock()
	defer d.lags.mu.Unlock()
	if known := d.lags.ends[topic]; time.Since(known.at) < endsAge {
		return known.ends, nil
	}
	name := d.o.topic(topic)
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	list, err := d.admin.ListEndOffsets(ctx, name)
	if err != nil {
		return nil, &unavailable{"find the end of topic " + name, err}
	}
	ends := make([]uint64, d.partitions)
	for id := range ends {
		o := offsetOf(list, name, int32(id))
		if o.Err != nil {
			return nil, &unavailable{"find the end of topic " + name, o.Err}
		}
		ends[id] = uint64(o.Offset)
	}
	d.lags.ends[topic] = knownEnds{time.Now(), ends}
	return ends, nil
}

// Lags implements bus.Driver.
func (d *Driver) Lags(ctx context.Context, topic string) (lags []bus.Lag, err error) {
	t, declared := d.topics[topic]
	if !declared || t.Compacted {
		return nil, fmt.Errorf("topic %s has no readers with positions", topic)
	}
	ends, err := d.ends(ctx, topic)
	if err != nil {
		return nil, err
	}
	for _, role := range t.To {
		if !slices.Contains(d.o.Roles, role) {
			continue
		}
		var list []bus.Lag
		err := d.read(ctx, "read positions", func(ctx context.Context) error {
			list = nil
			rows, err := d.pool.Query(ctx, d.schemas.sql(sqlPositions, string(role)))
			if err != nil {
				return err
			}
			return eachMemory(rows, func(id int32, m memory) {
				if int(id) < len(ends) {
					list = append(list, lagOf(role, id, m.of(topic), ends[id]))
				}
			})
		})
		if err != nil {
			return nil, err
		}
		lags = append(lags, list...)
	}
	return lags, nil
}

// lagOf compares a stored position with the end. The end may be older than the position.
func lagOf(role bus.Role, id int32, p *progress, end uint64) bus.Lag {
	lag := bus.Lag{Reader: role, Partition: id}
	done := p.pos.Low + uint64(len(p.pos.Above))
	if end <= done {
		return lag
	}
	lag.Records = end - done
	if !p.low.IsZero() {
		lag.Age = max(0, time.Since(p.low))
	}
	return lag
}

// hintOffsets commits the positions of the owned partitions to Kafka, for tools that show lags. Nothing reads them here.
func (d *Driver) hintOffsets() {
	groups := make(map[string]kadm.Offsets)
	for _, p := range d.all() {
		p.mu.Lock()
		for topic, t := range p.topics {
			group := d.o.group(bus.Role(p.role))
			if groups[group] == nil {
				groups[group] = make(kadm.Offsets)
			}
			offsets := groups[group]
			offsets.AddOffset(d.o.topic(topic), p.id, int64(t.pos.Low), -1)
		}
		p.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(d.closing, readPatience)
	defer cancel()
	for group, offsets := range groups {
		if _, err := d.admin.CommitOffsets(ctx, group, offsets); err != nil && d.closing.Err() == nil {
			d.log.Debug("offsets for lag tools can't be committed", "group", group, "error", err)
		}
	}
}
