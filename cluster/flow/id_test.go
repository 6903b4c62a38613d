package flow_test

import (
	"testing"

	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
)

func party(t testing.TB, name, group string) identity.HoldingIdentity {
	t.Helper()
	n, err := x500.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return identity.HoldingIdentity{Name: n, GroupID: group}
}

func TestAnIDGivesBackItsSlotAndSession(t *testing.T) {
	t.Parallel()
	for _, slot := range []flow.Slot{{}, {255, 255, 255, 255, 255, 255, 255, 255}, {1, 2, 3, 4, 5, 6, 7, 8}, {0, 0, 0, 0, 0, 0, 0, 0xf}} {
		for _, random := range []uint32{0, 1<<26 - 1, 0x1234567} {
			id := flow.NewID(slot, random)
			session := id.Session(7)
			if id.Slot() != slot || session.Slot() != slot {
				t.Errorf("slot %x comes back as %x and %x", slot, id.Slot(), session.Slot())
			}
			if session.Flow() != id || session.Number() != 7 || id.Number() != 0 {
				t.Errorf("session %v of %v: flow %v, number %d", session, id, session.Flow(), session.Number())
			}
			back, err := flow.ParseID(session.String())
			if err != nil || back != session {
				t.Errorf("%v reads as %v, %v", session, back, err)
			}
		}
	}
}

func TestIDsOfOneSlotDifferByTheirRandomPart(t *testing.T) {
	t.Parallel()
	slot := flow.Slot{9}
	if flow.NewID(slot, 1) == flow.NewID(slot, 2) {
		t.Error("two random parts gave one id")
	}
	if flow.NewID(slot, 1) != flow.NewID(slot, 1|1<<26) {
		t.Error("more than 26 random bits are used")
	}
}

func TestBothSidesOfASessionComputeTheSameSlots(t *testing.T) {
	t.Parallel()
	alice := party(t, "O=Alice, L=London, C=GB", "8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c")
	bob := party(t, "O=Bob, L=Paris, C=FR", alice.GroupID)
	start := flow.StartSlot(alice, "r-1")
	session := flow.NewID(start, 5).Session(1)

	atBob, err := flow.SlotOfMessage(bob, alice, flow.MessageKey(session, true))
	if err != nil || atBob != flow.PeerSlot(bob, alice, session.String()) {
		t.Errorf("the responder's slot is %x, %v", atBob, err)
	}
	atAlice, err := flow.SlotOfMessage(alice, bob, flow.MessageKey(session, false))
	if err != nil || atAlice != start {
		t.Errorf("the initiator's slot is %x, %v; want %x", atAlice, err, start)
	}
	for key, want := range map[string]flow.Slot{flow.MessageKey(session, true): start, flow.MessageKey(session, false): flow.PeerSlot(alice, bob, session.String())} {
		if got, err := flow.SlotOfFailure(alice, bob, key); err != nil || got != want {
			t.Errorf("the failure of %s goes to slot %x, %v; want %x", key, got, err, want)
		}
	}
	if other, _ := flow.SlotOfMessage(alice, bob, flow.MessageKey(session, true)); other == start {
		t.Error("a peer that claims to be the initiator reaches our flow")
	}
}

func TestSlotsDependOnEachPartAlone(t *testing.T) {
	t.Parallel()
	a, b := party(t, "O=A, L=London, C=GB", "g1"), party(t, "O=A, L=London, C=GB", "g")
	if flow.StartSlot(a, "x") == flow.StartSlot(b, "1x") {
		t.Error("parts run into each other")
	}
}

func TestBadMessageKeysAreRefused(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "-INITIATED", "not-a-uuid", "11111111-2222-4333-8444-555555555555", "11111111-2222-8333-8444-000000000000", "11111111-2222-8333-c444-555555555555", "11111111-2222-8333-8444-555555555555x"} {
		if _, _, err := flow.ParseMessageKey(key); err == nil {
			t.Errorf("%q was read as a session", key)
		}
	}
}

func FuzzParseMessageKey(f *testing.F) {
	f.Add("11111111-2222-8333-8444-555555555555")
	f.Add("11111111-2222-8333-8444-555555555555-INITIATED")
	f.Fuzz(func(t *testing.T, key string) {
		session, fromInitiator, err := flow.ParseMessageKey(key)
		if err == nil && flow.MessageKey(session, fromInitiator) != key {
			t.Errorf("%q reads as %v, %v", key, session, fromInitiator)
		}
	})
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	for id, ok := range map[string]bool{"r-1": true, "A_b.c-9": true, "": false, "a b": false, "a/b": false, string(make([]byte, 243)): false} {
		if err := flow.CheckRequestID(id); (err == nil) != ok {
			t.Errorf("%q: %v", id, err)
		}
	}
}
