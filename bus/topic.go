package bus

import (
	"context"
)

// Topic is a named stream of records of one type. Order is kept per key.
type Topic[V any] struct {
	Name    string
	Writers []Role
	Readers []Role
	// Compacted topics keep the last record of every key for ever, and are read through a Table. The others drop a
	// record once every reader has finished it.
	Compacted bool
}

// Keyed is a value with the key under which it goes to a topic.
type Keyed[V any] struct {
	Key   string
	Value V
}

// Definition is what a driver and the reference pages need to know of a topic, command, call or kind of state.
type Definition struct {
	What      string // "topic", "command", "call" or "state"
	Name      string
	From, To  []Role // writers and readers, or askers and answerers; of state, its owner is in From
	Compacted bool
}

// Definition describes the topic.
func (t Topic[V]) Definition() Definition {
	return Definition{What: "topic", Name: t.Name, From: t.Writers, To: t.Readers, Compacted: t.Compacted}
}

// Send adds a record to the step. The record exists once the step has committed.
func (t Topic[V]) Send(tx *Tx, key string, v V) {
	if err := tx.client.may(t.Writers, "write", "topic", t.Name); err != nil {
		tx.fail(err)
		return
	}
	tx.append(t.Name, key, v)
}

// Remove adds to the step the record that says that the key of a compacted topic is gone.
func (t Topic[V]) Remove(tx *Tx, key string) {
	if err := tx.client.may(t.Writers, "write", "topic", t.Name); err != nil {
		tx.fail(err)
		return
	}
	tx.step.Appends = append(tx.step.Appends, Append{Topic: t.Name, Key: key})
}

// Publish adds records outside of any step and returns when they are durable.
func (t Topic[V]) Publish(ctx context.Context, c *Client, records ...Keyed[V]) (Commit, error) {
	if err := c.may(t.Writers, "write", "topic", t.Name); err != nil {
		return Commit{}, err
	}
	step := &Step{Role: c.role, Appends: make([]Append, 0, len(records))}
	for _, r := range records {
		value, err := encodeBounded(r.Value)
		if err != nil {
			return Commit{}, err
		}
		step.Appends = append(step.Appends, Append{Topic: t.Name, Key: r.Key, Value: value})
	}
	return c.bus.commit(ctx, step)
}

// commit submits a step and waits until it is durable or refused. A caller whose ctx ends first does not know which.
func (b *Bus) commit(ctx context.Context, step *Step) (Commit, error) {
	type outcome struct {
		commit Commit
		err    error
	}
	done := make(chan outcome, 1)
	step.Done = func(c Commit, err error) { done <- outcome{c, err} }
	b.driver.Submit(step)
	select {
	case o := <-done:
		return o.commit, o.err
	case <-ctx.Done():
		return Commit{}, failure(kindUnavailable, "commit: %w", ctx.Err())
	}
}

func encodeBounded(v any) ([]byte, error) {
	octets, err := Encode(v)
	if err != nil {
		return nil, err
	}
	if len(octets) > MaxValue {
		return nil, failure(kindTooLarge, "a value of %d octets is over the limit of %d; put it in a blob", len(octets), MaxValue)
	}
	return octets, nil
}
