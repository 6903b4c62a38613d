package bus

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	timerSource = "_timer"
	// heldSoon and heldRetry are the shortest and the longest time between two tries of held inputs.
	heldSoon  = 20 * time.Millisecond
	heldRetry = 10 * time.Second
	maxReason = 16 << 10 // octets of a reason that are kept
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

// heldInput is an input that was set aside, as it is stored: kind "_held:<role>/<partition>", key of the input, row a big-endian
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
	// Behind is of an input with which nothing is wrong: it waits behind another.
	Behind bool `cbor:"9,keyasint,omitempty"`

	row   string // where it is stored; empty: not yet
	round uint64 // the release that handed it in again
}

// blockade is a key whose inputs are set aside. p.mu guards it.
type blockade struct {
	last      uint64 // number of the newest stored input
	inputs    int    // stored
	releasing bool
	round     uint64 // of releases: what an earlier one left in the key's queue is passed over
	again     bool   // somebody asked for a release while one went on
	pending   int    // inputs of the release under way
	poison    bool
	until     []Until
}

func (p *partition) heldRow(key, row string) RowKey { return RowKey{p.Role, p.kind("held"), key, row} }

// loadBlocked finds the keys with inputs set aside by earlier runs.
func (p *partition) loadBlocked(ctx context.Context) error {
	p.blocked = make(map[string]*blockade) // this may be another try
	defer p.noticeHolds()
	return p.client.bus.driver.Scan(ctx, Range{Role: p.Role, Kind: p.kind("held"), AllKeys: true}, func(row Row) bool {
		b := p.blocked[row.Key]
		var held heldInput
		if b == nil {
			_ = Decode(row.Value, &held) // one that does not decode stays until it is dropped by hand
			b = &blockade{poison: held.Poison, until: held.Until}
			if held.Behind || held.Reason == waitsBehind {
				// What it waited behind is done: the key's release was broken off. It waits for nothing.
				b.poison, b.until = false, []Until{{}}
			}
			p.blocked[row.Key] = b
		}
		b.last = HeldNumber(row.Row)
		b.inputs++
		return true
	})
}

// passBlockade deals with an input whose key is blocked: it sets it aside and reports true, or reports false where the
// input may be handled.
func (p *partition) passBlockade(in *input) bool {
	p.mu.Lock()
	b, blocked := p.blocked[in.Key]
	ours := blocked && b.releasing && in.aside.row != "" && in.aside.round == b.round
	p.mu.Unlock()
	switch {
	case !blocked || ours:
		return false
	case in.aside.row != "": // a released input whose predecessor was held again
		in.done(Commit{}, ErrConflict)
		return true
	}
	return p.setAside(in, waitsBehind, nil)
}

const waitsBehind = "waits behind an input that was set aside"

// noticeHolds has what is held tried soon.
func (p *partition) noticeHolds() {
	select {
	case p.holds <- struct{}{}:
	default:
	}
}

// setAside stores the input in its key's state and blocks the key. It reports false when that could not be committed.
// hold is nil for poison and for what waits behind.
func (p *partition) setAside(in *input, reason string, hold *holdError) bool {
	p.mu.Lock()
	b, blocked := p.blocked[in.Key]
	if !blocked {
		b = &blockade{poison: hold == nil}
	}
	row, number := in.aside.row, b.last
	if row == "" {
		number++
		row = HeldRow(number)
	}
	p.mu.Unlock()

	held := *in.aside
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + " ..."
	}
	held.Reason, held.Since, held.Behind = reason, time.Now(), reason == waitsBehind
	held.Poison = hold == nil && !held.Behind
	if hold != nil {
		held.Until = hold.until
	}
	octets, err := Encode(held)
	if err != nil {
		return false
	}
	tx := newTx(p.ctx, p, in.Input)
	if in.aside.row == "" {
		in.finish(tx)
	}
	tx.put(p.heldRow(in.Key, row), octets, nil)
	if _, err := p.commit(tx); err != nil {
		p.log(in, "input could not be set aside", err)
		return false
	}

	p.mu.Lock()
	if in.aside.row == "" {
		b.inputs++
	}
	b.last = max(b.last, number)
	again := false
	if in.aside.row != "" || !blocked {
		b.poison, b.until, b.releasing = hold == nil, held.Until, false
		again, b.again = b.again, false
	}
	p.blocked[in.Key] = b
	p.mu.Unlock()
	if again {
		p.releaseSoon(in.Key)
	}
	if in.aside.row == "" { // a hold that is repeated goes on with its longer and longer waits
		p.noticeHolds()
	}
	in.done(Commit{}, nil)
	return true
}

// release hands in again, in order, what is set aside under a key.
func (p *partition) release(ctx context.Context, key string) error {
	p.mu.Lock()
	b, blocked := p.blocked[key]
	if !blocked || b.releasing {
		if blocked {
			b.again = true
		}
		p.mu.Unlock()
		return nil
	}
	b.releasing, b.again = true, false
	b.round++
	round := b.round
	p.mu.Unlock()

	var inputs []*input
	err := p.client.bus.driver.Scan(ctx, Range{Role: p.Role, Kind: p.kind("held"), Key: key}, func(row Row) bool {
		inputs = append(inputs, p.releasedInput(row, round))
		return true
	})
	if err != nil || len(inputs) == 0 {
		p.mu.Lock()
		b.releasing = false
		if err == nil {
			delete(p.blocked, key)
		}
		p.mu.Unlock()
		return err
	}
	p.mu.Lock()
	b.pending = len(inputs)
	p.mu.Unlock()
	for _, in := range inputs {
		if !p.enqueue(in) {
			return ErrClosed
		}
	}
	return nil
}

// releasedInput makes an input of a stored one.
func (p *partition) releasedInput(row Row, round uint64) *input {
	var h heldInput
	err := Decode(row.Value, &h)
	h.row, h.round = row.Row, round
	in := &input{
		Input:  Input{Key: row.Key, ID: fmt.Sprintf("held/%x/%x", row.Key, row.Row), Time: h.At},
		size:   len(h.Value),
		handle: func(context.Context, *Tx) error { return err },
		finish: func(tx *Tx) { tx.delete(row.RowKey) },
		aside:  &h,
	}
	if rehandle, known := p.consumer.rehandlers[h.Source]; known && err == nil {
		in.handle = rehandle(row.Key, h.Value)
	} else if h.Source == timerSource && p.consumer.timer != nil {
		in.handle = p.timerHandler(row.Key, h.Timer, "")
	} else if err == nil {
		err = fmt.Errorf("bus: nothing handles %s any more", h.Source)
	}
	in.done = func(_ Commit, err error) {
		if err == nil {
			p.released(row)
		}
	}
	return in
}

// released lifts the blockade after its last input. What was stored while the release went on is released next. Where
// the release ended with an input being set aside again, there is nothing to do.
func (p *partition) released(row Row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, blocked := p.blocked[row.Key]
	if !blocked || !b.releasing {
		return
	}
	b.inputs--
	b.pending--
	switch {
	case b.last == HeldNumber(row.Row):
		delete(p.blocked, row.Key)
	case b.pending == 0:
		b.releasing = false
		p.releaseSoon(row.Key)
	}
}

// releaseSoon releases a key without waiting for it.
func (p *partition) releaseSoon(key string) {
	p.work.Go(func() {
		if err := p.release(p.ctx, key); err != nil {
			p.client.bus.Log.WarnContext(p.ctx, "release of a held key", "role", p.Role, "error", err)
		}
	})
}

// retryHeld releases held keys when an entry that they wait for changes. The handler may look at another table than the one
// that has changed already, and the change may have come before the hold: so keys are tried again soon after each change and
// each hold, then more and more rarely.
func (p *partition) retryHeld(ctx context.Context) error {
	wait := heldRetry
	for {
		wanted := func(Until) bool { return true }
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-p.holds:
			timer.Stop()
			wait = heldSoon
			continue
		case <-p.changed:
			wait = heldSoon
			changes := p.takeChanges()
			wanted = func(held Until) bool { _, changed := changes[held]; return changed }
		case <-timer.C:
			wait = min(2*wait, heldRetry)
		}
		timer.Stop()
		for _, key := range p.heldKeys(wanted) {
			if err := p.release(ctx, key); err != nil {
				p.client.bus.Log.WarnContext(ctx, "release of a held key", "role", p.Role, "error", err)
			}
		}
	}
}

// entryChanged tells those who hold inputs that an entry of a table is another one now.
func (b *Bus) entryChanged(topic, key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p := range b.watching {
		p.entryChanged(Until{Topic: topic, Key: key})
	}
}

func (p *partition) entryChanged(u Until) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.blocked) == 0 { // a hold that is on its way is tried again soon anyway
		return
	}
	p.changes[u] = struct{}{}
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *partition) takeChanges() map[Until]struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	changes := p.changes
	p.changes = make(map[Until]struct{})
	return changes
}

// heldKeys returns the keys that are held, not poisoned, and wait for an entry that is wanted.
func (p *partition) heldKeys(wanted func(Until) bool) (keys []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, b := range p.blocked {
		if !b.poison && !b.releasing && slices.ContainsFunc(b.until, wanted) {
			keys = append(keys, key)
		}
	}
	return keys
}

// HeldRow names an input that is set aside by its number among those of its key.
func HeldRow(number uint64) string {
	return string(binary.BigEndian.AppendUint64(nil, number))
}

// HeldNumber reads what HeldRow wrote; 0 for anything else.
func HeldNumber(row string) uint64 {
	if len(row) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(row))
}
