package bus

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// A timer is two rows: one in order of time (key: due time; row: key and name), which the consumer scans, and one under
// the timer's key, which says when a name is due and so lets a step replace or stop it.
const (
	timerBatch   = 256
	maxTimerWait = 10 * time.Second // bounds what a jump of the clock can delay
)

func (p *partition) timerByTime(due, key, name string) RowKey {
	return RowKey{p.Role, p.kind("timer"), due, timerRow(key, name)}
}

func (p *partition) timerByKey(key, name string) RowKey {
	return RowKey{p.Role, "_timerset:" + string(p.Role), key, name}
}

// writeTimers turns the timers of a step into rows.
func (p *partition) writeTimers(tx *Tx) error {
	key := tx.input.Key
	for name, at := range tx.timers {
		set := p.timerByKey(key, name)
		due, found, err := tx.get(set)
		if err != nil {
			return err
		}
		if found {
			tx.delete(p.timerByTime(string(due), key, name))
		}
		if at.IsZero() {
			tx.delete(set)
			continue
		}
		due = encodeDue(at)
		tx.put(set, due, nil)
		tx.put(p.timerByTime(string(due), key, name), []byte{1}, nil)
	}
	return nil
}

// feedTimers hands out timers as they become due.
func (p *partition) feedTimers(ctx context.Context) error {
	if p.consumer.timer == nil {
		return nil
	}
	for {
		var due []*input
		var wait time.Duration
		err := p.persevere(ctx, "timers", func(ctx context.Context) (err error) {
			due, wait, err = p.dueTimers(ctx)
			return err
		})
		if err != nil {
			return fmt.Errorf("timers: %w", err)
		}
		for _, in := range due {
			if !p.enqueue(in) {
				return nil
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.wake: // a timer was set that is due sooner
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// timersSet takes note of timers that were committed. What is due already goes to its handler at once; the feed is woken
// only for what is due before it would look again, so that busy timers cost no scans.
func (p *partition) timersSet(key string, timers map[string]time.Time) {
	now := time.Now()
	var due []*input
	wake := false
	p.mu.Lock()
	for name, at := range timers {
		if at.IsZero() {
			continue
		}
		row := string(encodeDue(at))
		p.dueSet, p.dueFrom = min(p.dueSet, row), min(p.dueFrom, row)
		if at = decodeDue([]byte(row)); at.After(now) {
			wake = wake || at.Before(p.nextScan)
			continue
		}
		due = append(due, p.timerInput(row, key, name, at))
	}
	p.mu.Unlock()
	for _, in := range due {
		if p.takeOff(in.ID) {
			p.enqueue(in) // refused only when the consumer stops; the rows stay
		}
	}
	if !wake {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// dueTimers returns the timers that are due and not in work, and how long to wait before looking again.
func (p *partition) dueTimers(ctx context.Context) (due []*input, wait time.Duration, err error) {
	now, wait := time.Now(), maxTimerWait
	p.mu.Lock()
	first := string(encodeDue(now)) // the due time of the first timer there is, or now
	from := p.dueFrom
	p.dueSet = first
	p.nextScan = now.Add(maxTimerWait) // the scan may not see what is set from now on: that wakes the feed again
	p.mu.Unlock()
	seen := false
	err = p.client.bus.driver.Scan(ctx, Range{Role: p.Role, Kind: p.kind("timer"), AllKeys: true, From: from}, func(row Row) bool {
		if !seen {
			first, seen = min(first, row.Key), true
		}
		at := decodeDue([]byte(row.Key))
		if at.After(now) {
			wait = min(wait, at.Sub(now))
			return false
		}
		key, name, ok := splitTimerRow(row.Row)
		if !ok {
			return true
		}
		if in := p.timerInput(row.Key, key, name, at); p.takeOff(in.ID) {
			due = append(due, in)
		}
		return len(due) < timerBatch
	})
	if len(due) == timerBatch {
		wait = 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.dueFrom = min(first, p.dueSet)
	}
	p.nextScan = now.Add(wait)
	return due, wait, err
}

func (p *partition) takeOff(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, flying := p.flying[id]; flying {
		return false
	}
	p.flying[id] = struct{}{}
	return true
}

func (p *partition) timerInput(due, key, name string, at time.Time) *input {
	in := &input{
		Input:  Input{Key: key, ID: fmt.Sprintf("timer/%x/%s/%d", key, name, at.UnixMilli()), Time: at},
		handle: p.timerHandler(key, name, due),
		aside:  &heldInput{Source: timerSource, Timer: name, At: at},
	}
	in.finish = func(tx *Tx) {
		tx.delete(p.timerByTime(due, key, name))
		if _, again := tx.timers[name]; again {
			return
		}
		if set, found, err := tx.get(p.timerByKey(key, name)); err != nil {
			tx.fail(err)
		} else if found && string(set) == due {
			tx.delete(p.timerByKey(key, name))
		}
	}
	in.done = func(Commit, error) {
		p.mu.Lock()
		delete(p.flying, in.ID)
		p.mu.Unlock()
	}
	return in
}

// timerHandler passes over a timer that was replaced or stopped while it waited in its key's queue. due is empty where
// the timer comes back from having been set aside.
func (p *partition) timerHandler(key, name, due string) func(context.Context, *Tx) error {
	return func(ctx context.Context, tx *Tx) error {
		if due != "" {
			set, found, err := tx.get(p.timerByKey(key, name))
			if err != nil {
				return err
			}
			if !found || string(set) != due {
				return nil
			}
		}
		return p.consumer.timer(ctx, tx, key, name)
	}
}

func encodeDue(at time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(max(at.UnixMilli(), 0)))
}

func decodeDue(b []byte) time.Time {
	if len(b) != 8 {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b)))
}

func timerRow(key, name string) string { return fmt.Sprintf("%x/%s", key, name) }

func splitTimerRow(row string) (key, name string, ok bool) {
	encoded, name, ok := strings.Cut(row, "/")
	if !ok {
		return "", "", false
	}
	var octets []byte
	if _, err := fmt.Sscanf(encoded, "%x", &octets); err != nil && encoded != "" {
		return "", "", false
	}
	return string(octets), name, true
}
