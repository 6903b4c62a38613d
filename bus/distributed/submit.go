package distributed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-project/hawser/bus"
)

// Submit implements bus.Driver.
func (d *Driver) Submit(step *bus.Step) {
	if d.closing.Err() != nil && step.Owner == nil {
		step.Done(bus.Commit{}, bus.ErrClosed)
		return
	}
	if err := d.admit(step); err != nil {
		step.Done(bus.Commit{}, err)
		return
	}
	switch {
	case step.Owner != nil:
		if p, found := d.find(step.Owner); found {
			p.submit(step)
		} else {
			step.Done(bus.Commit{}, bus.ErrLost)
		}
	case len(step.Appends) > 0:
		if d.compacted(step.Appends[0].Topic) { // its entries are set first, which takes a while
			go d.publish(step)
		} else {
			d.publish(step)
		}
	case len(step.Writes) > 0:
		d.alone <- struct{}{}
		go func() {
			defer func() { <-d.alone }()
			step.Done(bus.Commit{}, d.write(step.Writes))
		}()
	default:
		step.Done(bus.Commit{}, nil)
	}
}

const (
	// maxKey is the longest key of a row or record, for PostgreSQL's index and Kafka's message size.
	maxKey = 2000
	// maxRow is the largest value of a row: the bus keeps a value of the largest size with what it says of it, a reply with its
	// digest, an input that is set aside with the reason.
	maxRow = bus.MaxValue + 64<<10
)

// admit refuses what Kafka or PostgreSQL would not take, for it would hold up everything behind it.
func (d *Driver) admit(step *bus.Step) error {
	if step.Owner == nil && (len(step.Finish) > 0 || len(step.Checks) > 0 || len(step.Appends) > 0 && len(step.Writes) > 0) {
		return errors.New("a step without owner has either records or writes, and finishes and checks nothing")
	}
	for i := range step.Appends {
		a := &step.Appends[i]
		if _, declared := d.topics[a.Topic]; !declared {
			return fmt.Errorf("topic %s is not declared", a.Topic)
		}
		if len(a.Value) > bus.MaxValue || len(a.Key) > bus.MaxValue/2 {
			return &tooLarge{fmt.Sprintf("a record of %d octets with a key of %d", len(a.Value), len(a.Key)), bus.MaxValue}
		}
	}
	for i := range step.Writes {
		w := &step.Writes[i]
		if len(w.Value) > maxRow {
			return &tooLarge{fmt.Sprintf("a row of %d octets", len(w.Value)), maxRow}
		}
		if n := len(w.Kind) + len(w.Key) + len(w.Row); n > maxKey {
			return &tooLarge{fmt.Sprintf("the name of a row, of %d octets,", n), maxKey}
		}
	}
	return nil
}

type tooLarge struct {
	what  string
	limit int64
}

func (e *tooLarge) Error() string     { return fmt.Sprintf("%s is over the limit of %d", e.what, e.limit) }
func (e *tooLarge) FaultKind() string { return "too large" }

// write commits writes without owner.
func (d *Driver) write(writes []bus.Write) error {
	c := newChanges()
	c.add(writes)
	return d.read(d.closing, "write rows", func(ctx context.Context) error {
		batch := new(pgx.Batch)
		c.queue(batch, d.schemas)
		return d.pool.SendBatch(ctx, batch).Close()
	})
}

// publishPatience is how long records without a step are tried.
const publishPatience = 30 * time.Second

// publish sends records that no step has committed. Each is there or not; the step is done when all are.
func (d *Driver) publish(step *bus.Step) {
	select {
	case d.alone <- struct{}{}:
	case <-d.closing.Done():
		step.Done(bus.Commit{}, bus.ErrClosed)
		return
	}
	if err := d.setEntries(step); err != nil {
		<-d.alone
		step.Done(bus.Commit{}, err)
		return
	}
	until := time.Now().Add(publishPatience)
	var mu sync.Mutex
	var commit bus.Commit
	var failed error
	left := len(step.Appends)
	now := truncated(time.Now())
	list := make([]*outgoing, 0, left)
	for i := range step.Appends {
		a := &step.Appends[i]
		r := &outgoing{outRecord: outRecord{topic: a.Topic, key: a.Key, value: a.Value, time: now}}
		if !d.compacted(a.Topic) {
			r.partition = bus.PartitionOf(a.Key, d.partitions)
			if r.value == nil {
				r.value = []byte{}
			}
		}
		r.gone = func() bool { return time.Now().After(until) || d.closing.Err() != nil }
		r.done = func(offset int64, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
			} else if offset >= 0 {
				commit.Add(a.Topic, bus.Stamp{Sequence: uint64(offset) + 1})
			}
			if left--; left == 0 {
				go func() {
					defer func() { <-d.alone }()
					step.Done(d.published(commit, failed))
				}()
			}
		}
		list = append(list, r)
	}
	d.producer.send(list)
}

// setEntries sets the entries of compacted topics, which count, before the records that tell of them are sent.
func (d *Driver) setEntries(step *bus.Step) error {
	entries := make(tableChanges)
	for i := range step.Appends {
		if d.compacted(step.Appends[i].Topic) {
			entries.add(&step.Appends[i])
		}
	}
	if len(entries) == 0 {
		return nil
	}
	if !slices.Contains(d.o.Roles, step.Role) {
		return fmt.Errorf("role %q has no schema to keep a compacted topic in", step.Role)
	}
	return d.read(d.closing, "set entries of a table", func(ctx context.Context) error {
		batch := new(pgx.Batch)
		entries.queue(batch, d.schemas, string(step.Role))
		return d.pool.SendBatch(ctx, batch).Close()
	})
}

// published notes how far compacted topics have records without a step, for Current.
func (d *Driver) published(commit bus.Commit, failed error) (bus.Commit, error) {
	switch {
	case failed != nil && d.closing.Err() != nil:
		return bus.Commit{}, bus.ErrClosed
	case failed != nil:
		return bus.Commit{}, &unavailable{"publish", errors.New("Kafka does not take the records")}
	}
	for _, s := range commit.Stamps {
		if !d.compacted(s.Topic) {
			continue
		}
		err := d.read(d.closing, "note what was published", func(ctx context.Context) error {
			_, err := d.pool.Exec(ctx, d.schemas.sql(sqlPublished, ""), s.Topic, int64(s.Stamp.Sequence))
			return err
		})
		if err != nil {
			return bus.Commit{}, err
		}
	}
	return commit, nil
}
