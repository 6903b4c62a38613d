package bus

import (
	"context"
	"strings"
	"time"
)

// Operator is the role of people who look after a cluster.
const Operator = Role("operator")

// What operators can ask of a role.
const (
	opHeld   = "held"
	opReplay = "replay"
	opDrop   = "drop"
)

// shownReason is how much of a reason a list of all keys shows.
const shownReason = 300

// Held describes an input that was set aside.
type Held struct {
	Key    string    `cbor:"1,keyasint"`
	Row    string    `cbor:"2,keyasint"` // names the input among those of its key
	Source string    `cbor:"3,keyasint"` // topic, or "_timer"
	Reason string    `cbor:"4,keyasint"`
	Poison bool      `cbor:"5,keyasint,omitempty"` // waits for a person
	Until  []Until   `cbor:"6,keyasint,omitempty"` // what a held one waits for
	Since  time.Time `cbor:"7,keyasint"`
	Timer  string    `cbor:"8,keyasint,omitempty"`
	Value  []byte    `cbor:"9,keyasint,omitempty"` // of a record, where one key was asked for
}

// HeldRequest asks for the inputs of a role that are set aside; those of one key, with their values, where key is not empty.
func HeldRequest(role Role, key string) Request { return operation(opHeld, role, key, "") }

// ReplayRequest asks to hand in again, in order, what is set aside under a key.
func ReplayRequest(role Role, key string) Request { return operation(opReplay, role, key, "") }

// DropRequest asks to remove one input that was set aside, for good, and to hand in again what waits behind it.
func DropRequest(role Role, key, row string) Request { return operation(opDrop, role, key, row) }

func operation(name string, role Role, key, row string) Request {
	return Request{What: whatOperator, Name: name, Asker: Operator, Role: role, Key: key, ID: row}
}

// Held lists the inputs of a role that are set aside; those of one key, with their values, where key is not empty.
func (b *Bus) Held(ctx context.Context, role Role, key string) (list []Held, err error) {
	octets, err := b.Operate(ctx, HeldRequest(role, key))
	if err != nil {
		return nil, err
	}
	return list, Decode(octets, &list)
}

// Replay hands in again, in order, what is set aside under a key.
func (b *Bus) Replay(ctx context.Context, role Role, key string) error {
	_, err := b.Operate(ctx, ReplayRequest(role, key))
	return err
}

// Drop removes one input that was set aside, for good, and hands in again what waits behind it.
func (b *Bus) Drop(ctx context.Context, role Role, key, row string) error {
	_, err := b.Operate(ctx, DropRequest(role, key, row))
	return err
}

// Operate answers an operator of this process.
func (b *Bus) Operate(ctx context.Context, r Request) ([]byte, error) {
	r.What, r.Asker = whatOperator, Operator
	a := b.Serve(ctx, r)
	if a.NotHere {
		return nil, failure(kindUnavailable, "no worker of role %s has the key; try again", r.Role)
	}
	return a.Body, b.errorOf(a)
}

func (b *Bus) serveOperator(ctx context.Context, r Request) Answer {
	if r.Asker != Operator {
		return b.refusal(failure(kindForbidden, "role %s is no operator", r.Asker))
	}
	b.mu.Lock()
	c := b.consumers[r.Role]
	b.mu.Unlock()
	switch {
	case c != nil && r.Name == opHeld:
		return b.answerWith(c.held(ctx, r.Key))
	case c != nil && c.Owns(r.Key):
		return b.answerWith(nil, c.operate(ctx, r))
	case b.Placement == nil:
		return Answer{NotHere: true}
	}
	to := b.Placement.Instances(r.Role)
	if owner, found := b.Placement.Owner(r.Role, PartitionOf(r.Key, b.driver.Partitions(r.Role))); found && r.Name != opHeld {
		to = []Instance{owner}
	}
	return Answer{NotHere: true, Elsewhere: to}
}

func (b *Bus) answerWith(list []Held, err error) Answer {
	if err != nil {
		return b.refusal(err)
	}
	octets, err := Encode(list)
	if err != nil {
		return b.refusal(err)
	}
	return Answer{Body: octets}
}

// held lists what is set aside in all partitions of the role, also in those of other processes.
func (c *Consumer) held(ctx context.Context, key string) (list []Held, err error) {
	for number := range c.count {
		in := Range{Role: c.client.role, Kind: partitionKind("held", c.client.role, number), Key: key, AllKeys: key == ""}
		err := c.client.bus.driver.Scan(ctx, in, func(row Row) bool {
			var h heldInput
			if decodeErr := Decode(row.Value, &h); decodeErr != nil {
				h.Reason = decodeErr.Error()
			}
			item := Held{Key: row.Key, Row: row.RowKey.Row, Source: h.Source, Reason: h.Reason, Poison: h.Poison, Until: h.Until, Since: h.Since, Timer: h.Timer}
			if key != "" {
				item.Value = h.Value
			} else if len(item.Reason) > shownReason {
				item.Reason = strings.ToValidUTF8(item.Reason[:shownReason], "") + " ..."
			}
			list = append(list, item)
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// operate changes what is set aside under a key of this process.
func (c *Consumer) operate(ctx context.Context, r Request) error {
	p, _ := c.partitionOf(r.Key)
	if p == nil {
		return ErrLost
	}
	switch r.Name {
	case opReplay:
	case opDrop:
		if err := p.dropHeld(ctx, r.Key, r.ID); err != nil {
			return err
		}
	default:
		return failure(kindForbidden, "%q is nothing that this release does for operators", r.Name)
	}
	p.mu.Lock()
	_, blocked := p.blocked[r.Key]
	p.mu.Unlock()
	if !blocked {
		return failure(kindNotFound, "nothing is set aside under the key %q of role %s", r.Key, r.Role)
	}
	return p.release(ctx, r.Key)
}

func (p *partition) dropHeld(ctx context.Context, key, row string) error {
	_, version, err := p.client.bus.driver.Get(ctx, p.heldRow(key, row))
	if err != nil {
		return err
	}
	if version == 0 {
		return failure(kindNotFound, "nothing is set aside under the key %q in the row %x of role %s", key, row, p.Role)
	}
	if _, err := p.client.bus.commit(ctx, &Step{Owner: p.Ownership, Writes: []Write{{RowKey: p.heldRow(key, row)}}}); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if b := p.blocked[key]; b != nil {
		b.inputs--
	}
	return nil
}
