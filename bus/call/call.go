// Package call carries requests between the processes of one cluster: HTTP/2 with mutual TLS. It knows who asks, by the
// certificate, and hands that to whom it serves; what may be asked is decided there. It knows no word of Corda, and keeps
// no state.
//
//	process A                                        process B
//	Client.Send ── POST /v1/request, CBOR ─────────> Server ─> Handler
//
//	a process behind (gateway)                       a process through which it is reached (link manager)
//	Reverse <───────── opens the connection ──────── Gateways
//	Reverse.Send ── POST /v1/request, CBOR ────────> Gateways ─> Handler
//
// A process that must open nothing inwards takes two kinds of connections on one port, told apart in the handshake (ALPN):
// ordinary ones, on which it answers, and reverse ones, on which it asks although the other side has opened them.
//
// TLS is done here, and net/http gets connections on which it speaks HTTP/2 at once ("unencrypted HTTP/2" in its words),
// for it has no way to speak it under another protocol's name, nor on a connection that the server has opened.
package call

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/internal/pki"
)

// What the two sides of a connection agree upon in the handshake.
const (
	protocolOrdinary = "h2"
	protocolReverse  = "hawser-reverse/1"
)

const (
	requestPath = "/v1/request"
	helloPath   = "/v1/hello"
	contentType = "application/cbor"
)

// Times after which something is given up. A peer that is gone is noticed within pingAfter + pingTime.
const (
	dialTime     = 3 * time.Second // TCP, TLS, and the first word of the server
	pingAfter    = 5 * time.Second
	pingTime     = 3 * time.Second
	writeTime    = 10 * time.Second // without a single octet taken
	idleTime     = 2 * time.Minute
	shutdownTime = 5 * time.Second // for requests in flight

	certificateEvery = time.Hour // how often the process's own certificate is looked at
)

// A Handler answers a request. The peer is who its certificate says, and may ask in the name of r.Asker.
type Handler func(ctx context.Context, peer pki.Identity, r bus.Request) bus.Answer

// Limits bound what one process can make another hold. What is 0 has its default.
type Limits struct {
	// MaxBody is how long a request or an answer may be, in octets. Default 24 MiB.
	MaxBody int64
	// MaxPerPeer is how many requests of one peer are answered at a time. Default 4096.
	MaxPerPeer int
	// MaxConns is how many connections a listener holds. Default 1024.
	MaxConns int
}

const (
	streamsPerConn = 1024 // requests at a time on one connection; a client opens more connections then, up to maxLinks
	maxLinks       = 4    // connections to one address
	maxHeaders     = 16 << 10
)

func (l Limits) withDefaults() Limits {
	if l.MaxBody == 0 {
		l.MaxBody = 24 << 20
	}
	if l.MaxPerPeer == 0 {
		l.MaxPerPeer = maxLinks * streamsPerConn
	}
	if l.MaxConns == 0 {
		l.MaxConns = 1024
	}
	return l
}

// Kinds of failure, in the words of cluster/fault.
const (
	kindUnavailable = "unavailable"
	kindForbidden   = "forbidden"
	kindTooLarge    = "too large"
	kindInvalid     = "invalid"
	kindInternal    = "internal"
)

// Error is a request that could not be carried.
type Error struct {
	kind, text string
	cause      error
	notSent    bool
}

func (e *Error) Error() string { return e.text }

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// Is says that errors.Is(err, bus.ErrNotSent) where the request has certainly not been taken up.
func (e *Error) Is(target error) bool { return target == bus.ErrNotSent && e.notSent }

// FaultKind names the kind of the failure, in the words of cluster/fault.
func (e *Error) FaultKind() string { return e.kind }

func failure(kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{kind: kind, text: "call: " + err.Error(), cause: errors.Unwrap(err)}
}

// notSent is a failure before anybody has taken up the request.
func notSent(format string, args ...any) *Error {
	err := failure(kindUnavailable, format, args...)
	err.notSent = true
	return err
}

// refusalOf makes an error of an answer that is none, as the server gives it before or instead of handling a request.
func refusalOf(status int, text, to string) *Error {
	kind := kindUnavailable
	switch status {
	case http.StatusBadRequest:
		kind = kindInvalid
	case http.StatusForbidden:
		kind = kindForbidden
	case http.StatusRequestEntityTooLarge:
		kind = kindTooLarge
	case http.StatusInternalServerError:
		kind = kindInternal
	}
	err := failure(kind, "%s answers %d: %s", to, status, text)
	err.notSent = status >= 400 && status < 500 || status == http.StatusServiceUnavailable
	return err
}
