package flow

import (
	"regexp"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/message"
)

// Times in records are Unix milliseconds.

// Subsystem is the P2P subsystem of session messages (spec/p2p-wire.md 4.5).
const Subsystem = "flowSession"

// State is the state of a flow as clients see it (spec/flows.md 6).
type State string

// The five states. A terminal one never changes again.
const (
	StartRequested State = "START_REQUESTED"
	Running        State = "RUNNING"
	Completed      State = "COMPLETED"
	Failed         State = "FAILED"
	Killed         State = "KILLED"
)

// Terminal says whether the flow has ended.
func (s State) Terminal() bool { return s == Completed || s == Failed || s == Killed }

// ParseState reads a state as a client names it.
func ParseState(text string) (State, error) {
	switch s := State(text); s {
	case StartRequested, Running, Completed, Failed, Killed:
		return s, nil
	}
	return "", fault.New(fault.Invalid, "unknown flow status %q: want one of START_REQUESTED, RUNNING, COMPLETED, FAILED, KILLED", text)
}

var requestID = regexp.MustCompile(`^[-._A-Za-z0-9]{1,242}$`)

// CheckRequestID says whether a client may use the id for a flow (spec/flows.md 5.1).
func CheckRequestID(id string) error {
	if requestID.MatchString(id) {
		return nil
	}
	return fault.New(fault.Invalid, "clientRequestId %.260q is not valid: want 1 to 242 of the characters A-Z a-z 0-9 . _ -", id)
}

// MaxArguments is the size of the largest requestBody and the largest result, in octets.
const MaxArguments = 512 << 10

// ReasonDetail is the name of a detail by which programs tell refused starts apart, and ReasonInactive its value where the
// virtual node takes no starts now.
const (
	ReasonDetail   = "reason"
	ReasonInactive = "FLOW_START_INACTIVE"
)

// Start is the command that begins a flow for a client. Its key is the flow's slot.
type Start struct {
	Holder          string `cbor:"1,keyasint"` // short hash of the virtual node
	ClientRequestID string `cbor:"2,keyasint"`
	Class           string `cbor:"3,keyasint"`
	Arguments       []byte `cbor:"4,keyasint,omitempty"` // JSON
	User            string `cbor:"5,keyasint,omitempty"` // who started it, for the audit
}

// Status is what clients see of a flow.
type Status struct {
	Holder          string `cbor:"1,keyasint"` // short hash
	ClientRequestID string `cbor:"2,keyasint"` // of a flow begun by a peer: the session id
	FlowID          string `cbor:"3,keyasint,omitempty"`
	State           State  `cbor:"4,keyasint"`
	Result          []byte `cbor:"5,keyasint,omitempty"` // JSON; only COMPLETED
	ErrorType       string `cbor:"6,keyasint,omitempty"` // only FAILED
	ErrorMessage    string `cbor:"7,keyasint,omitempty"`
	UpdatedAt       int64  `cbor:"8,keyasint"`
	Class           string `cbor:"9,keyasint,omitempty"`
	CreatedAt       int64  `cbor:"10,keyasint,omitempty"`
	// Waiting says what a running flow waits for, in words; empty: nothing.
	Waiting string `cbor:"11,keyasint,omitempty"`
}

// Input is a record that can wake a flow: topic flow.in, key the slot.
type Input struct {
	Holder  string           `cbor:"1,keyasint"` // short hash of the virtual node that the message is for
	Inbound *message.Inbound `cbor:"2,keyasint,omitempty"`
	Failed  *message.Failure `cbor:"3,keyasint,omitempty"` // a message of ours that can't be delivered
}

// EventKind says what a session event is.
type EventKind uint8

// Kinds of session events (spec/flows.md 8). Numbers are never used again.
const (
	Data  EventKind = 1
	Close EventKind = 2
	Error EventKind = 3
	// Hello is an initiator's first event where it receives before it sends.
	Hello EventKind = 4
)

// SessionEvent is the payload of a session's message between two Hawser clusters. Data and Close are numbered from 1 in
// each direction, Error and Hello are not; until the initiator has heard from the responder, each of its messages carries Init, so that the order
// of arrival does not matter.
type SessionEvent struct {
	Kind     EventKind `cbor:"1,keyasint"`
	Sequence uint64    `cbor:"2,keyasint,omitempty"`
	Init     *Init     `cbor:"3,keyasint,omitempty"`
	Payload  []byte    `cbor:"4,keyasint,omitempty"` // Data
	Code     string    `cbor:"5,keyasint,omitempty"` // Error
	Message  string    `cbor:"6,keyasint,omitempty"` // Error
	// Final, of Data: the sender closes the session with it, which saves the message of a Close.
	Final bool `cbor:"7,keyasint,omitempty"`
}

// Init tells a responder what the session is about.
type Init struct {
	Protocol string `cbor:"1,keyasint"`
	Versions []int  `cbor:"2,keyasint"`
	Class    string `cbor:"3,keyasint,omitempty"` // of the initiating flow, for people
}
