package flowtest

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hawser-project/hawser/sdk/flow"
	"github.com/hawser-project/hawser/sdk/internal/engine"
	"github.com/hawser-project/hawser/sdk/internal/frame"
)

// An end is one side of a session.
type end struct {
	peer      *end
	owner     *Flow // nil before the responder starts
	node      *Node
	open      *frame.Open // on the initiating side
	inbox     [][]byte
	started   bool
	hasClosed bool
	err       *flow.Error
}

// A step is what a flow did since it last waited for a peer. It takes effect as a whole.
type step struct {
	puts    map[string][]byte
	sends   []send
	waiting map[uint64]frame.Command // receives and closes without an answer
	answers map[uint64]frame.Completion
}

type send struct {
	to      *end
	payload []byte
}

// take does what one command frame asks for and gives the answers, or false at the flow's end.
func (f *Flow) take(c *frame.Commands) (*frame.Resume, bool) {
	net := f.node.net
	net.mu.Lock()
	defer net.mu.Unlock()
	if f.step.waiting == nil {
		f.step = step{puts: map[string][]byte{}, waiting: map[uint64]frame.Command{}, answers: map[uint64]frame.Completion{}}
	}
	for _, cmd := range c.List {
		f.do(cmd)
	}
	if c.Mode == frame.Ended {
		f.finish(c)
		return nil, false
	}
	if !f.await(c) {
		return nil, false
	}
	in := &frame.Resume{Now: time.Now().UnixNano()}
	for _, id := range c.Await {
		if a, ok := f.step.answers[id]; ok {
			in.Completions = append(in.Completions, a)
			delete(f.step.answers, id)
		}
	}
	return in, true
}

func (f *Flow) do(cmd frame.Command) {
	switch cmd.Op { //nolint:exhaustive // the last command is handled by the caller
	case frame.OpenSession:
		f.answer(cmd.ID, nil, f.open(cmd.Body))
	case frame.SendData:
		s, _ := frame.DecodeSend(cmd.Body)
		if e := f.ends[s.Session]; e != nil {
			f.step.sends = append(f.step.sends, send{e, slices.Clone(s.Payload)})
		}
	case frame.ReceiveData, frame.CloseSession:
		f.step.waiting[cmd.ID] = cmd
	case frame.StorePut:
		e, _ := frame.DecodeEntry(cmd.Body)
		f.step.puts[e.Key] = slices.Clone(e.Value)
	case frame.StoreGet:
		e, _ := frame.DecodeEntry(cmd.Body)
		v, ok := f.view()[e.Key]
		f.answer(cmd.ID, (&frame.Found{Found: ok, Value: v}).Append(nil), nil)
	case frame.StoreList:
		f.answer(cmd.ID, f.list(cmd.Body), nil)
	}
}

func (f *Flow) answer(id uint64, body []byte, err *flow.Error) {
	c := frame.Completion{ID: id, Body: body}
	if err != nil {
		c = frame.Completion{ID: id, Code: string(err.Code), Message: err.Message}
	}
	f.step.answers[id] = c
}

func (f *Flow) open(body []byte) *flow.Error {
	o, err := frame.DecodeOpen(body)
	if err != nil {
		return failure(flow.CodeBadMessage, "%v", err)
	}
	peer := f.node.net.nodes[o.Peer]
	if peer == nil {
		return failure(flow.CodeUnknownPeer, "no member %s", o.Peer)
	}
	ours, theirs := &end{owner: f, node: f.node, open: o}, &end{node: peer}
	ours.peer, theirs.peer = theirs, ours
	f.ends[o.Session] = ours
	return nil
}

// view is the store as the flow sees it: with its own puts.
func (f *Flow) view() map[string][]byte {
	v := maps.Clone(f.node.store)
	maps.Copy(v, f.step.puts)
	return v
}

func (f *Flow) list(body []byte) []byte {
	q, _ := frame.DecodeList(body)
	v, page := f.view(), frame.Page{}
	for _, key := range slices.Sorted(maps.Keys(v)) {
		if !strings.HasPrefix(key, q.Prefix) || key <= q.After {
			continue
		}
		if uint64(len(page.Entries)) == q.Limit {
			page.More = true
			break
		}
		page.Entries = append(page.Entries, frame.Entry{Key: key, Value: v[key]})
	}
	return page.Append(nil)
}

// await waits until what the flow waits for is answered. Before it waits for a peer, the step takes effect.
func (f *Flow) await(c *frame.Commands) bool {
	net := f.node.net
	timer := time.AfterFunc(Patience, net.wake.Broadcast)
	defer timer.Stop()
	deadline := time.Now().Add(Patience)
	for committed := false; !net.stopped; {
		f.settle(!time.Now().Before(deadline))
		n := 0
		for _, id := range c.Await {
			if _, ok := f.step.answers[id]; ok {
				n++
			}
		}
		if n == len(c.Await) || c.Mode == frame.Any && n > 0 {
			return true
		}
		if committed {
			net.wake.Wait()
			continue
		}
		f.commit()
		committed = true
	}
	return false
}

// settle answers the receives and closes that can be answered by now.
func (f *Flow) settle(late bool) {
	for _, id := range slices.Sorted(maps.Keys(f.step.waiting)) {
		cmd := f.step.waiting[id]
		s, _ := frame.DecodeSend(cmd.Body)
		e := f.ends[s.Session]
		if e == nil {
			f.answer(id, nil, failure(flow.CodeSession, "no session %d", s.Session))
		} else if body, err, ready := e.next(cmd.Op); ready {
			f.answer(id, body, err)
		} else if late {
			f.answer(id, nil, failure(flow.CodeTimeout, "no answer from %s within %v", e.peer.node.name, Patience))
		} else {
			continue
		}
		delete(f.step.waiting, id)
	}
}

// next is what a receive or a close of this end gets, when it is known.
func (e *end) next(op frame.Op) (body []byte, err *flow.Error, ready bool) {
	if op == frame.CloseSession {
		e.hasClosed = e.hasClosed || e.open == nil
		unused := e.open != nil && !e.started
		return nil, e.err, e.err != nil || e.open == nil || unused || e.peer.hasClosed
	}
	switch {
	case len(e.inbox) > 0:
		body, e.inbox = e.inbox[0], e.inbox[1:]
		return body, nil, true
	case e.err != nil:
		return nil, e.err, true
	case e.peer.hasClosed:
		return nil, failure(flow.CodeClosed, "%s closed the session", e.peer.node.name), true
	}
	return nil, nil, false
}

// commit lets the step take effect: puts and sends together.
func (f *Flow) commit() {
	maps.Copy(f.node.store, f.step.puts)
	clear(f.step.puts)
	for _, s := range f.step.sends {
		s.to.start()
		s.to.peer.inbox = append(s.to.peer.inbox, s.payload)
	}
	f.step.sends = nil
	for _, cmd := range f.step.waiting {
		if s, _ := frame.DecodeSend(cmd.Body); cmd.Op == frame.ReceiveData && f.ends[s.Session] != nil {
			f.ends[s.Session].start()
		}
	}
	f.node.net.wake.Broadcast()
}

// start starts the responder with the initiator's first message or receive.
func (e *end) start() {
	if e.open == nil || e.started {
		return
	}
	e.started = true
	class, version, ok := engine.Flows.Responder(e.open.Protocol, e.open.Versions)
	if !ok {
		e.err = failure(flow.CodeNoProtocol, "%s does not speak %s %v", e.peer.node.name, e.open.Protocol, e.open.Versions)
		return
	}
	e.peer.node.run(&frame.Start{Kind: frame.Responder, Class: class, Counterparty: e.node.name,
		Protocol: e.open.Protocol, Version: uint64(version)}, e.peer)
}

// finish ends the flow. A flow that fails keeps nothing of its last step, and its peers get its error.
func (f *Flow) finish(c *frame.Commands) {
	var last frame.Command
	if len(c.List) > 0 {
		last = c.List[len(c.List)-1]
	}
	if last.Op == frame.Complete {
		f.commit()
		f.result = slices.Clone(last.Body)
	} else {
		why, _ := frame.DecodeFailure(last.Body)
		f.err = &flow.Error{Code: flow.Code(why.Type), Message: why.Message}
		f.node.net.tb.Logf("%s %s failed: %s", f.node.name, f.class, why.Message)
	}
	for _, e := range f.ends {
		e.end(f.err)
	}
	f.node.net.wake.Broadcast()
	f.waitForPeers()
}

func (e *end) end(err error) {
	e.hasClosed = true
	if err != nil && e.peer.err == nil {
		e.peer.err = failure(flow.CodeSession, "%s failed: %v", e.node.name, err)
	}
}

// waitForPeers keeps an initiator from ending before its responders have, as the cluster does.
func (f *Flow) waitForPeers() {
	net := f.node.net
	for _, e := range f.ends {
		for e.open != nil && e.started && e.err == nil && !e.peer.hasClosed && !net.stopped {
			net.wake.Wait()
		}
		if e.err != nil && f.err == nil {
			f.result, f.err = nil, e.err
		}
	}
}
