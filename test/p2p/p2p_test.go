package p2p_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/worker/linkmanager"
)

func modes(t *testing.T, body func(t *testing.T, o options)) {
	t.Parallel()
	for name, noBatch := range map[string]bool{"compatible": true, "batch": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body(t, options{noBatch: noBatch})
		})
	}
}

func TestAMessageReachesThePeerAndIsAcknowledged(t *testing.T) {
	modes(t, func(t *testing.T, o options) {
		here, there, alice, bob := twoClusters(t, o)
		id := here.send(alice, bob, []byte("hello"))
		there.wait("message", has(id))
		in := there.received[0]
		if in.Holder != bob.short() || in.Inbound.Source != alice.party() || in.Inbound.Destination != bob.party() || !bytes.Equal(in.Inbound.Payload, []byte("hello")) {
			t.Errorf("received %+v", in)
		}
		until(t, "acknowledgement", func() bool { return here.counter("hawser_link_outbound_total", "acknowledged") == 1 })
		back := there.send(bob, alice, []byte("hello yourself"))
		here.wait("answer", has(back))
	})
}

func TestManyMessagesArriveOnceEach(t *testing.T) {
	modes(t, func(t *testing.T, o options) {
		here, there, alice, bob := twoClusters(t, o)
		var ids []string
		for range 500 {
			ids = append(ids, here.send(alice, bob, make([]byte, 1024)))
		}
		there.wait("all messages", has(ids...))
		until(t, "acknowledgements", func() bool { return here.counter("hawser_link_outbound_total", "acknowledged") == 500 })
		for id, n := range got(there.received) {
			if n != 1 {
				t.Errorf("message %s arrived %d times", id, n)
			}
		}
	})
}

func TestMessagesThatWaitForTheSessionLeaveWhenItIsUp(t *testing.T) {
	modes(t, func(t *testing.T, o options) {
		here, there, alice, bob := twoClusters(t, o)
		begun := time.Now()
		var ids []string
		for range 20 {
			ids = append(ids, here.send(alice, bob, []byte("x")))
		}
		there.wait("all messages", has(ids...))
		if took := time.Since(begun); took > 1500*time.Millisecond {
			t.Errorf("took %s: Corda's replay period is 2 s, and we promise not to wait for it", took)
		}
	})
}

func TestAMessageToAMemberThatIsHostedHereNeedsNoSession(t *testing.T) {
	t.Parallel()
	alice, carol := newPerson(t, "Alice"), newPerson(t, "Carol")
	here := newCluster(t, "here", options{}, alice, carol)
	here.introduce(1, map[*person]string{alice: here.url(), carol: here.url()})
	id := here.send(alice, carol, []byte("hello"))
	here.wait("message", has(id))
	if n := here.counter("hawser_link_sessions_total"); n != 0 {
		t.Errorf("%v sessions were made", n)
	}
	if in := here.received[0]; in.Holder != carol.short() || in.Inbound.Source != alice.party() {
		t.Errorf("received %+v", in)
	}
}

func failure(code string, id string) func([]flow.Input) bool {
	return func(received []flow.Input) bool {
		for _, in := range received {
			if in.Failed != nil && in.Failed.ID == id && in.Failed.Code == code {
				return true
			}
		}
		return false
	}
}

func TestWhatCannotBeDeliveredFailsWithItsReason(t *testing.T) {
	t.Parallel()
	here, _, alice, bob := twoClusters(t, options{})
	stranger, elsewhere := newPerson(t, "Stranger"), newPerson(t, "Elsewhere")
	elsewhere.identity.GroupID = "another group"
	soon := func(m *message.Outbound) { m.Expires = time.Now().Add(300 * time.Millisecond).UnixMilli() }
	here.wait("failure", failure(message.UnknownMember, here.send(alice, stranger, nil, soon)))
	here.wait("failure", failure(message.NotAllowed, here.send(alice, elsewhere, nil)))
	here.wait("failure", failure(message.TooLarge, here.send(alice, bob, make([]byte, 1_000_000))))
	here.wait("failure", failure(message.Expired, here.send(alice, bob, nil, func(m *message.Outbound) { m.Expires = 1 })))
}

func TestAMessageToAnUnknownMemberLeavesWhenItBecomesKnown(t *testing.T) {
	t.Parallel()
	alice, bob := newPerson(t, "Alice"), newPerson(t, "Bob")
	here, there := newCluster(t, "here", options{}, alice), newCluster(t, "there", options{}, bob)
	where := map[*person]string{alice: here.url(), bob: there.url()}
	there.introduce(1, where)
	here.introduce(1, map[*person]string{alice: here.url()})
	id := here.send(alice, bob, []byte("x"))
	until(t, "wait for the member", func() bool { s := here.links.Status(); return len(s) == 1 && s[0].WaitingFor != "" })
	here.list(alice, bob, bob.record(there.url(), 1))
	there.wait("message", has(id))
}

func TestAPeersSessionGoesOnAfterOurRestart(t *testing.T) {
	modes(t, func(t *testing.T, o options) {
		here, there, alice, bob := twoClusters(t, o)
		there.wait("message", has(here.send(alice, bob, []byte("1"))))
		there.restart()
		there.wait("message", has(here.send(alice, bob, []byte("2"))))
		if n := here.counter("hawser_link_sessions_total", "initiator"); n != 1 {
			t.Errorf("%v sessions were made, want 1", n)
		}
	})
}

func TestMessagesAreSentAgainAfterTheSendersRestart(t *testing.T) {
	modes(t, func(t *testing.T, o options) {
		here, there, alice, bob := twoClusters(t, o)
		there.shutDown()
		var ids []string
		for range 10 {
			ids = append(ids, here.send(alice, bob, []byte("x")))
		}
		here.restart()
		there.start()
		there.wait("all messages", has(ids...))
		until(t, "acknowledgements", func() bool { return here.counter("hawser_link_outbound_total", "acknowledged") == 10 })
	})
}

func TestMessagesToADeadPeerAreParkedAndLeaveInTheEnd(t *testing.T) {
	t.Parallel()
	o := options{tuning: linkmanager.Tuning{LaneMessagesAway: 20, ParkAfter: 50 * time.Millisecond, ParkDistance: 50, MaxRetryReachable: time.Second}}
	here, there, alice, bob := twoClusters(t, o)
	there.shutDown()
	var ids []string
	for range 300 {
		ids = append(ids, here.send(alice, bob, []byte("x")))
	}
	until(t, "parked messages", func() bool {
		s := here.links.Status()
		return len(s) == 1 && s[0].ParkedPages > 2 && s[0].Messages <= 120
	})
	here.restart()
	there.start()
	there.wait("all messages", has(ids...))
	until(t, "end of all", func() bool { return here.counter("hawser_link_outbound_total", "acknowledged") >= 300 })
	until(t, "empty lane", func() bool {
		s := here.links.Status()
		return len(s) == 1 && s[0].Messages == 0 && s[0].ParkedPages == 0
	})
	// A page that was open to new rows when its last one ended is found to be empty after a restart, and is dropped then.
	here.restart()
	until(t, "nothing parked", func() bool {
		s := here.links.Status()
		return len(s) == 0 || s[0].Messages == 0 && s[0].ParkedPages == 0
	})
	until(t, "empty pages dropped", func() bool { return here.parkedPages() == 0 })
}

func TestASubstitutedMemberKeyIsRefused(t *testing.T) {
	t.Parallel()
	here, there, alice, bob := twoClusters(t, options{tuning: linkmanager.Tuning{FirstReplay: 100 * time.Millisecond}})
	there.wait("message", has(here.send(alice, bob, []byte("1"))))
	impostor := newPerson(t, "Alice")
	there.list(bob, alice, impostor.record(here.url(), 2))
	until(t, "refusal", func() bool {
		here.send(alice, bob, []byte("2"))
		return there.counter("hawser_link_dropped_total", "session key replaced") > 0
	})
	if n := there.counter("hawser_link_inbound_total", "new"); n != 1 {
		t.Errorf("%v messages were taken, want 1", n)
	}
}

func TestTheWrongResponderIsRefused(t *testing.T) {
	t.Parallel()
	here, there, alice, bob := twoClusters(t, options{tuning: linkmanager.Tuning{HandshakeTimeout: 300 * time.Millisecond}})
	impostor := newPerson(t, "Bob")
	here.list(alice, bob, impostor.record(there.url(), 2))
	here.send(alice, bob, []byte("1"))
	until(t, "refusal", func() bool { return there.counter("hawser_link_dropped_total", "not hosted") > 0 })
	if n := here.counter("hawser_link_sessions_total"); n != 0 {
		t.Errorf("%v sessions were made", n)
	}
}

func TestANewSerialMakesANewSession(t *testing.T) {
	t.Parallel()
	here, there, alice, bob := twoClusters(t, options{})
	there.wait("message", has(here.send(alice, bob, []byte("1"))))
	until(t, "session", func() bool { s := here.links.Status(); return s[0].Session != "" })
	here.list(alice, bob, bob.record(there.url(), 2))
	until(t, "end of the session", func() bool { s := here.links.Status(); return s[0].Session == "" })
	there.wait("message", has(here.send(alice, bob, []byte("2"))))
	if n := here.counter("hawser_link_sessions_total", "initiator"); n != 2 {
		t.Errorf("%v sessions were made, want 2", n)
	}
}

func TestAnInactiveVirtualNodeGetsNothingYet(t *testing.T) {
	t.Parallel()
	here, there, alice, bob := twoClusters(t, options{tuning: linkmanager.Tuning{FirstReplay: 100 * time.Millisecond, MaxRetryReachable: 200 * time.Millisecond}})
	there.wait("message", has(here.send(alice, bob, []byte("1"))))
	there.setActive(bob, false)
	var id string
	until(t, "refusal", func() bool {
		id = here.send(alice, bob, []byte("2"))
		return there.counter("hawser_link_dropped_total", "not active") > 0
	})
	there.setActive(bob, true)
	there.wait("message", has(id))
}

func TestALostSessionIsMadeAnew(t *testing.T) {
	t.Parallel()
	here, there, alice, bob := twoClusters(t, options{tuning: linkmanager.Tuning{FirstReplay: 200 * time.Millisecond, MaxRetryReachable: time.Second}})
	there.wait("message", has(here.send(alice, bob, []byte("1"))))
	there.dataKey = make([]byte, 32) // what was sealed under the old one is lost
	there.restart()
	there.wait("message", has(here.send(alice, bob, []byte("2"))))
	if n := here.counter("hawser_link_sessions_total", "initiator"); n != 2 {
		t.Errorf("%v sessions were made, want 2", n)
	}
}
