// Package fault has the kinds of error that travel between workers and to REST clients, and the one table that maps a
// kind to an HTTP status. Code branches on a kind, never on the text of an error.
package fault

import (
	"errors"
	"fmt"
	"net/http"
)

// Kind says what sort of failure an error is. Kinds travel between workers of different releases, so a number is never
// used again and new kinds are added at the end.
type Kind uint8

const (
	// Internal is a failure of our own. Its text never leaves the cluster.
	Internal Kind = 0
	// Invalid is an input that can never be accepted as it is.
	Invalid Kind = 1
	// NotFound is a thing named by the caller that does not exist.
	NotFound Kind = 2
	// Conflict is a thing that exists already, or a state that does not allow the operation.
	Conflict Kind = 3
	// Unauthenticated is a caller that has not shown who it is.
	Unauthenticated Kind = 4
	// Forbidden is a caller that is known and may not do this.
	Forbidden Kind = 5
	// TooLarge is an input over a size limit.
	TooLarge Kind = 6
	// TooMany is a caller over a rate limit. It may try again later.
	TooMany Kind = 7
	// Unavailable is a part of the cluster that can't be reached now. Trying again is right.
	Unavailable Kind = 8
	// NotImplemented is an operation that this release doesn't offer.
	NotImplemented Kind = 9
	// Unsupported is a content type that the operation doesn't take.
	Unsupported Kind = 10
	// Deadline is work that did not end in the time allowed for it. Whether it took effect is not known.
	Deadline Kind = 11
)

// kinds is the one place where a kind gets its name and its HTTP status.
var kinds = [...]struct {
	name   string
	status int
}{
	Internal:        {"internal", http.StatusInternalServerError},
	Invalid:         {"invalid", http.StatusBadRequest},
	NotFound:        {"not found", http.StatusNotFound},
	Conflict:        {"conflict", http.StatusConflict},
	Unauthenticated: {"unauthenticated", http.StatusUnauthorized},
	Forbidden:       {"forbidden", http.StatusForbidden},
	TooLarge:        {"too large", http.StatusRequestEntityTooLarge},
	TooMany:         {"too many", http.StatusTooManyRequests},
	Unavailable:     {"unavailable", http.StatusServiceUnavailable},
	NotImplemented:  {"not implemented", http.StatusNotImplemented},
	Unsupported:     {"unsupported", http.StatusUnsupportedMediaType},
	Deadline:        {"deadline exceeded", http.StatusGatewayTimeout},
}

func (k Kind) String() string {
	if int(k) >= len(kinds) {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kinds[k].name
}

// HTTPStatus returns the status code that a REST answer carries for the kind. A kind of a later release is 500.
func (k Kind) HTTPStatus() int {
	if int(k) >= len(kinds) {
		return http.StatusInternalServerError
	}
	return kinds[k].status
}

// Error is an error with a kind, and optionally details for programs.
type Error struct {
	Kind    Kind
	Message string
	// Details are name-value pairs for the caller's program. They reach REST clients as they are.
	Details map[string]string

	cause error
}

// New returns an error of the given kind. The format may wrap causes with %w.
func New(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), cause: err}
}

// With returns a copy of the error with one more detail.
func (e *Error) With(name, value string) *Error {
	c := *e
	c.Details = make(map[string]string, len(e.Details)+1)
	for n, v := range e.Details {
		c.Details[n] = v
	}
	c.Details[name] = value
	return &c
}

func (e *Error) Error() string { return e.Message }

// Unwrap lets errors.Is and errors.As see the causes given to New.
func (e *Error) Unwrap() error { return e.cause }

// KindOf returns the kind of the outermost error in the chain that has one, or Internal where none has.
func KindOf(err error) Kind {
	var e interface{ FaultKind() string }
	if errors.As(err, &e) {
		return kindNamed(e.FaultKind())
	}
	return Internal
}

// DetailsOf returns the details of the outermost Error in the chain, or nil.
func DetailsOf(err error) map[string]string {
	var e *Error
	if errors.As(err, &e) {
		return e.Details
	}
	return nil
}
