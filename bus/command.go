package bus

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// Command is a call that must not be lost: it runs as a step of the role that answers it, under a key, and is answered
// after the commit. The reply is kept under the caller's id for a day, so that a command repeated after a lost answer
// gets the first reply.
type Command[Req, Rep any] struct {
	Name    string
	Askers  []Role
	Answers Role
	// Secret commands carry a password or the like: no digest of their body is kept, so that a repeated id with another
	// body is not noticed.
	Secret bool
}

// replyTime is how long replies are kept.
const replyTime = 24 * time.Hour

// Definition describes the command.
func (c Command[Req, Rep]) Definition() Definition {
	return Definition{What: "command", Name: c.Name, From: c.Askers, To: []Role{c.Answers}}
}

// storedReply is a reply as it is kept: kind "_reply:<role>", key of the command, row its name and id.
type storedReply struct {
	Digest []byte `cbor:"1,keyasint,omitempty"` // SHA-256 of the body
	Reply  []byte `cbor:"2,keyasint,omitempty"`
	Err    []byte `cbor:"3,keyasint,omitempty"`
}

// commandHandler is a command as the role that answers it has it.
type commandHandler struct {
	askers []Role
	begin  func(key, id string, body []byte) (handle func(context.Context, *Tx) error, refuse func(*Tx, error), reply func() ([]byte, error))
}

// Handle makes the consumer run fn for the command. An error of fn is the reply: nothing else of the step is kept. An
// error that says that something is unavailable is given to the caller without being kept.
func (cmd Command[Req, Rep]) Handle(c *Consumer, fn func(ctx context.Context, tx *Tx, key string, req Req) (Rep, error)) {
	if err := c.client.may([]Role{cmd.Answers}, "answer", "command", cmd.Name); err != nil {
		panic(err) // wired against the table of commands: found by the first test that starts the worker
	}
	kind := "_reply:" + string(c.client.role)
	begin := func(key, id string, body []byte) (func(context.Context, *Tx) error, func(*Tx, error), func() ([]byte, error)) {
		row := RowKey{c.client.role, kind, key, cmd.Name + "\x00" + id}
		digest := cmd.digest(body)
		var outcome storedReply
		handle := func(ctx context.Context, tx *Tx) error {
			first, err := firstReply(tx, row, digest)
			if err != nil {
				return err
			}
			if first != nil {
				outcome = *first
				return nil
			}
			var req Req
			if err := Decode(body, &req); err != nil {
				return err
			}
			rep, err := fn(ctx, tx, key, req)
			if err != nil {
				return err
			}
			octets, err := encodeBounded(rep)
			if err != nil {
				return err
			}
			outcome = storedReply{Digest: digest, Reply: octets}
			keepReply(tx, row, outcome)
			return nil
		}
		refuse := func(tx *Tx, cause error) {
			outcome = storedReply{Digest: digest, Err: c.client.bus.Errors.EncodeError(cause)}
			keepReply(tx, row, outcome)
		}
		reply := func() ([]byte, error) {
			if outcome.Err != nil {
				return nil, c.client.bus.Errors.DecodeError(outcome.Err)
			}
			return outcome.Reply, nil
		}
		return handle, refuse, reply
	}
	c.command[cmd.Name] = commandHandler{cmd.Askers, begin}
}

func (cmd Command[Req, Rep]) digest(body []byte) []byte {
	if cmd.Secret {
		return nil
	}
	sum := sha256.Sum256(body)
	return sum[:]
}

// firstReply returns the reply that the same command got before, or nil.
func firstReply(tx *Tx, row RowKey, digest []byte) (*storedReply, error) {
	octets, found, err := tx.get(row)
	if err != nil || !found {
		return nil, err
	}
	var first storedReply
	if err := Decode(octets, &first); err != nil {
		return nil, err
	}
	if string(first.Digest) != string(digest) {
		return nil, &reusedError{failure(kindConflict, "the id of this command was used before, with another body")}
	}
	return &first, nil
}

// reusedError is an answer that must not replace the first reply of its id.
type reusedError struct{ cause *Error }

func (e *reusedError) Error() string { return e.cause.Error() }
func (e *reusedError) Unwrap() error { return e.cause }

// keepReply writes the reply and the row by which it expires.
func keepReply(tx *Tx, row RowKey, reply storedReply) {
	octets, err := Encode(reply)
	if err != nil {
		tx.fail(err)
		return
	}
	tx.put(row, octets, nil)
	hour := binary.BigEndian.AppendUint64(nil, uint64(tx.now.Add(replyTime).Unix()/3600))
	tx.put(RowKey{row.Role, tx.owner.kind("expiry"), string(hour), fmt.Sprintf("%08x%s%s", len(row.Key), row.Key, row.Row)}, []byte{1}, nil)
}

// Do asks the owner of the key to run the command, and returns its reply after the commit, with the place that a Table
// must have reached to show the effect. id names the command: the same id gets the same reply.
func (cmd Command[Req, Rep]) Do(ctx context.Context, c *Client, key, id string, req Req) (rep Rep, at Commit, err error) {
	if err := c.may(cmd.Askers, "ask for", "command", cmd.Name); err != nil {
		return rep, at, err
	}
	body, err := encodeBounded(req)
	if err != nil {
		return rep, at, err
	}
	octets, at, err := c.bus.command(ctx, Request{What: whatCommand, Name: cmd.Name, Asker: c.role, Role: cmd.Answers, Key: key, ID: id, Body: body})
	if err != nil {
		return rep, at, err
	}
	return rep, at, Decode(octets, &rep)
}

// do runs a command as a step of this partition.
func (p *partition) do(ctx context.Context, r Request) ([]byte, Commit, error) {
	handler, known := p.consumer.command[r.Name]
	if !known {
		return nil, Commit{}, failure(kindUnavailable, "role %s does not answer command %s", p.Role, r.Name)
	}
	if err := (&Client{p.client.bus, r.Asker}).may(handler.askers, "ask for", "command", r.Name); err != nil {
		return nil, Commit{}, err
	}
	if !p.consumer.countCommand(1) {
		return nil, Commit{}, failure(kindUnavailable, "role %s has %d commands waiting", p.Role, maxCommands)
	}
	handle, refuse, reply := handler.begin(r.Key, r.ID, r.Body)
	type outcome struct {
		at  Commit
		err error
	}
	done := make(chan outcome, 1)
	in := &input{
		Input:  Input{Key: r.Key, ID: "command/" + r.Name + "/" + r.ID, Time: time.Now()},
		size:   len(r.Body),
		handle: handle,
		done: func(at Commit, err error) { // also after the caller has given up
			p.consumer.countCommand(-1)
			done <- outcome{at, err}
		},
	}
	in.refuse = func(ctx context.Context, cause error) *Tx {
		tx := newTx(ctx, p, in.Input)
		if _, reused := cause.(*reusedError); !reused { //nolint:errorlint // never wrapped
			refuse(tx, cause)
		}
		return tx
	}
	if !p.enqueue(in) {
		p.consumer.countCommand(-1)
		return nil, Commit{}, ErrClosed
	}
	select {
	case o := <-done:
		if o.err != nil {
			return nil, o.at, o.err
		}
		octets, err := reply()
		return octets, o.at, err
	case <-ctx.Done():
		return nil, Commit{}, failure(kindUnavailable, "command %s: no answer yet: %w", r.Name, ctx.Err())
	}
}

func (c *Consumer) countCommand(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 && c.commands+n > maxCommands {
		return false
	}
	c.commands += n
	return true
}
