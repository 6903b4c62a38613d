package distributed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hawser-project/hawser/bus"
)

// attemptTime bounds one transaction: an answer that does not come may be of a connection that is dead.
const attemptTime = 20 * time.Second

// attempt is one try to commit a batch of steps: what comes of it if the transaction commits.
type attempt struct {
	number    int64 // random; the row keeps that of the last commit
	conflicts []bool
	commits   []bus.Commit
	records   []outRecord
	stored    []byte         // positions
	voids     map[string]int // how many void spans of each topic are in them
	next      uint64
	deleted   uint64 // rows of the outbox up to this sequence are deleted
}

// commit commits steps in one transaction and tells each what came of it. It returns early only when the partition is lost;
// the steps have been told then too.
func (p *partition) commit(steps []*bus.Step) {
	start := time.Now()
	if !p.room() {
		p.fail(steps, context.Cause(p.alive))
		return
	}
	var tried []*attempt
	var told time.Time
	for wait := time.Duration(0); ; wait = min(max(2*wait, minBackoff), maxBackoff) {
		a, err := p.try(steps)
		if a != nil {
			tried = append(tried, a)
		}
		if err == nil {
			p.accept(steps, a, true)
			break
		}
		if state := sqlState(err); state != stateSerialize && state != stateDeadlock {
			// Not even a clear refusal is the last word: an earlier attempt may have been committed meanwhile.
			if done, lost := p.look(tried); lost != nil {
				p.d.lost(p, lost)
				p.fail(steps, lost)
				return
			} else if done != nil {
				p.accept(steps, done, false)
				break
			}
		}
		p.revert()
		if refused(err) {
			p.divide(steps, err)
			return
		}
		if time.Since(told) > tellEvery && wait > 0 {
			told = time.Now()
			p.d.log.Warn("steps wait for the database", "role", p.role, "partition", p.id, "steps", len(steps), "error", err)
		}
		pause(p.alive, wait)
	}
	p.d.metrics.commit.WithLabelValues(p.role).Observe(time.Since(start).Seconds())
	p.d.metrics.batch.WithLabelValues(p.role).Observe(float64(len(steps)))
}

func (p *partition) fail(steps []*bus.Step, why error) {
	for _, step := range steps {
		step.Done(bus.Commit{}, why)
	}
}

// divide finds the step that the database does not take: one such must not hold up the others.
func (p *partition) divide(steps []*bus.Step, err error) {
	switch len(steps) {
	case 0:
		p.d.log.Error("positions can't be stored", "role", p.role, "partition", p.id, "error", err)
		pause(p.alive, maxBackoff)
	case 1:
		steps[0].Done(bus.Commit{}, fmt.Errorf("commit a step: %w", err))
	default:
		for i, step := range steps {
			if p.alive.Err() != nil {
				p.fail(steps[i:], context.Cause(p.alive))
				return
			}
			p.commit([]*bus.Step{step})
		}
	}
}

// try runs the transaction once. An attempt that is returned with an error may have been committed.
func (p *partition) try(steps []*bus.Step) (*attempt, error) {
	ctx, cancel := context.WithTimeout(p.alive, attemptTime)
	defer cancel()
	checked := slices.ContainsFunc(steps, func(s *bus.Step) bool { return len(s.Checks) > 0 })
	if !checked {
		a, batch, err := p.prepare(steps, nil, nil)
		if err != nil {
			return nil, err
		}
		// One round trip: what is sent together without a begin is one transaction.
		return a, p.d.pool.SendBatch(ctx, batch).Close()
	}
	conn, err := p.d.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("get a connection: %w", err)
	}
	defer conn.Release() // which closes a connection that is in a transaction
	found, err := p.lock(ctx, conn, steps)
	if err != nil {
		return nil, err
	}
	a, batch, err := p.prepare(steps, found.judge(steps), found.places)
	if err != nil {
		return nil, err
	}
	batch.Queue("commit")
	return a, conn.SendBatch(ctx, batch).Close()
}

// prepare makes what commits the steps that are not in conflict.
func (p *partition) prepare(steps []*bus.Step, conflicts []bool, places []bus.RowKey) (*attempt, *pgx.Batch, error) {
	a := &attempt{number: rand.Int64(), conflicts: conflicts, commits: make([]bus.Commit, len(steps)), next: p.next}
	batch := new(pgx.Batch)
	changes, entries := newChanges(), make(tableChanges)
	now := truncated(time.Now())
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, step := range steps {
		if a.refused(i) {
			continue
		}
		changes.add(step.Writes)
		for _, f := range step.Finish {
			p.track(f.Topic).pos.Finish(f.Offset)
		}
		for j := range step.Appends {
			p.append(a, i, &step.Appends[j], now)
			if p.d.compacted(step.Appends[j].Topic) {
				entries.add(&step.Appends[j])
			}
		}
	}
	if err := p.encode(a); err != nil {
		return nil, nil, err
	}
	sql := p.d.schemas.sql
	batch.Queue(sql(sqlAdvance, p.role), p.id, int64(p.owner.Epoch), p.commits, a.number, int64(a.next), a.stored)
	changes.queue(batch, p.d.schemas)
	changes.dropPlaces(batch, p.d.schemas, places)
	entries.queue(batch, p.d.schemas, p.role)
	if len(a.records) > 0 {
		batch.Queue(sql(sqlSend, p.role), p.id, int64(a.records[0].sequence), int64(a.next-1), int64(p.owner.Epoch), encodeOutbox(a.records))
	}
	if acked := p.outbox.acknowledged(); acked > p.deleted {
		batch.Queue(sql(sqlSent, p.role), p.id, int64(acked))
		a.deleted = acked
	}
	return a, batch, nil
}

func (a *attempt) refused(step int) bool { return a.conflicts != nil && a.conflicts[step] }

// append gives a record its sequence. p.mu is held.
func (p *partition) append(a *attempt, step int, in *bus.Append, now time.Time) {
	r := outRecord{topic: in.Topic, key: in.Key, value: in.Value, time: now, sequence: a.next}
	a.next++
	s := bus.Stamp{Source: p.from, Epoch: p.owner.Epoch, Sequence: r.sequence}
	if p.d.compacted(in.Topic) {
		p.marks[in.Topic] = bus.Stamp{Epoch: s.Epoch, Sequence: s.Sequence}
	} else {
		r.partition = bus.PartitionOf(in.Key, p.d.partitions)
		if r.value == nil {
			r.value = []byte{}
		}
	}
	a.records = append(a.records, r)
	a.commits[step].Add(in.Topic, s)
}

// encode makes the positions to be stored. p.mu is held.
func (p *partition) encode(a *attempt) (err error) {
	m := memory{topics: make(map[string]*progress, len(p.topics)), marks: p.marks}
	a.voids = make(map[string]int)
	for topic, t := range p.topics {
		a.voids[topic] = len(t.void)
		t.fold()
		m.topics[topic] = t.progress
	}
	p.unsaved = false
	a.stored, err = appendMemory(make([]byte, 0, len(p.stored)+64), m)
	return err
}

// accept takes note of a committed attempt and tells the steps. exact says that it is the one that was prepared last.
func (p *partition) accept(steps []*bus.Step, a *attempt, exact bool) {
	p.commits++
	p.next = a.next
	p.deleted = max(p.deleted, a.deleted)
	p.mu.Lock()
	p.stored = a.stored
	if !exact {
		p.restore()
	}
	for topic, t := range p.topics {
		if !exact {
			t.recount()
			a.voids[topic] = 0 // to finish them twice is no harm
		}
		t.settle(a.voids[topic])
	}
	p.mu.Unlock()
	// Before anybody hears of it, so that records are sent in the order of commits whatever Done does.
	p.send(a.records, p.owner.Epoch)
	for i, step := range steps {
		if a.refused(i) {
			step.Done(bus.Commit{}, bus.ErrConflict)
			continue
		}
		step.Done(a.commits[i], nil)
	}
}

// revert takes back what was prepared and has not been committed.
func (p *partition) revert() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restore()
	p.unsaved = true
}

// restore sets what is known of positions to what is stored. p.mu is held.
func (p *partition) restore() {
	m, err := decodeMemory(p.stored)
	if err != nil { // we have decoded or encoded it ourselves
		panic("bus/distributed: positions of our own do not decode: " + err.Error())
	}
	for topic, t := range p.topics {
		t.revert(m.of(topic))
	}
	p.marks = m.marks
}

// look says what has become of attempts whose outcome is not known: the one that was committed, nil if none was, or an
// error if the partition is lost. It waits for the database as long as it takes.
func (p *partition) look(tried []*attempt) (done *attempt, lost error) {
	var epoch, commits, number int64
	err := p.d.persist(p.alive, "see whether steps were committed", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, attemptTime)
		defer cancel()
		return p.d.pool.QueryRow(ctx, p.d.schemas.sql(sqlLook, p.role), p.id).Scan(&epoch, &commits, &number)
	})
	switch {
	case p.alive.Err() != nil:
		return nil, context.Cause(p.alive)
	case errors.Is(err, pgx.ErrNoRows):
		return nil, bus.ErrLost
	case err != nil:
		p.d.log.Error("the state of a partition can't be read", "role", p.role, "partition", p.id, "error", err)
		return nil, bus.ErrLost
	case epoch != int64(p.owner.Epoch):
		return nil, bus.ErrLost
	case commits == p.commits:
		return nil, nil
	}
	for _, a := range tried {
		if commits == p.commits+1 && a.number == number {
			return a, nil
		}
	}
	return nil, bus.ErrLost // the database is not as we left it
}

// locked is what the rows that steps check were found to be, with the rows locked.
type locked struct {
	versions map[bus.RowKey]uint64
	places   []bus.RowKey // rows that may be placeholders of ours
}

// lock begins a transaction and locks the rows that steps check. Who wants the same rows waits, also for rows that are not
// there: a placeholder stands for each of them.
func (p *partition) lock(ctx context.Context, conn *pgxpool.Conn, steps []*bus.Step) (*locked, error) {
	checks := make(map[bus.RowKey]bool) // true: expected not to be there
	for _, step := range steps {
		for _, c := range step.Checks {
			checks[c.RowKey] = checks[c.RowKey] || c.Version == 0
		}
	}
	l := &locked{versions: make(map[bus.RowKey]uint64, len(checks))}
	wanted := make([]bus.RowKey, 0, len(checks))
	for key, absent := range checks {
		wanted = append(wanted, key)
		if absent {
			l.places = append(l.places, key)
		}
	}
	missing := l.places
	for first := true; ; first = false {
		if err := l.ask(ctx, conn, p.d.schemas, wanted, missing, first); err != nil {
			return nil, err
		}
		// A row that was there when the placeholders were made may have been deleted before it was locked.
		missing = slices.DeleteFunc(slices.Clone(l.places), func(key bus.RowKey) bool { _, there := l.versions[key]; return there })
		if len(missing) == 0 {
			return l, nil
		}
		wanted = missing
	}
}

func (l *locked) ask(ctx context.Context, conn *pgxpool.Conn, s *schemas, wanted, missing []bus.RowKey, begin bool) error {
	batch := new(pgx.Batch)
	if begin {
		batch.Queue("begin")
	}
	for _, role := range rolesOf(missing) {
		kinds, keys, rows := columns(missing, role)
		batch.Queue(s.sql(sqlHoldPlaces, string(role)), kinds, keys, rows)
	}
	for _, role := range rolesOf(wanted) {
		kinds, keys, rows := columns(wanted, role)
		batch.Queue(s.sql(sqlLock, string(role)), kinds, keys, rows).Query(func(rows pgx.Rows) error {
			var kind string
			var key, row []byte
			var version int64
			_, err := pgx.ForEachRow(rows, []any{&kind, &key, &row, &version}, func() error {
				l.versions[bus.RowKey{Role: role, Kind: kind, Key: string(key), Row: string(row)}] = uint64(version)
				return nil
			})
			return err
		})
	}
	return conn.SendBatch(ctx, batch).Close()
}

// judge says which steps are in conflict. A row that an earlier step of the batch has written has another version for the
// later ones, as it would have had if they had been committed one by one.
func (l *locked) judge(steps []*bus.Step) []bool {
	conflicts := make([]bool, len(steps))
	written := make(map[bus.RowKey]struct{})
	for i, step := range steps {
		for _, c := range step.Checks {
			_, changed := written[c.RowKey]
			if changed || l.versions[c.RowKey] != c.Version {
				conflicts[i] = true
				break
			}
		}
		if conflicts[i] {
			continue
		}
		for _, w := range step.Writes {
			written[w.RowKey] = struct{}{}
		}
	}
	return conflicts
}
