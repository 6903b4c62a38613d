package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/embedded"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/topic"
)

// setup makes a worker with an administrator in its table, whose password is "p". Of admin there is the check of passwords.
func setup(t *testing.T) *Worker {
	t.Helper()
	store, err := embedded.Open(embedded.Options{Dir: "data", FS: vfs.NewMem(), Topics: topic.Definitions()})
	if err != nil {
		t.Fatal(err)
	}
	b := bus.New(store, bus.Options{Log: slog.New(slog.DiscardHandler), Errors: fault.Codec{}})
	w := New(Config{Bus: b.As(topic.Rest), Log: slog.New(slog.DiscardHandler)})
	stop := topic.CheckPassword.Answer(b.As(topic.Admin), func(_ context.Context, l topic.Login) (topic.LoginResult, error) {
		return topic.LoginResult{Right: l.Password.RevealString() == "p"}, nil
	})
	if _, err := topic.Principals.Publish(t.Context(), b.As(topic.Admin), bus.Keyed[rbac.Principal]{Key: "admin", Value: rbac.Principal{
		User: rbac.User{LoginName: "admin", Enabled: true, HasPassword: true}, Permissions: []rbac.Permission{{ID: "1", Type: rbac.Allow, Pattern: ".*"}},
	}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- w.principals.Run(ctx, func() { close(ready) }) }()
	<-ready
	t.Cleanup(func() {
		cancel()
		stop()
		if err := errors.Join(<-ended, store.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func ask(w *Worker, method, path string, body io.Reader) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, body)
	r.SetBasicAuth("admin", "p")
	out := httptest.NewRecorder()
	w.serve(out, r)
	return out
}

func TestRequestsOverTheLimitAreSentAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if out := ask(w, "POST", "/api/v5_3/hello?addressee=x", nil); out.Code != http.StatusOK {
		t.Fatalf("got %d %s", out.Code, out.Body)
	}
	for range cap(w.uploading) {
		w.uploading <- struct{}{}
	}
	if out := ask(w, "POST", "/api/v5_3/cpi", strings.NewReader("x")); out.Code != http.StatusServiceUnavailable {
		t.Errorf("an upload too many: got %d %s", out.Code, out.Body)
	}
	for range cap(w.busy) {
		w.busy <- struct{}{}
	}
	out := ask(w, "POST", "/api/v5_3/hello?addressee=x", nil)
	if out.Code != http.StatusServiceUnavailable || out.Header().Get("Retry-After") == "" {
		t.Errorf("a request too many: got %d %v", out.Code, out.Header())
	}
	out = ask(w, "GET", "/api/v5_3/swagger.json", nil)
	if out.Code != http.StatusOK {
		t.Errorf("the description of the API: got %d", out.Code)
	}
}

func TestInternalErrorsSayNothing(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		errors.New("the password is p"):                               `{"title":"Internal server error.","status":500,"details":{}}`,
		fault.New(fault.Internal, "disk /data").With("path", "/data"): `{"title":"Internal server error.","status":500,"details":{}}`,
		fault.New(fault.NotFound, "a <b>").With("c", "d"):             `{"title":"a <b>","status":404,"details":{"c":"d"}}`,
		fmt.Errorf("x: %w", fault.New(fault.Deadline, "late")):        `{"title":"x: late","status":504,"details":{}}`,
	} {
		e, out := &event{}, httptest.NewRecorder()
		e.fail(out, err)
		if got := out.Body.String(); got != want || out.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%v: got %s, want %s", err, got, want)
		}
	}
}

func TestABrokenBodyIsNotAnsweredWithAddresses(t *testing.T) {
	t.Parallel()
	broken := &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 9, 8, 7), Port: 8888},
		Addr: &net.TCPAddr{IP: net.IPv4(10, 6, 5, 4), Port: 4711}, Err: os.ErrDeadlineExceeded}
	w := setup(t)
	for path, contentType := range map[string]string{"/api/v5_3/role": "application/json", "/api/v5_3/cpi": "multipart/form-data; boundary=b"} {
		r := httptest.NewRequest("POST", path, iotest.ErrReader(broken))
		r.Header.Set("Content-Type", contentType)
		r.SetBasicAuth("admin", "p")
		out := httptest.NewRecorder()
		w.serve(out, r)
		if body := out.Body.String(); out.Code != http.StatusBadRequest || strings.Contains(body, "10.") || !strings.Contains(body, "timeout") {
			t.Errorf("%s: got %d %s, want 400 with the reason and without addresses", path, out.Code, body)
		}
	}
}
