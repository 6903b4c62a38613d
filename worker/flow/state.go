package flow

import (
	"context"
	"fmt"
	"slices"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/worker/flow/session"
	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

// Kinds of state. All but the last two are under the slot, so that a flow's steps own them.
var (
	runs = bus.State[run]{Name: "flow.runs", Owner: topic.Flow} // row: flow id
	// starts has start frames. Row: flow id.
	starts = bus.State[[]byte]{Name: "flow.starts", Owner: topic.Flow}
	// events has logs, several events to a row. Row: flow id, "/", number of the first event, "/", piece.
	events = bus.State[[]byte]{Name: "flow.events", Owner: topic.Flow}
	// answers has answers to commands that no event has carried yet. Row: flow id, "/", command id, "/", piece.
	answers = bus.State[[]byte]{Name: "flow.answers", Owner: topic.Flow}
	// inbox has payloads that the flow has not received yet. Row: flow id, "/", session, "/", number.
	inbox = bus.State[[]byte]{Name: "flow.inbox", Owner: topic.Flow}

	// statuses is what clients see. Key: short hash of the virtual node; row: see statusRow. Written without being read.
	statuses = bus.State[flow.Status]{Name: "flow.statuses", Owner: topic.Flow}
	// store has the records of applications. Key: short hash; row: the application's key.
	store = bus.State[[]byte]{Name: "flow.store", Owner: topic.Flow}
)

// run is a flow as its steps keep it. After the flow's end it stays, without what only a running flow needs, until the
// status is dropped: by it a second start and a late message are known.
type run struct {
	ID        string        `cbor:"1,keyasint"`
	Holder    string        `cbor:"2,keyasint"` // short hash
	Me        message.Party `cbor:"3,keyasint"`
	RequestID string        `cbor:"4,keyasint"` // of a flow begun by a peer: the session id
	Class     string        `cbor:"5,keyasint"`
	Kind      frame.Kind    `cbor:"6,keyasint"`
	Module    string        `cbor:"7,keyasint"` // hash of module.wasm
	State     flow.State    `cbor:"8,keyasint"`
	CreatedAt int64         `cbor:"9,keyasint"`  // Unix milliseconds
	UpdatedAt int64         `cbor:"10,keyasint"` // of the last step

	Events   uint64            `cbor:"11,keyasint,omitempty"` // logged so far
	Chain    chain             `cbor:"12,keyasint"`
	Sessions []session.Session `cbor:"13,keyasint,omitempty"`
	// Pending are commands that wait for a peer, in order of their ids.
	Pending []pending  `cbor:"14,keyasint,omitempty"`
	Mode    frame.Mode `cbor:"15,keyasint,omitempty"`
	Await   []uint64   `cbor:"16,keyasint,omitempty"`
	// Answered are commands whose answers are stored.
	Answered []uint64 `cbor:"17,keyasint,omitempty"`
	// WakeAt is when the flow's timer is due, 0: it has none. Unix milliseconds.
	WakeAt int64 `cbor:"18,keyasint,omitempty"`

	fresh bool // made in this step
}

// pending is a receive or a close without an answer.
type pending struct {
	ID       uint64   `cbor:"1,keyasint"`
	Op       frame.Op `cbor:"2,keyasint"`
	Session  uint64   `cbor:"3,keyasint,omitempty"`
	Deadline int64    `cbor:"4,keyasint"` // Unix milliseconds
	// Done says that the answer is known: message Number of the session, or a problem, or just done.
	Done    bool             `cbor:"5,keyasint,omitempty"`
	Number  uint64           `cbor:"6,keyasint,omitempty"`
	Problem *session.Problem `cbor:"7,keyasint,omitempty"`
}

// event is one entry into the module, as the log has it.
type event struct {
	// Given is the octets of Begin or Resume. Empty in the first event: that is the start frame.
	Given []byte `cbor:"1,keyasint,omitempty"`
	// Answer is the hash of the command frame, and Did tells it in words, for whoever looks into a divergence.
	Answer []byte `cbor:"2,keyasint"`
	Did    string `cbor:"3,keyasint,omitempty"`
}

// session finds a session by the flow's number.
func (r *run) session(number uint64) *session.Session {
	for i := range r.Sessions {
		if r.Sessions[i].Number == number {
			return &r.Sessions[i]
		}
	}
	return nil
}

// sessionNamed finds a session by the id that both sides use.
func (r *run) sessionNamed(id string, initiator bool) *session.Session {
	for i := range r.Sessions {
		if s := &r.Sessions[i]; s.ID == id && s.Initiator == initiator {
			return s
		}
	}
	return nil
}

// statusRow names the status: what a client gave, or what a peer gave together with our own id, since two peers may
// give the same.
func (r *run) statusRow() string {
	if r.Kind == frame.Client {
		return clientRow(r.RequestID)
	}
	return peerRows(r.RequestID) + r.ID
}

func clientRow(requestID string) string { return "c/" + requestID }
func peerRows(sessionID string) string  { return "p/" + sessionID + "/" }

func (r *run) status() flow.Status {
	return flow.Status{
		Holder: r.Holder, ClientRequestID: r.RequestID, FlowID: r.ID, State: r.State, Class: r.Class,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}

func (r *run) attrs() []any { return []any{"flow", r.ID, "class", r.Class, "holder", r.Holder} }

// waiting says what a running flow waits for.
func (r *run) waiting() string {
	for _, p := range r.Pending {
		if s := r.session(p.Session); s != nil && !p.Done {
			if p.Op == frame.CloseSession {
				return "for " + s.Peer.Name + " to close the session " + s.ID
			}
			return "for a message of " + s.Peer.Name + " in session " + s.ID
		}
	}
	return ""
}

// piece is how many octets of a longer value go into one row.
const piece = 900 << 10

func logRow(id string, number uint64) string { return fmt.Sprintf("%s/%016x/", id, number) }
func inboxRow(id string, session, number uint64) string {
	return fmt.Sprintf("%s/%x/%x", id, session, number)
}

// putPieces stores octets that may be longer than a row.
func putPieces(tx *bus.Tx, kind bus.State[[]byte], key, prefix string, octets []byte) {
	n := 0
	for part := range slices.Chunk(octets, piece) {
		kind.Put(tx, key, fmt.Sprintf("%s%04x", prefix, n), part)
		n++
	}
}

// getPieces reads what putPieces stored.
func getPieces(tx bus.Reader, kind bus.State[[]byte], key, prefix string) (octets []byte, err error) {
	rows, err := kind.List(tx, key, prefix)
	for _, row := range rows {
		octets = append(octets, row.Value...)
	}
	return octets, err
}

// dropRows removes all rows with a prefix.
func dropRows(tx *bus.Tx, kind bus.State[[]byte], key, prefix string) error {
	rows, err := kind.List(tx, key, prefix)
	for _, row := range rows {
		kind.Delete(tx, key, row.Row)
	}
	return err
}

// eachEvent calls fn for the events of a flow, in order.
func eachEvent(ctx context.Context, tx bus.Reader, key, id string, fn func(event) error) error {
	rows, err := events.List(tx, key, id+"/")
	if err != nil {
		return err
	}
	for len(rows) > 0 && ctx.Err() == nil {
		batch, octets := rows[0].Row[:len(rows[0].Row)-4], []byte(nil)
		for len(rows) > 0 && rows[0].Row[:len(rows[0].Row)-4] == batch {
			octets = append(octets, rows[0].Value...)
			rows = rows[1:]
		}
		var list []event
		if err := bus.Decode(octets, &list); err != nil {
			return err
		}
		for _, e := range list {
			if err := fn(e); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}
