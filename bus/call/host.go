package call

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/internal/pki"
)

// Serving is what answering needs, on connections of either direction.
type Serving struct {
	TLS   *pki.Loader
	Serve Handler
	// MaySpeakFor names the roles in whose name the processes of a role may ask beside their own: those for whom they relay.
	MaySpeakFor map[bus.Role][]bus.Role
	Limits      Limits
	Log         *slog.Logger
	Metrics     *Metrics
}

// host answers requests on connections that somebody hands over.
type host struct {
	Serving
	hello func(c *conn, said bus.Instance) (bus.Instance, error) // nil: no reverse connections
	side  *side
	http  *http.Server
	conns handover
	ended chan struct{}

	stopping atomic.Bool
	mu       sync.Mutex
	atWork   map[string]int // requests of a peer, by its instance
}

func newHost(s Serving, idle time.Duration) *host {
	s.Limits = s.Limits.withDefaults()
	h := &host{
		Serving: s, side: s.Metrics.side(sideServer), ended: make(chan struct{}), atWork: make(map[string]int),
		conns: handover{conns: make(chan net.Conn), done: make(chan struct{})},
	}
	h.http = &http.Server{
		Handler: h, ReadHeaderTimeout: dialTime, IdleTimeout: idle, MaxHeaderBytes: maxHeaders,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: streamsPerConn, SendPingTimeout: pingAfter, PingTimeout: pingTime, WriteByteTimeout: writeTime,
			MaxReceiveBufferPerConnection: 16 << 20, MaxReceiveBufferPerStream: 1 << 20,
		},
		ErrorLog:  slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		Protocols: new(http.Protocols),
	}
	h.http.Protocols.SetUnencryptedHTTP2(true)
	return h
}

// start begins to answer on the connections that add gets.
func (h *host) start() {
	go func() {
		defer close(h.ended)
		_ = h.http.Serve(&h.conns) // returns when stop closes it
	}()
}

// add hands over a connection.
func (h *host) add(c *conn) {
	select {
	case h.conns.conns <- c:
	case <-h.conns.done:
		_ = c.Close()
	}
}

// stop tells the peers to ask elsewhere, and finishes what is in flight.
func (h *host) stop() {
	h.stopping.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := h.http.Shutdown(ctx); err != nil {
		_ = h.http.Close()
	}
	<-h.ended
}

// ServeHTTP answers one request.
func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	c, ok := r.Context().Value(connKey{}).(*conn)
	if !ok || r.Method != http.MethodPost {
		h.refuse(w, http.StatusNotFound, "there is only POST")
		return
	}
	switch {
	case r.URL.Path == requestPath:
		h.side.count(h.request(w, r, c.peer), began)
	case r.URL.Path == helloPath && h.hello != nil:
		h.greet(w, r, c)
	default:
		h.refuse(w, http.StatusNotFound, "there is no "+r.URL.Path)
	}
}

func (h *host) request(w http.ResponseWriter, r *http.Request, peer pki.Identity) (outcome string) {
	if h.stopping.Load() {
		return h.refuse(w, http.StatusServiceUnavailable, "this process is stopping")
	}
	if !h.enter(peer.Instance) {
		return h.refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("%d requests of %s are being answered already", h.Limits.MaxPerPeer, peer.Instance))
	}
	defer h.leave(peer.Instance)
	octets, err := readBody(r.Body, r.ContentLength, h.Limits.MaxBody)
	switch {
	case errors.Is(err, errTooLong):
		return h.refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is longer than %d octets, the limit here", h.Limits.MaxBody))
	case err != nil: // the asker is gone
		return outcomeCancelled
	}
	request, timeout, err := decodeRequest(octets)
	if err != nil {
		return h.refuse(w, http.StatusBadRequest, err.Error())
	}
	if !h.maySpeakFor(peer, request.Asker) {
		h.Log.LogAttrs(r.Context(), slog.LevelWarn, "request refused", slog.String("peer", peer.String()), slog.String("asker", string(request.Asker)), slog.String("name", request.Name))
		return h.refuse(w, http.StatusForbidden, fmt.Sprintf("%s may not ask in the name of %q", peer, request.Asker))
	}
	ctx := r.Context()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	answer, ok := h.handle(ctx, peer, request)
	if !ok {
		h.refuse(w, http.StatusInternalServerError, "the handler of "+request.Name+" panicked")
		return outcomeFailed
	}
	return h.answer(w, r, request, answer)
}

func (h *host) answer(w http.ResponseWriter, r *http.Request, request bus.Request, answer bus.Answer) (outcome string) {
	octets, err := encodeAnswer(answer)
	if err == nil && int64(len(octets)) > h.Limits.MaxBody {
		err = fmt.Errorf("the answer to %s has %d octets, more than %d, the limit here", request.Name, len(octets), h.Limits.MaxBody)
	}
	if err != nil {
		h.refuse(w, http.StatusInternalServerError, err.Error())
		return outcomeFailed
	}
	if err := reply(w, octets); err != nil || r.Context().Err() != nil {
		return outcomeCancelled
	}
	if answer.NotHere {
		return outcomeNotHere
	}
	return outcomeOK
}

// handle calls the handler. A panic of it ends the request, not the connection that others share.
func (h *host) handle(ctx context.Context, peer pki.Identity, r bus.Request) (a bus.Answer, ok bool) {
	defer func() {
		if p := recover(); p != nil {
			h.Log.LogAttrs(ctx, slog.LevelError, "a handler panicked", slog.String("name", r.Name), slog.String("asker", string(r.Asker)),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	return h.Serve(ctx, peer, r), true
}

func (h *host) maySpeakFor(peer pki.Identity, asker bus.Role) bool {
	return slices.ContainsFunc(peer.Roles, func(role string) bool {
		return bus.Role(role) == asker || slices.Contains(h.MaySpeakFor[bus.Role(role)], asker)
	})
}

// greet answers the hello of who is going to ask over a reverse connection.
func (h *host) greet(w http.ResponseWriter, r *http.Request, c *conn) {
	octets, err := readBody(r.Body, r.ContentLength, maxHello)
	var said, self bus.Instance
	if err == nil {
		said, err = decodeHello(octets)
	}
	if err == nil {
		self, err = h.hello(c, said)
	}
	if err == nil {
		octets, err = encodeHello(self)
	}
	if err != nil {
		h.refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	_ = reply(w, octets) // one that is gone is noticed elsewhere
}

func (h *host) enter(peer string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.atWork[peer] >= h.Limits.MaxPerPeer {
		return false
	}
	h.atWork[peer]++
	return true
}

func (h *host) leave(peer string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.atWork[peer]--; h.atWork[peer] == 0 {
		delete(h.atWork, peer)
	}
}

func reply(w http.ResponseWriter, octets []byte) error {
	header := w.Header()
	header["Content-Type"] = []string{contentType}
	header["Content-Length"] = []string{fmt.Sprint(len(octets))}
	header["Date"] = nil
	_, err := w.Write(octets)
	return err
}

func (h *host) refuse(w http.ResponseWriter, status int, text string) string {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, strings.ToValidUTF8(text, "?")) // who is gone hears nothing
	if status == http.StatusServiceUnavailable {
		return outcomeNotSent
	}
	return outcomeRefused
}

var errTooLong = errors.New("longer than the limit")

// readBody reads all of a body, or says that it is longer than allowed.
func readBody(r io.Reader, announced, most int64) ([]byte, error) {
	if announced > most {
		return nil, errTooLong
	}
	// Memory is taken as octets come, not as they are announced.
	body := bytes.NewBuffer(make([]byte, 0, min(max(announced, 0)+bytes.MinRead, firstRead)))
	n, err := body.ReadFrom(io.LimitReader(r, most+1))
	switch {
	case err != nil:
		return nil, err
	case n > most:
		return nil, errTooLong
	case announced >= 0 && n < announced:
		return nil, io.ErrUnexpectedEOF
	}
	return body.Bytes(), nil
}

const firstRead = 64 << 10

// handover is the listener of a host: its connections come from add.
type handover struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *handover) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *handover) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *handover) Addr() net.Addr { return &net.TCPAddr{} }
