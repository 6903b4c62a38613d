package flow

import (
	"errors"

	"github.com/hawser-project/hawser/sdk/internal/engine"
)

// A Code says what kind of error an Error is. Codes of an application's own are welcome: a flow that fails with
// one shows it to its client and to its peers.
type Code string

const (
	// CodeSession means that the peer's flow failed or that the session broke.
	CodeSession Code = "session-error"
	// CodeClosed means that the peer closed the session and nothing more will come.
	CodeClosed Code = "session-closed"
	// CodeTimeout means that the peer did not answer within the session's time.
	CodeTimeout Code = "session-timeout"
	// CodeUnknownPeer means that the group has no active member of that name.
	CodeUnknownPeer Code = "unknown-peer"
	// CodeNoProtocol means that the flow may not begin sessions, or that the peer speaks no common version.
	CodeNoProtocol Code = "no-protocol"
	// CodeBadMessage means that a value could not be encoded, or that what came is not what was expected.
	CodeBadMessage Code = "bad-message"
	// CodeTooLarge means that a value is larger than a message or a store entry may be.
	CodeTooLarge Code = "too-large"
)

// Error is an error with a kind that a flow can act on. Use errors.As, or CodeOf.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// FlowCode gives the code to the engine.
func (e *Error) FlowCode() string { return string(e.Code) }

// CodeOf is the code of the first Error in err's chain, or empty.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// public turns the engine's failure into the type that authors see.
func public(err error) error {
	if f, ok := errors.AsType[*engine.Failure](err); ok {
		return &Error{Code: Code(f.Code), Message: f.Message}
	}
	return err
}
