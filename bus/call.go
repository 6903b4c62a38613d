package bus

import (
	"context"
	"time"
)

// Call is a request with a reply and without durability, answered by a worker of one of the roles. A caller that must not
// lose it repeats it; one that changes something carries an id of its own.
type Call[Req, Rep any] struct {
	Name    string
	Askers  []Role
	Answers []Role
}

// appearTime bounds how long a call waits for a worker that is not there yet.
const appearTime = 5 * time.Second

// answer is a handler of calls. In one process it is a function call: request and reply are handed over as they are, and
// belong to the receiver.
type answer struct {
	call   any // func(context.Context, Req) (Rep, error)
	client *Client
}

// Definition describes the call.
func (c Call[Req, Rep]) Definition() Definition {
	return Definition{What: "call", Name: c.Name, From: c.Askers, To: c.Answers}
}

// Answer makes fn answer the call from now on, until the returned function is called.
func (c Call[Req, Rep]) Answer(client *Client, fn func(ctx context.Context, req Req) (Rep, error)) (stop func()) {
	if err := client.may(c.Answers, "answer", "call", c.Name); err != nil {
		panic(err) // wired against the table of calls: found by the first test that starts the worker
	}
	b := client.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers[c.Name] = answer{fn, client}
	b.notify()
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.answers[c.Name].client == client {
			delete(b.answers, c.Name)
		}
	}
}

// Do asks. It waits a little for a worker that answers to appear.
func (c Call[Req, Rep]) Do(ctx context.Context, client *Client, req Req) (rep Rep, err error) {
	if err := client.may(c.Askers, "ask for", "call", c.Name); err != nil {
		return rep, err
	}
	b := client.bus
	b.mu.Lock()
	a, found := b.answers[c.Name]
	b.mu.Unlock()
	if !found {
		waitCtx, cancel := context.WithTimeout(ctx, appearTime)
		defer cancel()
		if err := b.wait(waitCtx, "a worker that answers "+c.Name, func() bool {
			a, found = b.answers[c.Name]
			return found
		}); err != nil {
			return rep, err
		}
	}
	fn, ok := a.call.(func(context.Context, Req) (Rep, error))
	if !ok {
		return rep, failure("internal", "call %s is declared with two types", c.Name)
	}
	return fn(ctx, req)
}
