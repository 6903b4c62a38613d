package call

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/internal/pki"
)

// ClientConfig is what a Client needs.
type ClientConfig struct {
	TLS     *pki.Loader
	Limits  Limits
	Log     *slog.Logger
	Metrics *Metrics
}

// Client asks other processes, over connections that it opens as needed and keeps. It is a bus.Remote.
type Client struct {
	pool *pool
	exchanger
}

// NewClient makes a client.
func NewClient(c ClientConfig) *Client {
	c.Limits = c.Limits.withDefaults()
	side := c.Metrics.side(sideClient)
	return &Client{newPool(c, side), exchanger{c.Limits, side}}
}

// Run keeps the client until ctx ends; then what is in flight is finished for a few seconds, and nothing more is sent.
func (c *Client) Run(ctx context.Context, ready func()) error {
	ready()
	<-ctx.Done()
	c.pool.stop()
	return nil
}

// Send asks a process. errors.Is(err, bus.ErrNotSent) where the request has certainly not been taken up.
func (c *Client) Send(ctx context.Context, to bus.Instance, r bus.Request) (bus.Answer, error) {
	began := time.Now()
	answer, err := c.send(ctx, to, r)
	c.side.count(outcomeOf(answer, err), began)
	return answer, err
}

func (c *Client) send(ctx context.Context, to bus.Instance, r bus.Request) (bus.Answer, error) {
	body, err := c.encode(ctx, r)
	if err != nil {
		return bus.Answer{}, err
	}
	for try := 0; ; try++ {
		l, err := c.pool.take(ctx, to.Address)
		if err != nil {
			return bus.Answer{}, err
		}
		if err := mayAnswer(l.conn.peer, r); err != nil {
			l.Release()
			return bus.Answer{}, err
		}
		answer, err := c.exchange(ctx, l, body, describe(to))
		// A server that stops says which requests it has not taken up; they go to a new connection, once.
		if try == 0 && refusedByProtocol(err) {
			continue
		}
		return answer, err
	}
}

// whatOperator is a request that any worker takes: it hands it on to who has r.Role.
const whatOperator = "operator"

// mayAnswer says whether a process may answer a request, by its certificate. Of a call without a key nobody here knows the
// role that answers it, so that any worker may.
func mayAnswer(peer pki.Identity, r bus.Request) error {
	if !peer.IsWorker() || r.Role != "" && r.What != whatOperator && !peer.Has(string(r.Role)) {
		err := notSent("%s may not answer for role %q", peer, r.Role)
		err.kind = kindForbidden
		return err
	}
	return nil
}

func describe(to bus.Instance) string {
	if to.Name == "" {
		return to.Address
	}
	return to.Name + " (" + to.Address + ")"
}

// exchanger sends requests on a link and reads the answers.
type exchanger struct {
	limits Limits
	side   *side
}

func (e *exchanger) encode(ctx context.Context, r bus.Request) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, notSent("%s: %w", r.Name, err)
	}
	body, err := encodeRequest(ctx, r)
	if err != nil {
		return nil, failure(kindInternal, "encode %s: %w", r.Name, err)
	}
	if int64(len(body)) > e.limits.MaxBody {
		err := notSent("%s has %d octets, more than %d, the limit", r.Name, len(body), e.limits.MaxBody)
		err.kind = kindTooLarge
		return nil, err
	}
	return body, nil
}

var (
	requestURL    = &url.URL{Scheme: "http", Host: "peer", Path: requestPath}
	helloURL      = &url.URL{Scheme: "http", Host: "peer", Path: helloPath}
	requestHeader = http.Header{"Content-Type": {contentType}, "User-Agent": {""}} // never written to
)

// exchange sends an encoded request on a link that has a place reserved for it.
func (e *exchanger) exchange(ctx context.Context, l *link, body []byte, to string) (bus.Answer, error) {
	octets, err := roundTrip(ctx, l, requestURL, body, e.limits.MaxBody, to)
	if err != nil {
		return bus.Answer{}, err
	}
	answer, err := decodeAnswer(octets)
	if err != nil {
		return bus.Answer{}, failure(kindInternal, "%s: %w", to, err)
	}
	return answer, nil
}

func roundTrip(ctx context.Context, l *link, u *url.URL, body []byte, most int64, to string) ([]byte, error) {
	req := (&http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host, Header: requestHeader, ContentLength: int64(len(body)),
		Body: io.NopCloser(bytes.NewReader(body)), Proto: "HTTP/2.0", ProtoMajor: 2,
	}).WithContext(ctx)
	resp, err := l.RoundTrip(req)
	if err != nil {
		failed := failure(kindUnavailable, "%s: %w", to, err)
		failed.notSent = isRefusal(err)
		return nil, failed
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // what there is of it
		return nil, refusalOf(resp.StatusCode, strings.ToValidUTF8(string(text), "?"), to)
	}
	octets, err := readBody(resp.Body, resp.ContentLength, most)
	switch {
	case errors.Is(err, errTooLong):
		return nil, failure(kindTooLarge, "%s: the answer is longer than %d octets, the limit here", to, most)
	case err != nil:
		return nil, failure(kindUnavailable, "%s: read the answer: %w", to, err)
	}
	return octets, nil
}

// streamError has the form of net/http's own error of a stream, which errors.As fills in for it.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (streamError) Error() string { return "stream error" }

// What net/http says of requests that the server has told not to have looked at. RFC 9113, 6.8 and 8.7.
const (
	codeRefusedStream = 0x7
	textGoAway        = "http2: Transport received Server's graceful shutdown GOAWAY"
	textUnusable      = "http2: client conn not usable"
)

// isRefusal says whether an error of a round trip means that the server has certainly not taken up the request. net/http
// has no exported names for two of them; should their texts change, a request counts as possibly taken up, which is safe.
func isRefusal(err error) bool {
	var stream streamError
	if errors.As(err, &stream) {
		return stream.Code == codeRefusedStream
	}
	text := err.Error()
	return text == textGoAway || text == textUnusable
}

func refusedByProtocol(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.notSent && e.cause != nil && isRefusal(e.cause)
}

func outcomeOf(a bus.Answer, err error) string {
	var e *Error
	switch {
	case err == nil && a.NotHere:
		return outcomeNotHere
	case err == nil:
		return outcomeOK
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return outcomeCancelled
	case errors.As(err, &e) && (e.kind == kindForbidden || e.kind == kindTooLarge || e.kind == kindInvalid):
		return outcomeRefused
	case errors.Is(err, bus.ErrNotSent):
		return outcomeNotSent
	}
	return outcomeFailed
}
