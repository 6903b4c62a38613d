// Package flow has what all workers share about flows: the ids by which a message finds its flow without a look-up
// (DESIGN.md 3.1), the records of starting, messaging and status, and their rules. It runs no flow.
package flow

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/hawser-project/hawser/corda/identity"
)

// Slot is the key under which everything that concerns one flow is handled: 64 bits of SHA-256. Two flows may share one.
type Slot [8]byte

// Key is the slot as a key of records, commands and state.
func (s Slot) Key() string { return hex.EncodeToString(s[:]) }

// StartSlot is the slot of a flow that a client starts.
func StartSlot(holder identity.HoldingIdentity, clientRequestID string) Slot {
	return slotOf("start", holder.Name.String(), holder.GroupID, clientRequestID)
}

// PeerSlot is the slot of a flow that a peer's session begins.
func PeerSlot(holder, peer identity.HoldingIdentity, sessionID string) Slot {
	return slotOf("peer", holder.Name.String(), holder.GroupID, peer.Name.String(), peer.GroupID, sessionID)
}

// slotOf hashes the parts, each after its length, so that no two lists of parts give the same octets.
func slotOf(parts ...string) Slot {
	h := sha256.New()
	for _, p := range parts {
		var length [4]byte
		binary.BigEndian.PutUint32(length[:], uint32(len(p)))
		h.Write(length[:])
		h.Write([]byte(p))
	}
	return Slot(h.Sum(nil)[:8])
}

// ID names a flow: its slot, 26 random bits and 32 bits that are 0, laid out as a version-8 UUID (RFC 9562 5.8). The ids
// of the flow's sessions are the same with the session's number in the last 32 bits.
type ID [16]byte

// NewID makes the id of a flow. Of random the low 26 bits are used.
func NewID(slot Slot, random uint32) ID {
	// 122 free bits, high to low: slot (64), random (26), session (32).
	free := [2]uint64{binary.BigEndian.Uint64(slot[:]), uint64(random&(1<<26-1)) << 32}
	return layOut(free)
}

// layOut puts 64 + 58 bits around the version and variant of a UUID: 48 bits, version, 12 bits, variant, 62 bits.
func layOut(free [2]uint64) (id ID) {
	high := free[0]&^0xffff | 8<<12 | free[0]>>4&0x0fff
	low := 0x2<<62 | (free[0]&0xf)<<58 | free[1]
	binary.BigEndian.PutUint64(id[:8], high)
	binary.BigEndian.PutUint64(id[8:], low)
	return id
}

// Slot returns the slot that the id names.
func (id ID) Slot() (s Slot) {
	high, low := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	binary.BigEndian.PutUint64(s[:], high&^0xffff|high&0x0fff<<4|low>>58&0xf)
	return s
}

// Session returns the id of the flow's n-th session, counted from 1.
func (id ID) Session(n uint32) ID {
	binary.BigEndian.PutUint32(id[12:], n)
	return id
}

// Flow returns the id of the flow that a session id belongs to.
func (id ID) Flow() ID { return id.Session(0) }

// Number returns which of the flow's sessions the id names; 0 is the flow itself.
func (id ID) Number() uint32 { return binary.BigEndian.Uint32(id[12:]) }

func (id ID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

var idForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// ParseID reads what String wrote, and nothing else.
func ParseID(s string) (id ID, err error) {
	if !idForm.MatchString(s) {
		return id, fmt.Errorf("%q is not the id of a flow or session", s)
	}
	_, err = hex.Decode(id[:], []byte(strings.ReplaceAll(s, "-", "")))
	return id, err
}

// initiated is what Corda puts behind the session id on the responder's side (spec/flows.md 7.4).
const initiated = "-INITIATED"

// MessageKey is the key that a session's message carries between clusters: the sender's own name of the session.
func MessageKey(session ID, fromInitiator bool) string {
	if fromInitiator {
		return session.String()
	}
	return session.String() + initiated
}

// ParseMessageKey reads the key of a message: the session, and whether the message comes from its initiator.
func ParseMessageKey(key string) (session ID, fromInitiator bool, err error) {
	text, fromResponder := strings.CutSuffix(key, initiated)
	session, err = ParseID(text)
	if err == nil && session.Number() == 0 {
		err = fmt.Errorf("%q names no session", key)
	}
	return session, !fromResponder, err
}

// SlotOfMessage says which slot of the receiver a message belongs to: the responder's slot is computed from both parties,
// the initiator's is in the session id.
func SlotOfMessage(receiver, sender identity.HoldingIdentity, key string) (Slot, error) {
	session, fromInitiator, err := ParseMessageKey(key)
	if err != nil {
		return Slot{}, err
	}
	if fromInitiator {
		return PeerSlot(receiver, sender, session.String()), nil
	}
	return session.Slot(), nil
}

// SlotOfFailure says which slot of the sender the failure of a message belongs to, the message's key being given.
func SlotOfFailure(sender, receiver identity.HoldingIdentity, key string) (Slot, error) {
	session, fromInitiator, err := ParseMessageKey(key)
	if err != nil {
		return Slot{}, err
	}
	if fromInitiator {
		return session.Slot(), nil
	}
	return PeerSlot(sender, receiver, session.String()), nil
}
