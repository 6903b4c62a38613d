package bus

import (
	"context"
	"slices"
	"time"
)

// Call is a request with a reply and without durability, answered by a worker of one of the roles. A caller that must not
// lose it repeats it; one that changes something carries an id of its own.
type Call[Req, Rep any] struct {
	Name    string
	Askers  []Role
	Answers []Role // one: an answer is believed because its process has the role
	// Key makes the owner of the key answer.
	Key func(Req) string
	// Once says that the call must not be made twice by itself. Any other is made again, of somebody else, where the process
	// that was asked went away without an answer.
	Once bool
}

// appearTime bounds how long a call waits for a worker that is not there yet.
const appearTime = 5 * time.Second

// answer is a handler of calls. In one process a call is a function call: request and reply are handed over as they are,
// and belong to the receiver.
type answer struct {
	call   any // func(context.Context, Req) (Rep, error)
	serve  func(ctx context.Context, body []byte) ([]byte, error)
	askers []Role
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
	b.answers[c.Name] = answer{fn, serving(fn), c.Askers, client}
	b.notify()
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.answers[c.Name].client == client {
			delete(b.answers, c.Name)
		}
	}
}

// serving is fn for a call that comes from another process.
func serving[Req, Rep any](fn func(context.Context, Req) (Rep, error)) func(context.Context, []byte) ([]byte, error) {
	return func(ctx context.Context, body []byte) ([]byte, error) {
		var req Req
		if err := Decode(body, &req); err != nil {
			return nil, err
		}
		rep, err := fn(ctx, req)
		if err != nil {
			return nil, err
		}
		return Encode(rep)
	}
}

// Do asks a worker that answers, in this process if there is one. It waits a little for one to appear.
func (c Call[Req, Rep]) Do(ctx context.Context, client *Client, req Req) (rep Rep, err error) {
	if err := client.may(c.Askers, "ask for", "call", c.Name); err != nil {
		return rep, err
	}
	if a, found := c.local(client.bus, req); found {
		return c.invoke(ctx, a, req)
	}
	waitCtx, cancel := context.WithTimeout(ctx, appearTime)
	defer cancel()
	var a answer
	var to []Instance
	find := func() (here bool) {
		if a, here = client.bus.answers[c.Name]; here && c.mine(client.bus, req) {
			return true
		}
		to = c.elsewhere(client.bus, req)
		return len(to) > 0
	}
	if err := client.bus.wait(waitCtx, "a worker that answers "+c.Name, find); err != nil {
		return rep, err
	}
	if len(to) == 0 {
		return c.invoke(ctx, a, req)
	}
	return c.send(ctx, client, req, 0, func() []Instance { return c.elsewhere(client.bus, req) })
}

// DoAt asks one process. Where that is not there any more, the answer is that it is unavailable.
func (c Call[Req, Rep]) DoAt(ctx context.Context, client *Client, instance uint16, req Req) (rep Rep, err error) {
	if err := client.may(c.Askers, "ask for", "call", c.Name); err != nil {
		return rep, err
	}
	b := client.bus
	if instance == b.Self.Number {
		b.mu.Lock()
		a, found := b.answers[c.Name]
		b.mu.Unlock()
		if found {
			return c.invoke(ctx, a, req)
		}
	}
	return c.send(ctx, client, req, instance, func() []Instance { return only(c.instances(b), instance) })
}

// Who lists the other processes that answer the call, by their numbers.
func (c Call[Req, Rep]) Who(client *Client) (numbers []uint16) {
	for _, i := range c.instances(client.bus) {
		numbers = append(numbers, i.Number)
	}
	slices.Sort(numbers)
	return numbers
}

// PartitionOf returns the partition whose owner answers the request.
func (c Call[Req, Rep]) PartitionOf(client *Client, req Req) int32 {
	return PartitionOf(c.Key(req), client.bus.driver.Partitions(c.Answers[0]))
}

// At says whether another process, known by its number, answers the call.
func (c Call[Req, Rep]) At(client *Client, instance uint16) bool {
	return instance != client.bus.Self.Number && len(only(c.instances(client.bus), instance)) > 0
}

// Mine says whether it is this process that answers the request.
func (c Call[Req, Rep]) Mine(client *Client, req Req) bool {
	_, found := c.local(client.bus, req)
	return found
}

// Everywhere asks every process that answers, at once, and returns the answers and errors by the process's number.
func (c Call[Req, Rep]) Everywhere(ctx context.Context, client *Client, req Req) (replies map[uint16]Rep, errs map[uint16]error) {
	replies, errs = make(map[uint16]Rep), make(map[uint16]error)
	b := client.bus
	b.mu.Lock()
	_, here := b.answers[c.Name]
	b.mu.Unlock()
	all := c.instances(b)
	if here {
		all = append(all, b.Self)
	}
	type outcome struct {
		from uint16
		rep  Rep
		err  error
	}
	outcomes := make(chan outcome, len(all))
	for _, i := range all {
		go func() {
			rep, err := c.DoAt(ctx, client, i.Number, req)
			outcomes <- outcome{i.Number, rep, err}
		}()
	}
	for range all {
		if o := <-outcomes; o.err != nil {
			errs[o.from] = o.err
		} else {
			replies[o.from] = o.rep
		}
	}
	return replies, errs
}

// local finds the handler in this process, if it is the one to answer.
func (c Call[Req, Rep]) local(b *Bus, req Req) (answer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, found := b.answers[c.Name]
	return a, found && c.mine(b, req)
}

// mine says whether this process owns the key of the request. b.mu is held.
func (c Call[Req, Rep]) mine(b *Bus, req Req) bool {
	if c.Key == nil || b.Placement == nil {
		return true
	}
	consumer := b.consumers[c.Answers[0]]
	return consumer != nil && consumer.Owns(c.Key(req))
}

func (c Call[Req, Rep]) invoke(ctx context.Context, a answer, req Req) (rep Rep, err error) {
	fn, ok := a.call.(func(context.Context, Req) (Rep, error))
	if !ok {
		return rep, failure("internal", "call %s is declared with two types", c.Name)
	}
	return fn(ctx, req)
}

// elsewhere lists the other processes that may answer.
func (c Call[Req, Rep]) elsewhere(b *Bus, req Req) []Instance {
	if c.Key == nil || b.Placement == nil {
		return c.instances(b)
	}
	role := c.Answers[0]
	if owner, found := b.Placement.Owner(role, PartitionOf(c.Key(req), b.driver.Partitions(role))); found && owner.Number != b.Self.Number {
		return []Instance{owner}
	}
	return nil
}

// instances lists the other processes with a role that answers.
func (c Call[Req, Rep]) instances(b *Bus) (list []Instance) {
	if b.Placement == nil {
		return nil
	}
	for _, role := range c.Answers {
		for _, i := range b.Placement.Instances(role) {
			if i.Number != b.Self.Number && len(only(list, i.Number)) == 0 {
				list = append(list, i)
			}
		}
	}
	return list
}

// send makes the call of another process.
func (c Call[Req, Rep]) send(ctx context.Context, client *Client, req Req, instance uint16, candidates func() []Instance) (rep Rep, err error) {
	body, err := Encode(req)
	if err != nil {
		return rep, err
	}
	r := Request{What: whatCall, Name: c.Name, Asker: client.role, Role: c.Answers[0], Instance: instance, Body: body}
	if c.Key != nil {
		r.Key = c.Key(req)
	}
	octets, err := client.bus.call(ctx, r, c.Once, candidates)
	if err != nil {
		return rep, err
	}
	return rep, Decode(octets, &rep)
}

func only(list []Instance, number uint16) []Instance {
	for _, i := range list {
		if i.Number == number {
			return []Instance{i}
		}
	}
	return nil
}
