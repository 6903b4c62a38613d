package flow

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/worker/flow/session"
)

// sendEvent hands a session's event to the link manager. The message's id is made of session, side and number, so that
// the same event has the same id however often its step runs.
func (w *Worker) sendEvent(tx *bus.Tx, me message.Party, on *session.Session, e flow.SessionEvent) {
	name := strconv.FormatUint(e.Sequence, 10)
	switch e.Kind { //nolint:exhaustive // data and close are named by their number
	case flow.Error:
		name = "error"
	case flow.Hello:
		name = "hello"
	}
	id, err := flow.ParseID(on.ID)
	if err != nil {
		return // made by us, or read by ParseID when the session began
	}
	w.sendMessage(tx, me, on.Peer, flow.MessageKey(id, on.Initiator), name, e)
}

// sendMessage makes the record for the link manager.
func (w *Worker) sendMessage(tx *bus.Tx, me, peer message.Party, key, name string, e flow.SessionEvent) {
	payload, err := bus.Encode(e)
	if err != nil { // a struct of scalars: it always encodes
		w.Log.Error("session event does not encode", "error", err)
		return
	}
	m := message.Outbound{
		Source: me, Destination: peer, ID: key + "/" + name, Key: key, Subsystem: flow.Subsystem,
		Expires: tx.Now().Add(w.MessageTTL).UnixMilli(), Payload: payload,
	}
	topic.P2POut.Send(tx, m.Pair().Key(), m)
}

// reply answers a message that no session of ours can take with an error.
func (w *Worker) reply(tx *bus.Tx, m *message.Inbound, session flow.ID, fromInitiator bool, code, text string) {
	sum := sha256.Sum256([]byte(m.ID))
	w.sendMessage(tx, m.Destination, m.Source, flow.MessageKey(session, !fromInitiator), "reply-"+hex.EncodeToString(sum[:8]),
		flow.SessionEvent{Kind: flow.Error, Code: code, Message: text})
}
