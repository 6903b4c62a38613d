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

func (c *Consumer) timerKinds() (byTime, byKey string) {
	role := string(c.client.role)
	return "_timer:" + role, "_timerset:" + role
}

// writeTimers turns the timers of a step into rows.
func (c *Consumer) writeTimers(tx *Tx) error {
	byTime, byKey := c.timerKinds()
	key := tx.input.Key
	for name, at := range tx.timers {
		set := RowKey{byKey, key, name}
		due, found, err := tx.get(set)
		if err != nil {
			return err
		}
		if found {
			tx.delete(RowKey{byTime, string(due), timerRow(key, name)})
		}
		if at.IsZero() {
			tx.delete(set)
			continue
		}
		due = encodeDue(at)
		tx.put(set, due, nil)
		tx.put(RowKey{byTime, string(due), timerRow(key, name)}, []byte{1}, nil)
	}
	return nil
}

// feedTimers hands out timers as they become due.
func (c *Consumer) feedTimers(ctx context.Context) error {
	if c.timer == nil {
		return nil
	}
	for {
		due, wait, err := c.dueTimers(ctx)
		if err != nil {
			return fmt.Errorf("timers: %w", err)
		}
		for _, in := range due {
			if !c.enqueue(in) {
				return nil
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.wake: // a timer was set that is due sooner
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// timersSet takes note of timers that were committed. What is due already goes to its handler at once; the feed is woken
// only for what is due before it would look again, so that busy timers cost no scans.
func (c *Consumer) timersSet(key string, timers map[string]time.Time) {
	now := time.Now()
	var due []*input
	wake := false
	c.mu.Lock()
	for name, at := range timers {
		if at.IsZero() {
			continue
		}
		row := string(encodeDue(at))
		c.dueSet, c.dueFrom = min(c.dueSet, row), min(c.dueFrom, row)
		if at = decodeDue([]byte(row)); at.After(now) {
			wake = wake || at.Before(c.nextScan)
			continue
		}
		due = append(due, c.timerInput(row, key, name, at))
	}
	c.mu.Unlock()
	for _, in := range due {
		if c.takeOff(in.ID) {
			c.enqueue(in) // refused only when the consumer stops; the rows stay
		}
	}
	if !wake {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// dueTimers returns the timers that are due and not in work, and how long to wait before looking again.
func (c *Consumer) dueTimers(ctx context.Context) (due []*input, wait time.Duration, err error) {
	byTime, _ := c.timerKinds()
	now, wait := time.Now(), maxTimerWait
	c.mu.Lock()
	first := string(encodeDue(now)) // the due time of the first timer there is, or now
	from := c.dueFrom
	c.dueSet = first
	c.nextScan = now.Add(maxTimerWait) // the scan may not see what is set from now on: that wakes the feed again
	c.mu.Unlock()
	seen := false
	err = c.client.bus.driver.Scan(ctx, Range{Kind: byTime, AllKeys: true, From: from}, func(row Row) bool {
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
		if in := c.timerInput(row.Key, key, name, at); c.takeOff(in.ID) {
			due = append(due, in)
		}
		return len(due) < timerBatch
	})
	if len(due) == timerBatch {
		wait = 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.dueFrom = min(first, c.dueSet)
	}
	c.nextScan = now.Add(wait)
	return due, wait, err
}

func (c *Consumer) takeOff(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, flying := c.flying[id]; flying {
		return false
	}
	c.flying[id] = struct{}{}
	return true
}

func (c *Consumer) timerInput(due, key, name string, at time.Time) *input {
	byTime, byKey := c.timerKinds()
	in := &input{
		Input:  Input{Key: key, ID: fmt.Sprintf("timer/%x/%s/%d", key, name, at.UnixMilli()), Time: at},
		handle: c.timerHandler(key, name, due),
		aside:  &heldInput{Source: timerSource, Timer: name, At: at},
	}
	in.finish = func(tx *Tx) {
		tx.delete(RowKey{byTime, due, timerRow(key, name)})
		if _, again := tx.timers[name]; again {
			return
		}
		if set, found, err := tx.get(RowKey{byKey, key, name}); err != nil {
			tx.fail(err)
		} else if found && string(set) == due {
			tx.delete(RowKey{byKey, key, name})
		}
	}
	in.done = func(Commit, error) {
		c.mu.Lock()
		delete(c.flying, in.ID)
		c.mu.Unlock()
	}
	return in
}

// timerHandler passes over a timer that was replaced or stopped while it waited in its key's queue. due is empty where
// the timer comes back from having been set aside.
func (c *Consumer) timerHandler(key, name, due string) func(context.Context, *Tx) error {
	_, byKey := c.timerKinds()
	return func(ctx context.Context, tx *Tx) error {
		if due != "" {
			set, found, err := tx.get(RowKey{byKey, key, name})
			if err != nil {
				return err
			}
			if !found || string(set) != due {
				return nil
			}
		}
		return c.timer(ctx, tx, key, name)
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
