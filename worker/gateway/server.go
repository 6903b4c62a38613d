package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/p2p"
)

func (w *Worker) newServer(ctx context.Context) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler: http.HandlerFunc(w.serve), Protocols: protocols, BaseContext: func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: handshakeTime, ReadTimeout: bodyTime, WriteTimeout: bodyTime + deliverTime, IdleTimeout: serverIdle,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(w.Log.Handler(), slog.LevelDebug),
		DisableGeneralOptionsHandler: true, ConnState: w.opened.note,
	}
}

// opened has the connections on which no request has come yet. Shutdown would wait for one.
type opened struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func (o *opened) note(c net.Conn, state http.ConnState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if state == http.StateNew {
		if o.conns == nil {
			o.conns = make(map[net.Conn]struct{})
		}
		o.conns[c] = struct{}{}
		return
	}
	delete(o.conns, c)
}

// close closes them.
func (o *opened) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		_ = c.Close()
	}
}

// serve answers one request. net/http takes those of a connection one after the other, so pipelined ones are answered in
// order.
func (w *Worker) serve(out http.ResponseWriter, req *http.Request) {
	begun := time.Now()
	status, body := w.answer(req)
	h := out.Header()
	h.Set("Content-Type", jsonContent)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h["Date"] = nil
	if !w.NoBatch {
		h.Set(batchHeader, batchVersion)
	}
	if status == http.StatusOK && req.Header.Get("Content-Type") == batchContentType {
		h.Set("Content-Type", batchContentType)
	}
	if status != http.StatusOK {
		h.Set("Connection", "close")
	}
	out.WriteHeader(status)
	_, _ = out.Write(body)
	w.metrics.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	w.metrics.seconds.WithLabelValues("server").Observe(time.Since(begun).Seconds())
}

// answer makes the answer to a request: the checks of spec/p2p-wire.md 6.2, in their order.
func (w *Worker) answer(req *http.Request) (status int, body []byte) {
	if status := w.check(req); status != http.StatusOK {
		return status, nil
	}
	from, _ := netip.ParseAddrPort(req.RemoteAddr)
	memory := w.sources.memory(from.Addr().Unmap())
	defer memory.free()
	octets, err := readBody(req.Body, int(req.ContentLength), memory.grow)
	switch {
	case errors.Is(err, errMemory):
		w.metrics.refused.WithLabelValues("memory").Inc()
		return http.StatusServiceUnavailable, nil
	case err != nil:
		return http.StatusBadRequest, nil
	}
	if req.Header.Get("Content-Type") == batchContentType {
		return w.answerBatch(req.Context(), octets)
	}
	m, err := p2p.DecodeGatewayMessage(octets)
	if err != nil {
		return http.StatusBadRequest, nil
	}
	if _, err := w.deliver(req.Context(), topic.Delivery{Messages: []topic.LinkMessage{{Body: octets, Decoded: m}}}); err != nil {
		return http.StatusServiceUnavailable, nil
	}
	return http.StatusOK, (&p2p.GatewayResponse{ID: m.ID}).AppendBody(nil)
}

func (w *Worker) check(req *http.Request) int {
	switch {
	case req.URL.Path != w.Path && (req.URL.Path != "" || w.Path != "/"):
		return http.StatusNotFound
	case req.ProtoMajor != 1 || req.ProtoMinor != 1:
		return http.StatusHTTPVersionNotSupported
	case req.Method != http.MethodPost:
		return http.StatusNotImplemented
	case req.ContentLength < 0 || (req.ContentLength == 0 && req.Header.Get("Content-Length") == ""):
		return http.StatusLengthRequired
	case req.ContentLength > maxBody && !w.isBatch(req), req.ContentLength > maxBatch:
		return http.StatusRequestEntityTooLarge
	case !strings.EqualFold(req.Header.Get("Content-Type"), jsonContent) && !w.isBatch(req):
		return http.StatusUnsupportedMediaType
	}
	return http.StatusOK
}

func (w *Worker) isBatch(req *http.Request) bool {
	return !w.NoBatch && req.Header.Get("Content-Type") == batchContentType
}

// deliver hands messages to the link manager, and returns when what they brought is durable.
func (w *Worker) deliver(ctx context.Context, d topic.Delivery) (topic.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, deliverTime)
	defer cancel()
	receipt, err := topic.Deliver.Do(ctx, w.Bus, d)
	if err != nil && ctx.Err() == nil {
		w.Log.WarnContext(ctx, "the link manager has not taken messages", "error", err)
	}
	return receipt, err
}

const firstRead = 64 << 10

var errMemory = errors.New("the bodies of requests take too much memory")

// readBody reads a body of a stated length. Memory is taken as octets come, not as they are promised; grow says whether it
// may be.
func readBody(r io.Reader, length int, grow func(octets int) bool) ([]byte, error) {
	if !grow(min(length, firstRead)) {
		return nil, errMemory
	}
	body := make([]byte, 0, min(length, firstRead))
	for len(body) < length {
		if len(body) == cap(body) {
			size := min(length, 4*cap(body))
			if !grow(size) {
				return nil, errMemory
			}
			grown := make([]byte, len(body), size)
			copy(grown, body)
			body = grown
		}
		n, err := io.ReadFull(r, body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err != nil && !(errors.Is(err, io.EOF) && len(body) == length) {
			return nil, err
		}
	}
	return body, nil
}
