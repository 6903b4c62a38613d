package bus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Tx gathers what a step wants done. Nothing of it is visible to anybody before the step commits.
type Tx struct {
	ctx    context.Context
	client *Client
	owner  *partition
	input  Input
	now    time.Time

	step   Step
	writes map[RowKey]write
	reads  map[RowKey]uint64 // versions of shared rows that were read
	timers map[string]time.Time
	calls  int
	notes  uint16
	err    error
}

type write struct {
	value []byte // nil: deleted
	known map[int64]bool
}

// Input says what a step was given.
type Input struct {
	Key string
	// ID names the input: the same input has the same one however often it is handled.
	ID string
	// Time is when a record was committed, a timer was due, or a command came in.
	Time time.Time
	// Attempt counts from 1 how often this process has handed the input to a handler.
	Attempt int
}

// Input returns what the step was given.
func (tx *Tx) Input() Input { return tx.input }

// Now returns the time at which the step began. A step that uses no other clock is the same when it runs again.
func (tx *Tx) Now() time.Time { return tx.now }

// CallID returns an id for a call that changes something: made of the step's input and the call's number within the
// step, so that it is the same when the step runs again.
func (tx *Tx) CallID() string {
	tx.calls++
	return fmt.Sprintf("%s#%d", tx.input.ID, tx.calls)
}

// SetTimer makes the handler of timers of this consumer get the name under the step's key at the given time. A timer of
// the same key and name is replaced.
func (tx *Tx) SetTimer(name string, at time.Time) { tx.timers[name] = at }

// StopTimer removes a timer of the step's key. An absent one is no error.
func (tx *Tx) StopTimer(name string) { tx.timers[name] = time.Time{} }

func newTx(ctx context.Context, p *partition, in Input) *Tx {
	return &Tx{
		ctx: ctx, client: p.client, owner: p, input: in, now: time.Now(), step: Step{Owner: p.Ownership},
		writes: make(map[RowKey]write), reads: make(map[RowKey]uint64), timers: make(map[string]time.Time),
	}
}

// fail keeps the first error of a call that has no result to give it with; the step then fails as if its handler had
// returned it.
func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

func (tx *Tx) reader() *Client { return tx.client }

// owned says whether nobody but the steps of this input's key may write the row.
func (tx *Tx) owned(key RowKey) bool { return key.Key == tx.input.Key && key.Role == tx.client.role }

func (tx *Tx) get(key RowKey) ([]byte, bool, error) {
	if w, written := tx.writes[key]; written {
		return w.value, w.value != nil, nil
	}
	octets, version, err := tx.client.bus.driver.Get(tx.ctx, key)
	if err != nil {
		return nil, false, err
	}
	if _, seen := tx.reads[key]; !seen && !tx.owned(key) {
		tx.reads[key] = version
	}
	return octets, version != 0, nil
}

// scan merges the step's own writes into the stored rows.
func (tx *Tx) scan(in Range, yield func(Row) bool) error {
	own := tx.writesIn(in)
	more := true
	emitOwn := func() {
		key := own[0]
		own = own[1:]
		if w := tx.writes[key]; w.value != nil {
			more = yield(Row{RowKey: key, Value: w.value})
		}
	}
	err := tx.client.bus.driver.Scan(tx.ctx, in, func(row Row) bool {
		for more && len(own) > 0 && own[0].Compare(row.RowKey) < 0 {
			emitOwn()
		}
		switch {
		case !more:
		case len(own) > 0 && own[0] == row.RowKey:
			emitOwn()
		default:
			more = yield(row)
		}
		return more
	})
	for err == nil && more && len(own) > 0 {
		emitOwn()
	}
	return err
}

// writesIn returns the rows within the range that the step has written, in order.
func (tx *Tx) writesIn(in Range) (own []RowKey) {
	for key := range tx.writes {
		if in.contains(key) {
			own = append(own, key)
		}
	}
	slices.SortFunc(own, RowKey.Compare)
	return own
}

func (tx *Tx) append(topic, key string, v any) {
	value, err := encodeBounded(v)
	if err != nil {
		tx.fail(err)
		return
	}
	tx.step.Appends = append(tx.step.Appends, Append{Topic: topic, Key: key, Value: value})
}

func (tx *Tx) put(key RowKey, value []byte, known map[int64]bool) {
	tx.writes[key] = write{value, known}
}
func (tx *Tx) delete(key RowKey) { tx.writes[key] = write{} }

// seal turns what was gathered into a step that a driver can commit.
func (tx *Tx) seal() (*Step, error) {
	if tx.err != nil {
		return nil, tx.err
	}
	for key, version := range tx.reads {
		tx.step.Checks = append(tx.step.Checks, Check{key, version})
	}
	for key, w := range tx.writes {
		value := w.value
		if value != nil && w.known != nil {
			stored, _, err := tx.client.bus.driver.Get(tx.ctx, key)
			if err != nil {
				return nil, err
			}
			value = keepUnknown(stored, value, w.known)
		}
		tx.step.Writes = append(tx.step.Writes, Write{key, value})
	}
	return &tx.step, nil
}

// contains says whether the range holds the row.
func (in Range) contains(key RowKey) bool {
	if key.Role != in.Role || key.Kind != in.Kind {
		return false
	}
	if in.AllKeys {
		return strings.HasPrefix(key.Key, in.Key) && key.Key >= in.From
	}
	return key.Key == in.Key && strings.HasPrefix(key.Row, in.RowPrefix)
}

// Compare orders rows by role, kind, key and the name below the key.
func (a RowKey) Compare(b RowKey) int {
	if c := strings.Compare(string(a.Role), string(b.Role)); c != 0 {
		return c
	}
	if c := strings.Compare(a.Kind, b.Kind); c != 0 {
		return c
	}
	if c := strings.Compare(a.Key, b.Key); c != 0 {
		return c
	}
	return strings.Compare(a.Row, b.Row)
}
