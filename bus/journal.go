package bus

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

// The journal says what happened to a key, for people. A note is written in the step that it tells of: kind
// "_journal:<role>/<partition>", key the step's, row the time and the note's number. For dropping what is old there is a row
// per hour and key: kind "_hours:<role>/<partition>", key the hour, row the key.
const (
	journalTime  = 24 * time.Hour
	journalBytes = 1 << 30 // of a role, in equal parts for its partitions
	noteOverhead = 64      // octets of a row beside its value, about
)

// Note is an entry of the journal.
type Note struct {
	At      time.Time         `cbor:"1,keyasint"`
	What    string            `cbor:"2,keyasint"`
	Details map[string]string `cbor:"3,keyasint,omitempty"`
}

// Note adds to the step an entry of the journal of its key.
func (tx *Tx) Note(what string, details map[string]string) {
	octets, err := encodeBounded(Note{tx.now, what, details})
	if err != nil {
		tx.fail(err)
		return
	}
	tx.notes++
	p, key := tx.owner, tx.input.Key
	row := binary.BigEndian.AppendUint64(nil, uint64(tx.now.UnixMicro()))
	row = binary.BigEndian.AppendUint16(row, tx.notes)
	hour := hourOf(tx.now)
	tx.put(RowKey{p.Role, p.kind("journal"), key, string(row)}, octets, nil)
	tx.put(RowKey{p.Role, p.kind("hours"), encodeHour(hour), key}, []byte{1}, nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.journal[hour] += int64(len(octets) + len(key) + noteOverhead)
}

// Journal returns what is noted of a key of the role, the oldest first.
func (c *Client) Journal(ctx context.Context, key string) (notes []Note, err error) {
	driver := c.bus.driver
	in := Range{Role: c.role, Kind: partitionKind("journal", c.role, PartitionOf(key, driver.Partitions(c.role))), Key: key}
	var failed error
	err = driver.Scan(ctx, in, func(row Row) bool {
		var n Note
		if failed = Decode(row.Value, &n); failed == nil {
			notes = append(notes, n)
		}
		return failed == nil
	})
	if failed != nil {
		return nil, failed
	}
	return notes, err
}

func hourOf(t time.Time) int64          { return t.Unix() / 3600 }
func encodeHour(hour int64) string      { return string(binary.BigEndian.AppendUint64(nil, uint64(hour))) }
func (p *partition) journalMost() int64 { return journalBytes / int64(p.consumer.count) }

// trimJournal drops the hours that are too old, and the oldest ones where the rest is too much.
func (p *partition) trimJournal(ctx context.Context, now time.Time) error {
	if !p.journalKnown {
		if err := p.measureJournal(ctx); err != nil {
			return err
		}
	}
	p.mu.Lock()
	oldest := hourOf(now.Add(-journalTime))
	var total int64
	hours := slices.Sorted(maps.Keys(p.journal))
	for _, bytes := range p.journal {
		total += bytes
	}
	var drop []int64
	for _, hour := range hours {
		if hour < oldest || total > p.journalMost() {
			drop = append(drop, hour)
			total -= p.journal[hour]
		}
	}
	p.mu.Unlock()
	for _, hour := range drop {
		if err := p.dropHour(ctx, hour); err != nil {
			return err
		}
		p.mu.Lock()
		delete(p.journal, hour)
		p.mu.Unlock()
	}
	return nil
}

// measureJournal finds out, once, what there was before.
func (p *partition) measureJournal(ctx context.Context) error {
	before := make(map[int64]int64)
	start := p.took.UnixMicro()
	err := p.client.bus.driver.Scan(ctx, Range{Role: p.Role, Kind: p.kind("journal"), AllKeys: true}, func(row Row) bool {
		if at, ok := noteTime(row.Row); ok && at < start {
			before[at/3600_000_000] += int64(len(row.Value) + len(row.Key) + noteOverhead)
		}
		return true
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for hour, bytes := range before {
		p.journal[hour] += bytes
	}
	p.journalKnown = true
	return nil
}

func noteTime(row string) (micros int64, ok bool) {
	if len(row) != 10 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64([]byte(row))), true
}

// dropHour removes the notes of an hour. A crash in between leaves the rows that lead to the others for the next time.
func (p *partition) dropHour(ctx context.Context, hour int64) error {
	var keys []Row
	hours := Range{Role: p.Role, Kind: p.kind("hours"), Key: encodeHour(hour)}
	if err := p.client.bus.driver.Scan(ctx, hours, func(row Row) bool { keys = append(keys, row); return true }); err != nil {
		return err
	}
	step := &Step{}
	for _, of := range keys {
		err := p.client.bus.driver.Scan(ctx, Range{Role: p.Role, Kind: p.kind("journal"), Key: of.Row}, func(row Row) bool {
			at, ok := noteTime(row.RowKey.Row)
			if ok && at/3600_000_000 > hour {
				return false
			}
			step.Writes = append(step.Writes, Write{RowKey: row.RowKey})
			return true
		})
		if err != nil {
			return err
		}
		step.Writes = append(step.Writes, Write{RowKey: of.RowKey})
		if len(step.Writes) >= expireBatch {
			if _, err := p.client.bus.commit(ctx, step); err != nil {
				return err
			}
			step = &Step{}
		}
	}
	if len(step.Writes) == 0 {
		return nil
	}
	_, err := p.client.bus.commit(ctx, step)
	return err
}
