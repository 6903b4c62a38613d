package rest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/topic"
)

// event is what is known of one request. It is filled in as work goes on, and written to the log once, at the end; for a
// change or a refusal it is the audit record.
type event struct {
	id                 string
	began              time.Time
	method, path       string
	operation          string // METHOD and path template
	login, loginAsSent string
	source             string
	decision           string // of authorisation, with its reason
	status             int
	err                error
	warnings           []string
}

type eventKey struct{}

func eventOf(ctx context.Context) *event { return ctx.Value(eventKey{}).(*event) } //nolint:forcetypeassert // serve puts it there

// actor is who asks, for the audit of admin.
func actor(ctx context.Context) topic.Actor { return topic.Actor{Login: eventOf(ctx).login} }

// commandID names the command of a request.
func commandID(ctx context.Context) string { return eventOf(ctx).id }

// warn adds a Warning header.
func (e *event) warn(text string) { e.warnings = append(e.warnings, text) }

// LogValue is the audit record.
func (e *event) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("id", e.id), slog.String("who", e.login), slog.String("source", e.source), slog.String("what", e.method+":"+e.path),
		slog.String("operation", e.operation), slog.String("decision", e.decision), slog.Int("status", e.status),
		slog.Duration("took", time.Since(e.began)),
	}
	if e.err != nil {
		attrs = append(attrs, slog.String("error", e.err.Error()))
	}
	return slog.GroupValue(attrs...)
}

// serve answers one request.
func (w *Worker) serve(out http.ResponseWriter, r *http.Request) {
	e := &event{id: uuid.NewString(), began: time.Now(), method: r.Method, path: r.URL.EscapedPath(), operation: "none", source: sourceOf(r)}
	control := http.NewResponseController(out)
	_ = control.SetWriteDeadline(time.Time{}) // of the answer before on this connection
	if r.ContentLength != 0 {
		_ = control.SetReadDeadline(e.began.Add(firstOctets))
	}
	w.dispatch(out, r, e, control)
	w.metrics.answered(e, time.Since(e.began).Seconds())
	w.logEvent(r.Context(), e)
}

func (w *Worker) logEvent(ctx context.Context, e *event) {
	level := slog.LevelInfo
	switch {
	case e.status >= http.StatusInternalServerError && e.status != http.StatusNotImplemented:
		level = slog.LevelWarn
	case e.method == http.MethodGet && e.status < http.StatusBadRequest:
		level = slog.LevelDebug
	}
	if w.Log.Enabled(ctx, level) {
		w.Log.LogAttrs(ctx, level, "request", slog.Any("audit", e))
	}
}

// dispatch finds the route, and runs it if there is room.
func (w *Worker) dispatch(out http.ResponseWriter, r *http.Request, e *event, control *http.ResponseController) {
	segments, ok := splitPath(e.path)
	if ok && w.public(out, r, e, segments) {
		return
	}
	m, found := match{}, false
	if ok {
		m, found = w.router.find(r.Method, segments)
	}
	if !found {
		e.fail(out, failure(http.StatusNotFound, "Not Found", "url", "https://"+r.Host+r.URL.RequestURI()))
		return
	}
	e.operation = m.route.name
	leave, ok := enter(w.busy)
	if !ok {
		e.fail(out, fault.New(fault.Unavailable, "%d requests are under way already; try again", cap(w.busy)))
		return
	}
	w.metrics.busy.Inc()
	defer func() {
		w.metrics.busy.Dec()
		leave()
	}()
	result, err := w.run(out, r, e, m, control)
	if err != nil {
		e.fail(out, err)
		return
	}
	e.answer(out, m.route, result)
}

// enter takes a place without waiting.
func enter(places chan struct{}) (leave func(), ok bool) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, true
	default:
		return nil, false
	}
}

// run does what is done once for every operation, in this order.
func (w *Worker) run(out http.ResponseWriter, r *http.Request, e *event, m match, control *http.ResponseController) (any, error) {
	limit, budget := int64(maxJSON), requestTime
	if m.route.stream {
		limit, budget = maxUpload, longest(maxUpload)
	}
	if r.Method != http.MethodGet && r.ContentLength > limit {
		return nil, tooLarge(r.ContentLength, limit)
	}
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), eventKey{}, e), budget)
	defer cancel()
	principal, logOn, err := w.authenticate(ctx, r, e)
	if err != nil {
		return nil, err
	}
	if err := w.authorise(ctx, principal, logOn, m.route, r, e); err != nil {
		return nil, err
	}
	if m.route.unserved {
		return nil, notServed(m.route)
	}
	if m.route.stream {
		leave, ok := enter(w.uploading)
		if !ok {
			return nil, fault.New(fault.Unavailable, "%d uploads are under way already; try again", cap(w.uploading))
		}
		defer leave()
	}
	body := &pace{from: http.MaxBytesReader(out, r.Body, limit), control: control, began: time.Now()}
	return m.route.call(ctx, &request{match: m, http: r, body: body})
}

func notServed(s *route) error {
	return failure(http.StatusNotImplemented, fmt.Sprintf("The operation %s (%s) is not in this release.", s.operation, s.name), "operation", s.operation)
}

// Rates of bodies. A body that comes in slower is cut off, so that slow clients can't hold places for ever.
const (
	firstOctets = 20 * time.Second
	slowest     = 16 << 10 // octets a second
	deadlineLag = 256 << 10
)

// longest is how long a body of the size may take, and its handling after it.
func longest(size int64) time.Duration {
	return firstOctets + time.Duration(size/slowest)*time.Second + requestTime
}

// pace reads a body that must come in at a minimum rate.
type pace struct {
	from        io.Reader
	control     *http.ResponseController
	began       time.Time
	read, moved int64
	ended       bool
}

func (p *pace) Read(b []byte) (int, error) {
	if p.read-p.moved >= deadlineLag {
		p.moved = p.read
		_ = p.control.SetReadDeadline(p.began.Add(firstOctets + time.Duration(p.read/slowest)*time.Second))
	}
	n, err := p.from.Read(b)
	p.read += int64(n)
	if err != nil {
		p.finish()
	}
	return n, err
}

// finish takes the deadline away once there is nothing left to read: net/http then watches the connection, and would take
// the deadline for its end. A body that the handler does not read keeps it.
func (p *pace) finish() {
	if !p.ended {
		p.ended = true
		_ = p.control.SetReadDeadline(time.Time{})
	}
}

// platformVersion is the one of Corda 5.3.
const platformVersion = "50300"

// public answers what needs no log-on: the API's description and the deprecated protocol version (spec 1.1).
func (w *Worker) public(out http.ResponseWriter, r *http.Request, e *event, segments []string) bool {
	if r.Method != http.MethodGet || len(segments) < 3 || !strings.EqualFold(segments[0], "api") {
		return false
	}
	name := strings.ToLower(segments[1])
	v := versionNames[name]
	switch {
	case len(segments) == 3 && strings.EqualFold(segments[2], "swagger.json") && v != 0:
		e.operation, e.status = "GET /swagger.json", http.StatusOK
		e.write(out, w.swagger[name])
		return true
	case len(segments) == 4 && strings.EqualFold(segments[3], "getprotocolversion") && v != 0 && v < v5_3 && w.router.nouns[strings.ToLower(segments[2])]:
		e.operation, e.status = "GET /getprotocolversion", http.StatusOK
		e.warn(`299 - Method "getProtocolVersion" is deprecated.`)
		e.write(out, []byte(platformVersion))
		return true
	}
	return false
}
