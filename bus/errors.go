package bus

import (
	"context"
	"errors"
	"fmt"
)

// The bus knows two kinds of failure beside its own: what may be tried again, and what was refused. Errors say which by
// a FaultKind method, which cluster/fault reads and writes; so neither package imports the other.
const (
	kindUnavailable = "unavailable"
	kindConflict    = "conflict"
	kindTooLarge    = "too large"
	kindForbidden   = "forbidden"
	kindNotFound    = "not found"
)

// Error is a failure of the bus itself.
type Error struct {
	kind, text string
	cause      error
}

func (e *Error) Error() string { return e.text }

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// FaultKind names the kind of the failure, in the words of cluster/fault.
func (e *Error) FaultKind() string { return e.kind }

func failure(kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{kind: kind, text: "bus: " + err.Error(), cause: errors.Unwrap(err)}
}

// ErrNotSent is wrapped by an error of a Remote where the request has certainly not been taken up by the other process.
var ErrNotSent = errors.New("the request was not sent")

// retryable says whether the same input may succeed later without anybody changing it.
func retryable(err error) bool {
	var k interface{ FaultKind() string }
	if errors.As(err, &k) {
		return k.FaultKind() == kindUnavailable
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// ErrorCodec turns the errors that command handlers return into octets and back, so that a repeated command gets the
// first answer even where that was an error. cluster/fault provides it.
type ErrorCodec interface {
	EncodeError(err error) []byte
	DecodeError(octets []byte) error
}
