package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hawser-project/hawser/bus"
)

// maxGroup bounds how many steps go into one batch, and maxGroupBytes about how many octets.
const (
	maxGroup      = 1024
	maxGroupBytes = 8 << 20
)

// group is a batch on its way to the disk, with the steps in it.
type group struct {
	batch  *pebble.Batch
	serial uint64
	steps  []finished
	ends   map[string]uint64
	begun  time.Time
}

type finished struct {
	step   *bus.Step
	commit bus.Commit
	err    error
}

// Submit implements bus.Driver.
func (s *Store) Submit(step *bus.Step) {
	for i := range step.Appends {
		if err := s.declared(step.Appends[i].Topic); err != nil {
			step.Done(bus.Commit{}, err)
			return
		}
	}
	s.submitting.RLock()
	defer s.submitting.RUnlock()
	select {
	case <-s.closing:
		step.Done(bus.Commit{}, bus.ErrClosed)
	default:
		s.submitted <- step
	}
}

// commitLoop gathers what has been submitted into batches and applies them.
func (s *Store) commitLoop() {
	defer close(s.applied)
	for {
		select {
		case step := <-s.submitted:
			s.apply(bus.Gather(step, s.submitted, maxGroup, maxGroupBytes))
		case <-s.closing:
			for {
				select {
				case step := <-s.submitted:
					s.apply(bus.Gather(step, s.submitted, maxGroup, maxGroupBytes))
				default:
					return
				}
			}
		}
	}
}

// apply puts steps into one batch and makes it visible. The disk is waited for in syncLoop.
func (s *Store) apply(steps []*bus.Step) {
	g := &building{
		store: s, now: time.Now(), batch: s.db.NewBatch(), serial: s.serial.Load() + 1,
		written: make(map[bus.RowKey]struct{}), ends: make(map[string]uint64), moved: make(map[positionKey]*bus.Position),
		newest: make(map[string]uint64),
	}
	out := group{batch: g.batch, serial: g.serial, ends: g.ends, begun: g.now, steps: make([]finished, 0, len(steps))}
	for _, step := range steps {
		commit, err := g.add(step)
		out.steps = append(out.steps, finished{step, commit, err})
	}
	g.close()
	s.serial.Store(g.serial) // before it is visible: who has seen the batch waits for it in Barrier
	if err := s.write(g.batch); err != nil {
		s.fatal(err)
		return
	}
	s.mu.Lock()
	for key, p := range g.moved {
		s.positions[key] = p
	}
	s.mu.Unlock()
	s.applied <- out
}

// write applies a batch. Pebble panics where its log has failed already, which may be before the syncer was told.
func (s *Store) write(b *pebble.Batch) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("write to the log: %v", p)
		}
	}()
	return s.db.ApplyNoSyncWait(b, pebble.Sync)
}

// building is a batch being put together by the committer.
type building struct {
	store   *Store
	now     time.Time
	batch   *pebble.Batch
	serial  uint64
	written map[bus.RowKey]struct{} // rows that an earlier step of this batch has written
	ends    map[string]uint64
	moved   map[positionKey]*bus.Position
	newest  map[string]uint64 // of compacted topics: where this batch has put a key's record
}

// add puts a step into the batch, or says why it is refused.
func (g *building) add(step *bus.Step) (bus.Commit, error) {
	for _, check := range step.Checks {
		if err := g.check(check); err != nil {
			return bus.Commit{}, err
		}
	}
	for _, w := range step.Writes {
		g.written[w.RowKey] = struct{}{}
		if w.Value == nil {
			g.must(g.batch.Delete(rowKey(w.RowKey), nil))
			continue
		}
		g.must(g.batch.Set(rowKey(w.RowKey), joinRow(g.serial, w.Value), nil))
	}
	var commit bus.Commit
	for _, a := range step.Appends {
		commit.Add(a.Topic, bus.Stamp{Sequence: g.append(a) + 1})
	}
	for _, place := range step.Finish {
		g.position(step.Owner.Role, place.Topic).Finish(place.Offset)
	}
	return commit, nil
}

// check compares a version with what is stored, and with what the batch itself has written since.
func (g *building) check(c bus.Check) error {
	if _, written := g.written[c.RowKey]; written {
		return bus.ErrConflict
	}
	value, closer, err := g.store.db.Get(rowKey(c.RowKey))
	if errors.Is(err, pebble.ErrNotFound) {
		if c.Version != 0 {
			return bus.ErrConflict
		}
		return nil
	}
	if err != nil {
		return g.store.readError(err)
	}
	defer func() { _ = closer.Close() }()
	if version, _, err := splitRow(value); err != nil || version != c.Version {
		return errors.Join(err, bus.ErrConflict)
	}
	return nil
}

// append gives a record its offset. In a compacted topic it takes the place of the key's older one.
func (g *building) append(a bus.Append) uint64 {
	offset, begun := g.ends[a.Topic]
	if !begun {
		g.store.mu.Lock()
		offset = g.store.topicLog(a.Topic).next
		g.store.mu.Unlock()
	}
	g.ends[a.Topic] = offset + 1
	if g.store.topics[a.Topic].Compacted {
		g.compact(a, offset)
	}
	g.must(g.batch.Set(recordKey(a.Topic, offset), encodeRecord(g.now, a), nil))
	return offset
}

func (g *building) compact(a bus.Append, offset uint64) {
	index := newestKey(a.Topic, a.Key)
	if older, inBatch := g.newest[string(index)]; inBatch {
		g.must(g.batch.Delete(recordKey(a.Topic, older), nil))
	} else if value, closer, err := g.store.db.Get(index); err == nil {
		if older, err := decodeUint(bytes.Clone(value)); err == nil {
			g.must(g.batch.Delete(recordKey(a.Topic, older), nil))
		}
		_ = closer.Close()
	} else if !errors.Is(err, pebble.ErrNotFound) {
		g.must(err)
	}
	g.newest[string(index)] = offset
	g.must(g.batch.Set(index, encodeUint(offset), nil))
}

// position returns the batch's own copy of a position, which becomes the consumer's when the batch is applied.
func (g *building) position(role bus.Role, topic string) *bus.Position {
	key := positionKey{role, topic}
	p, moved := g.moved[key]
	if !moved {
		g.store.mu.Lock()
		own := g.store.position(role, topic).Clone()
		g.store.mu.Unlock()
		p = &own
		g.moved[key] = p
	}
	return p
}

// close adds what the batch moved: ends, positions and the serial number.
func (g *building) close() {
	for topic, end := range g.ends {
		g.must(g.batch.Set(endKey(topic), encodeUint(end), nil))
		g.store.mu.Lock()
		g.store.topicLog(topic).next = end
		g.store.mu.Unlock()
	}
	for key, p := range g.moved {
		value, err := p.AppendBinary(nil)
		g.must(err)
		g.must(g.batch.Set(positionRow(key), value, nil))
	}
	g.must(g.batch.Set(metaKey("serial"), encodeUint(g.serial), nil))
}

// must ends the process: building a batch in memory, or reading an index, fails only when the store is broken.
func (g *building) must(err error) {
	if err != nil {
		g.store.fatal(err)
	}
}

// syncLoop waits for the disk, batch by batch, and tells who waits.
func (s *Store) syncLoop() {
	for g := range s.applied {
		if err := g.batch.SyncWait(); err != nil {
			s.fatal(err)
			return
		}
		_ = g.batch.Close()
		s.metrics.steps.Observe(float64(len(g.steps)))
		s.metrics.seconds.Observe(time.Since(g.begun).Seconds())
		s.mu.Lock()
		for topic, end := range g.ends {
			l := s.topicLog(topic)
			l.durable = end
			close(l.grown)
			l.grown = make(chan struct{})
		}
		s.mu.Unlock()
		s.batchAt.reach(g.serial)
		for _, f := range g.steps {
			f.step.Done(f.commit, f.err)
		}
	}
}

// trimLoop drops the records that every reader has finished.
func (s *Store) trimLoop() {
	ticker := time.NewTicker(trimEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.trim()
		case <-s.closing:
			return
		}
	}
}

func (s *Store) trim() {
	type cut struct {
		topic    string
		from, to uint64
	}
	var cuts []cut
	s.mu.Lock()
	for topic, l := range s.logs {
		d, declared := s.topics[topic]
		if !declared || d.Compacted || len(d.To) == 0 {
			continue
		}
		low := l.durable
		for _, reader := range d.To {
			low = min(low, s.position(reader, topic).Low)
		}
		if low > l.trimmed {
			cuts = append(cuts, cut{topic, l.trimmed, low})
			l.trimmed = low
		}
	}
	s.mu.Unlock()
	for _, c := range cuts {
		if err := s.db.DeleteRange(recordKey(c.topic, c.from), recordKey(c.topic, c.to), pebble.NoSync); err != nil {
			s.fatal(err)
			return
		}
	}
}
