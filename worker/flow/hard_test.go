package flow_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
	worker "github.com/hawser-project/hawser/worker/flow"
)

func TestSessionsBetweenFlows(t *testing.T) {
	t.Parallel()
	c := start(t, withLink(&link{chaos: true}))
	for name, row := range map[string]struct {
		q    question
		want string
	}{
		"some messages":      {question{Peer: bobName, Texts: []string{"a", "b", "c"}}, `"echo:a echo:b echo:c"`},
		"with a close":       {question{Peer: bobName, Texts: []string{"a"}, Close: true}, `"echo:a"`},
		"a peer that closes": {question{Peer: bobName, Texts: []string{"bye"}, Close: true}, `"bye"`},
		"nothing said":       {question{Peer: bobName, Close: true}, `""`},
		"a large message":    {question{Peer: bobName, Size: 800 << 10}, `"echo:819200"`},
		"with oneself":       {question{Peer: aliceName, Texts: []string{"a"}}, `"echo:a"`},
	} {
		t.Run(name, func(t *testing.T) {
			c := *c
			c.t = t
			t.Parallel()
			if got := c.result(alice, strings.ReplaceAll(name, " ", "-"), "ask", row.q); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestErrorsOfSessionsReachTheFlow(t *testing.T) {
	t.Parallel()
	c := start(t)
	for name, row := range map[string]struct {
		class string
		q     question
		want  string
	}{
		"the peer fails":          {"ask", question{Peer: bobName, Texts: []string{"a", "fail"}}, "session-error: .*guest.NoLuck: no luck"},
		"the peer panics":         {"ask", question{Peer: bobName, Texts: []string{"panic"}}, "the flow failed"},
		"the peer keeps a secret": {"ask", question{Peer: bobName, Texts: []string{"secret"}}, "the flow failed"},
		"the peer has closed":     {"ask", question{Peer: bobName, Texts: []string{"bye", "more"}}, "session-closed"},
		"no member":               {"ask", question{Peer: "O=Carol, L=Rome, C=IT"}, "unknown-peer"},
		"no responder":            {"stranger", question{Peer: bobName, Texts: []string{"a"}}, "no-protocol"},
		"too large":               {"ask", question{Peer: bobName, Texts: []string{"a"}, Size: 1 << 20}, "too-large"},
	} {
		t.Run(name, func(t *testing.T) {
			c := *c
			c.t = t
			t.Parallel()
			st := c.failure(alice, strings.ReplaceAll(name, " ", "-"), row.class, row.q)
			want, rest, _ := strings.Cut(row.want, ".*")
			if !strings.Contains(st.ErrorMessage, want) || !strings.Contains(st.ErrorMessage, rest) || strings.Contains(st.ErrorMessage, "swordfish") {
				t.Errorf("got %q, want %q", st.ErrorMessage, row.want)
			}
		})
	}
}

func TestAnUndeliverableMessageFailsTheSessionAtOnce(t *testing.T) {
	t.Parallel()
	c := start(t, withLink(&link{refuse: func(o message.Outbound) bool { return o.Destination.Name == bob.Name.String() }}))
	st := c.failure(alice, "r", "ask", question{Peer: bobName, Texts: []string{"a"}})
	if !strings.Contains(st.ErrorMessage, "EXPIRED: nobody was there") {
		t.Errorf("got %q, want the reason", st.ErrorMessage)
	}
}

func TestAPeerThatDoesNotAnswerIsATimeout(t *testing.T) {
	t.Parallel()
	c := start(t, withConfig(func(c *worker.Config) { c.SessionTimeout = 300 * time.Millisecond }))
	st := c.failure(alice, "r", "ask", question{Peer: bobName, Texts: []string{"silence"}})
	if !strings.Contains(st.ErrorMessage, "session-timeout") {
		t.Errorf("got %q, want a timeout", st.ErrorMessage)
	}
	first := c.failure(alice, "first", "ask", question{Peer: bobName, First: true})
	if !strings.Contains(first.ErrorMessage, "session-timeout") && !strings.Contains(first.ErrorMessage, "session-error") {
		t.Errorf("both receive first: got %q", first.ErrorMessage)
	}
	if n := len(c.flows(bob, "")); n != 2 {
		t.Errorf("Bob has %d flows, want one for each session", n)
	}
}

func TestAFlowTellsWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.mustBegin(alice, "r", "ask", question{Peer: bobName, Texts: []string{"silence"}})
	c.until("a flow that waits", func() bool {
		st, err := c.status(alice, "r")
		return err == nil && st.State == flow.Running && strings.Contains(st.Waiting, bob.Name.String())
	})
}

func TestBadFlowsFailAlone(t *testing.T) {
	t.Parallel()
	c := start(t, withConfig(func(c *worker.Config) { c.StepFuel = 300_000_000 }))
	for n := range 4 {
		c.mustBegin(alice, fmt.Sprint("loop-", n), "loop", 1<<40)
	}
	c.mustBegin(alice, "panic", "panic", 1)
	began := time.Now()
	for n := range 20 {
		c.result(bob, fmt.Sprint("good-", n), "increment", 1)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("20 short flows took %v beside flows that loop", took)
	}
	if st := c.end(alice, "panic"); st.State != flow.Failed || !strings.Contains(st.ErrorMessage, "oh dear") {
		t.Errorf("got %+v, want the panic", st)
	}
	for n := range 4 {
		if st := c.end(alice, fmt.Sprint("loop-", n)); st.State != flow.Failed || !strings.Contains(st.ErrorMessage, "fuel") {
			t.Errorf("got %+v, want it out of fuel", st)
		}
	}
}

func TestAStepThatTakesTooLongTwiceFailsItsFlow(t *testing.T) {
	t.Parallel()
	c := start(t, withConfig(func(c *worker.Config) { c.StepTime, c.StepFuel = 200*time.Millisecond, 1<<40 }))
	st := c.failure(alice, "r", "loop", 1<<40)
	if !strings.Contains(st.ErrorMessage, "took too long") || st.ErrorType != "PLATFORM_ERROR" {
		t.Errorf("got %s %q, want a step that took too long", st.ErrorType, st.ErrorMessage)
	}
}

func TestStepsThatConflictRunAgain(t *testing.T) {
	t.Parallel()
	c := start(t)
	const flows = 40
	for n := range flows {
		c.mustBegin(alice, fmt.Sprint("r-", n), "increment", 1)
	}
	for n := range flows {
		if st := c.end(alice, fmt.Sprint("r-", n)); st.State != flow.Completed {
			t.Fatalf("got %+v", st)
		}
	}
	if got := c.result(alice, "sum", "increment", 0); got != fmt.Sprint(flows) {
		t.Errorf("the sum is %s, want %d", got, flows)
	}
}

func TestManyRoundsAndManyEntriesWithinOneStep(t *testing.T) {
	t.Parallel()
	c := start(t)
	if got := c.result(alice, "rounds", "rounds", 2000); got != "2000" {
		t.Errorf("got %s", got)
	}
	if got := c.result(alice, "wide", "wide", 2500); got != "2500" {
		t.Errorf("got %s", got)
	}
	if st := c.failure(alice, "endless", "rounds", 1<<40); !strings.Contains(st.ErrorMessage, "fuel") {
		t.Errorf("got %q, want it out of fuel", st.ErrorMessage)
	}
}

func TestAStatusIsDroppedAfterItsTime(t *testing.T) {
	t.Parallel()
	c := start(t, withConfig(func(c *worker.Config) { c.Retention = 200 * time.Millisecond }))
	c.mustBegin(alice, "r", "increment", 1)
	c.until("the status to go", func() bool {
		_, err := c.status(alice, "r")
		return err != nil && len(c.flows(alice, "")) == 0
	})
	c.until("the id to be free", func() bool {
		_, err := c.begin(alice, "r", "increment", 1)
		return err == nil
	})
}

func TestAVirtualNodeInMaintenanceHoldsItsFlows(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.mustBegin(alice, "r", "ask", question{Peer: bobName, Texts: []string{"silence"}})
	c.until("the responder to wait", func() bool { return len(c.flows(bob, flow.Running)) == 1 })
	c.publishNode(bob, func(v *vnode.VirtualNode) { v.FlowP2P, v.Flow = vnode.Inactive, vnode.Inactive })
	c.until("new sessions to be refused", func() bool {
		id := fmt.Sprint("refused-", time.Now().UnixNano())
		c.mustBegin(alice, id, "ask", question{Peer: bobName, Texts: []string{"a"}})
		return strings.Contains(c.end(alice, id).ErrorMessage, "not-active")
	})
	c.publishNode(bob, nil)
	c.until("sessions to be taken again", func() bool {
		id := fmt.Sprint("taken-", time.Now().UnixNano())
		c.mustBegin(alice, id, "ask", question{Peer: bobName, Texts: []string{"a"}})
		return c.end(alice, id).State == flow.Completed
	})
}

// hostile hands the worker a record as the link manager would.
func (c *cluster) hostile(t *testing.T, key string, in flow.Input) {
	t.Helper()
	if _, err := topic.FlowIn.Publish(context.Background(), c.bus.As(topic.LinkManager), bus.Keyed[flow.Input]{Key: key, Value: in}); err != nil {
		t.Fatal(err)
	}
}

func TestNothingThatAPeerSendsStopsTheWorker(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.mustBegin(alice, "r", "ask", question{Peer: bobName, Texts: []string{"silence"}})
	c.until("the responder to wait", func() bool { return len(c.flows(bob, flow.Running)) == 1 })
	running, _ := c.status(alice, "r")
	id, err := flow.ParseID(running.FlowID)
	if err != nil {
		t.Fatal(err)
	}
	session := id.Session(1)
	send := func(from, to message.Party, key string, payload []byte) {
		in := flow.Input{Holder: holderOf(to), Inbound: &message.Inbound{Source: from, Destination: to, ID: "evil", Key: key, Subsystem: flow.Subsystem, Payload: payload}}
		slot := "0000000000000000"
		if _, _, err := flow.ParseMessageKey(key); err == nil {
			slot = slotOf(in)
		}
		c.hostile(t, slot, in)
	}
	a, b := message.PartyOf(alice), message.PartyOf(bob)
	mallory := message.Party{Name: "O=Mallory, L=Oslo, C=NO", GroupID: groupID}
	data, _ := bus.Encode(flow.SessionEvent{Kind: flow.Data, Sequence: 1, Payload: []byte(`"forged"`)})
	unknown, _ := bus.Encode(flow.SessionEvent{Kind: 99, Sequence: 1})
	failed, _ := bus.Encode(flow.SessionEvent{Kind: flow.Error, Code: "x"})

	send(mallory, a, flow.MessageKey(session, false), data)                                 // not the counterparty
	send(b, a, "nonsense", data)                                                            // no session
	send(b, a, flow.MessageKey(flow.NewID(flow.Slot{1}, 1).Session(1), false), data)        // no such flow: answered
	send(b, a, flow.MessageKey(flow.NewID(flow.Slot{1}, 1).Session(1), false), failed)      // the same, never answered
	send(b, a, flow.MessageKey(flow.NewID(flow.Slot{2}, 1).Session(1), true), []byte{0xff}) // not an event
	send(b, a, flow.MessageKey(flow.NewID(flow.Slot{3}, 1).Session(1), true), unknown)      // of a later release
	c.hostile(t, "00", flow.Input{Holder: aliceHash})
	c.until("the dropping", func() bool { return c.counter("hawser_flow_dropped_total") >= 7 })
	if st, _ := c.status(alice, "r"); st.State != flow.Running {
		t.Fatalf("the flow is %s %s, want it still waiting", st.State, st.ErrorMessage)
	}
	send(b, a, flow.MessageKey(session, false), []byte{0xff})
	if st := c.end(alice, "r"); !strings.Contains(st.ErrorMessage, "can't be read") {
		t.Errorf("got %+v, want the session failed", st)
	}
	c.until("the responder to be told", func() bool { return len(c.flows(bob, flow.Failed)) == 1 })
	c.result(alice, "after", "ask", question{Peer: bobName, Texts: []string{"a"}})
}
