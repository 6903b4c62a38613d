package bus

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

const (
	timerSource = "_timer"
	// heldSoon and heldRetry are the shortest and the longest time between two tries of held inputs.
	heldSoon  = 20 * time.Millisecond
	heldRetry = 10 * time.Second
)

// Hold is returned by a handler that can't handle its input before an entry of a table changes. The input and all that
// follows with the same key are set aside with the reason, and handed in again when the entry changes.
func Hold(reason string, until ...Until) error { return &holdError{reason: reason, until: until} }

// Until names the entry of a table that a held input waits for.
type Until struct {
	_     struct{} `cbor:",toarray"`
	Topic string
	Key   string
}

type holdError struct {
	reason string
	until  []Until
}

func (e *holdError) Error() string { return "held: " + e.reason }

// heldInput is an input that was set aside, as it is stored: kind "_held:<role>", key of the input, row a big-endian
// number in order of arrival.
type heldInput struct {
	Source string    `cbor:"1,keyasint"`           // topic, or "_timer"
	Value  []byte    `cbor:"2,keyasint,omitempty"` // of a record
	Timer  string    `cbor:"3,keyasint,omitempty"`
	At     time.Time `cbor:"4,keyasint"`
	Reason string    `cbor:"5,keyasint"`
	Poison bool      `cbor:"6,keyasint,omitempty"`
	Until  []Until   `cbor:"7,keyasint,omitempty"`
	Since  time.Time `cbor:"8,keyasint"`

	row string // where it is stored; empty: not yet
}

// Held describes an input that was set aside.
type Held struct {
	Key    string
	Row    string // names the input among those of its key
	Source string
	Reason string
	Poison bool
	Since  time.Time
}

// blockade is a key whose inputs are set aside. c.mu guards it.
type blockade struct {
	last      uint64 // number of the newest stored input
	releasing bool
	pending   int // inputs of the release under way
	poison    bool
	until     []Until
}

func (c *Consumer) heldKind() string { return "_held:" + string(c.client.role) }

// loadBlocked finds the keys with inputs set aside by earlier runs.
func (c *Consumer) loadBlocked(ctx context.Context) error {
	return c.client.bus.driver.Scan(ctx, Range{Kind: c.heldKind(), AllKeys: true}, func(row Row) bool {
		b := c.blocked[row.Key]
		var held heldInput
		if b == nil {
			_ = Decode(row.Value, &held) // one that does not decode stays until it is dropped by hand
			b = &blockade{poison: held.Poison, until: held.Until}
			c.blocked[row.Key] = b
		}
		b.last = heldNumber(row.Row)
		return true
	})
}

// passBlockade deals with an input whose key is blocked: it sets it aside and reports true, or reports false where the
// input may be handled.
func (c *Consumer) passBlockade(in *input) bool {
	c.mu.Lock()
	b, blocked := c.blocked[in.Key]
	ours := blocked && b.releasing && in.aside.row != ""
	c.mu.Unlock()
	switch {
	case !blocked || ours:
		return false
	case in.aside.row != "": // a released input whose predecessor was held again
		in.done(Commit{}, ErrConflict)
		return true
	}
	return c.setAside(in, "waits behind an input that was set aside", nil)
}

// setAside stores the input in its key's state and blocks the key. It reports false when that could not be committed.
// hold is nil for poison and for what waits behind.
func (c *Consumer) setAside(in *input, reason string, hold *holdError) bool {
	c.mu.Lock()
	b, blocked := c.blocked[in.Key]
	if !blocked {
		b = &blockade{poison: hold == nil}
	}
	row, number := in.aside.row, b.last
	if row == "" {
		number++
		row = heldRow(number)
	}
	c.mu.Unlock()

	held := *in.aside
	held.Reason, held.Since, held.Poison = reason, time.Now(), hold == nil
	if hold != nil {
		held.Until = hold.until
	}
	octets, err := Encode(held)
	if err != nil {
		return false
	}
	tx := newTx(c.ctx, c.client, in.Input)
	if in.aside.row == "" {
		in.finish(tx)
	}
	tx.put(RowKey{c.heldKind(), in.Key, row}, octets, nil)
	if _, err := c.commit(tx); err != nil {
		c.log(in, "input could not be set aside", err)
		return false
	}

	c.mu.Lock()
	b.last = max(b.last, number)
	if in.aside.row != "" || !blocked {
		b.poison, b.until, b.releasing = hold == nil, held.Until, false
	}
	c.blocked[in.Key] = b
	c.mu.Unlock()
	if in.aside.row == "" { // a hold that is repeated goes on with its longer and longer waits
		select {
		case c.holds <- struct{}{}:
		default:
		}
	}
	c.client.bus.metrics.held.WithLabelValues(string(c.client.role)).Inc()
	in.done(Commit{}, nil)
	return true
}

// Held lists the inputs that are set aside.
func (c *Consumer) Held(ctx context.Context) (list []Held, err error) {
	err = c.client.bus.driver.Scan(ctx, Range{Kind: c.heldKind(), AllKeys: true}, func(row Row) bool {
		var h heldInput
		if decodeErr := Decode(row.Value, &h); decodeErr != nil {
			h.Reason = decodeErr.Error()
		}
		list = append(list, Held{row.Key, row.Row, h.Source, h.Reason, h.Poison, h.Since})
		return true
	})
	return list, err
}

// Release hands in again, in order, what is set aside under a key.
func (c *Consumer) Release(ctx context.Context, key string) error {
	c.mu.Lock()
	b, blocked := c.blocked[key]
	if !blocked || b.releasing {
		c.mu.Unlock()
		return nil
	}
	b.releasing = true
	c.mu.Unlock()

	var inputs []*input
	err := c.client.bus.driver.Scan(ctx, Range{Kind: c.heldKind(), Key: key}, func(row Row) bool {
		inputs = append(inputs, c.releasedInput(row))
		return true
	})
	if err != nil || len(inputs) == 0 {
		c.mu.Lock()
		b.releasing = false
		if err == nil {
			delete(c.blocked, key)
		}
		c.mu.Unlock()
		return err
	}
	c.mu.Lock()
	b.pending = len(inputs)
	c.mu.Unlock()
	for _, in := range inputs {
		if !c.enqueue(in) {
			return ErrClosed
		}
	}
	return nil
}

// Drop removes one input that was set aside, for good. What waits behind it is handed in again by Release.
func (c *Consumer) Drop(ctx context.Context, key, row string) error {
	_, err := c.client.bus.commit(ctx, &Step{Writes: []Write{{RowKey: RowKey{c.heldKind(), key, row}}}})
	return err
}

// releasedInput makes an input of a stored one.
func (c *Consumer) releasedInput(row Row) *input {
	var h heldInput
	err := Decode(row.Value, &h)
	h.row = row.Row
	in := &input{
		Input:  Input{Key: row.Key, ID: fmt.Sprintf("held/%x/%x", row.Key, row.Row), Time: h.At},
		size:   len(h.Value),
		handle: func(context.Context, *Tx) error { return err },
		finish: func(tx *Tx) { tx.delete(row.RowKey) },
		aside:  &h,
	}
	if rehandle, known := c.rehandlers[h.Source]; known && err == nil {
		in.handle = rehandle(row.Key, h.Value)
	} else if h.Source == timerSource && c.timer != nil {
		in.handle = c.timerHandler(row.Key, h.Timer, "")
	} else if err == nil {
		err = fmt.Errorf("bus: nothing handles %s any more", h.Source)
	}
	in.done = func(_ Commit, err error) {
		if err == nil {
			c.released(row)
		}
	}
	return in
}

// released lifts the blockade after its last input. What was stored while the release went on is released next. Where
// the release ended with an input being set aside again, there is nothing to do.
func (c *Consumer) released(row Row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, blocked := c.blocked[row.Key]
	if !blocked || !b.releasing {
		return
	}
	c.client.bus.metrics.held.WithLabelValues(string(c.client.role)).Dec()
	b.pending--
	switch {
	case b.last == heldNumber(row.Row):
		delete(c.blocked, row.Key)
	case b.pending == 0:
		b.releasing = false
		c.work.Go(func() {
			if err := c.Release(c.ctx, row.Key); err != nil {
				c.client.bus.log.WarnContext(c.ctx, "release of a held key", "role", c.client.role, "error", err)
			}
		})
	}
}

// retryHeld releases held keys when an entry that they wait for changes. A change may reach this loop before it reaches
// the table that the handler looks at, or have come before the hold: so keys are tried again soon after each change and
// each hold, then more and more rarely.
func (c *Consumer) retryHeld(ctx context.Context) error {
	changes := make(chan Until, 64)
	followed := make(map[string]bool)
	wait := heldRetry
	for {
		for _, topic := range c.heldTopics() {
			if !followed[topic] {
				followed[topic] = true
				c.work.Go(func() { c.follow(ctx, topic, changes) })
			}
		}
		wanted := func(Until) bool { return true }
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-c.holds:
			timer.Stop()
			wait = heldSoon
			continue
		case u := <-changes:
			wait = heldSoon
			wanted = func(held Until) bool { return held == u }
		case <-timer.C:
			wait = min(2*wait, heldRetry)
		}
		timer.Stop()
		for _, key := range c.heldKeys(wanted) {
			if err := c.Release(ctx, key); err != nil {
				c.client.bus.log.WarnContext(ctx, "release of a held key", "role", c.client.role, "error", err)
			}
		}
	}
}

// follow tells of every new record of a topic.
func (c *Consumer) follow(ctx context.Context, topic string, changes chan<- Until) {
	driver := c.client.bus.driver
	next, _ := driver.End(topic, 0)
	for {
		end, grown := driver.End(topic, 0)
		if next >= end {
			select {
			case <-grown:
				continue
			case <-ctx.Done():
				return
			}
		}
		records, err := driver.Read(ctx, topic, 0, next, readBatch)
		if err != nil {
			return // the periodic retry goes on
		}
		next = end
		for _, r := range records {
			next = r.Offset + 1
			select {
			case changes <- Until{Topic: topic, Key: r.Key}:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (c *Consumer) heldTopics() (topics []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.blocked {
		for _, u := range b.until {
			topics = append(topics, u.Topic)
		}
	}
	return topics
}

// heldKeys returns the keys that are held, not poisoned, and wait for an entry that is wanted.
func (c *Consumer) heldKeys(wanted func(Until) bool) (keys []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, b := range c.blocked {
		if !b.poison && !b.releasing && slices.ContainsFunc(b.until, wanted) {
			keys = append(keys, key)
		}
	}
	return keys
}

func heldRow(number uint64) string {
	return string(binary.BigEndian.AppendUint64(nil, number))
}

func heldNumber(row string) uint64 {
	if len(row) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(row))
}
