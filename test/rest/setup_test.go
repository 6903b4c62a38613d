// Package rest_test drives the REST API of whole workers: admin, crypto and membership are the real ones, on the embedded
// bus; flow is a stand-in that keeps its flows in memory.
package rest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/embedded"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/internal/run"
	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/worker/admin"
	"github.com/hawser-project/hawser/worker/crypto"
	"github.com/hawser-project/hawser/worker/membership"
	"github.com/hawser-project/hawser/worker/rest"
)

const (
	adminPassword = "the first password"
	base          = "/api/v5_3"
)

// cluster is a running cluster with its REST address.
type cluster struct {
	t       testing.TB
	bus     *bus.Bus
	url     string
	client  *http.Client
	log     *syncBuffer
	metrics *prometheus.Registry
	flows   *flows
	dir     string
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start runs a cluster until the test ends.
func start(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, log: &syncBuffer{}, metrics: prometheus.NewRegistry(), dir: t.TempDir()}
	log := slog.New(slog.NewJSONHandler(c.log, nil))
	store, err := embedded.Open(embedded.Options{Dir: "data", FS: vfs.NewMem(), Topics: topic.Definitions()})
	if err != nil {
		t.Fatal(err)
	}
	c.bus = bus.New(store, bus.Options{Log: log, Errors: fault.Codec{}})
	c.flows = &flows{bus: c.bus.As(topic.Flow), all: make(map[string]flow.Status)}
	bound := make(chan net.Addr, 1)
	services := []run.Named{
		{Name: "crypto", Service: crypto.New(crypto.Config{Bus: c.bus.As(topic.Crypto), Log: log, Passphrase: secret.FromString("passphrase"), Salt: "salt of this test"})},
		{Name: "admin", Service: admin.New(admin.Config{Bus: c.bus.As(topic.Admin), Log: log, FirstPassword: secret.FromString(adminPassword)})},
		{Name: "membership", Service: membership.New(membership.Config{Bus: c.bus.As(topic.Membership), Log: log})},
		{Name: "flow", Service: c.flows},
		{Name: "rest", Service: rest.New(rest.Config{
			Bus: c.bus.As(topic.Rest), Log: log, Metrics: c.metrics, Address: "127.0.0.1:0", Dir: filepath.Join(c.dir, "rest"), Bound: func(a net.Addr) { bound <- a },
		})},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- (&run.Group{}).Run(ctx, 10*time.Second, func() { close(ready) }, services...) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	c.url = "https://" + (<-bound).String()
	c.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 64}}
	t.Cleanup(func() {
		c.client.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the cluster ended with %v", err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// reply is what came back.
type reply struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   string
}

// as is a client with credentials.
type as struct {
	*cluster
	login, password string
}

func (c *cluster) admin() as { return as{c, "admin", adminPassword} }

func (a as) send(method, path, contentType string, body io.Reader) reply {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if a.login != "" {
		req.SetBasicAuth(a.login, a.password)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	octets, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return reply{a.t, method + " " + path, resp.StatusCode, resp.Header, string(octets)}
}

func (a as) get(path string) reply { a.t.Helper(); return a.send("GET", path, "", nil) }
func (a as) post(path, body string) reply {
	a.t.Helper()
	return a.send("POST", path, "application/x-www-form-urlencoded", strings.NewReader(body))
}
func (a as) put(path, body string) reply {
	a.t.Helper()
	return a.send("PUT", path, "text/plain", strings.NewReader(body))
}
func (a as) delete(path string) reply { a.t.Helper(); return a.send("DELETE", path, "", nil) }

// file is one part of a multipart form; without a file name it is a field.
type file struct{ field, name, content string }

func (a as) upload(method, path string, files ...file) reply {
	a.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, f := range files {
		part, err := w.CreateFormField(f.field)
		if f.name != "" {
			part, err = w.CreateFormFile(f.field, f.name)
		}
		if err != nil {
			a.t.Fatal(err)
		}
		_, _ = io.WriteString(part, f.content)
	}
	_ = w.Close()
	return a.send(method, path, w.FormDataContentType(), &body)
}

// want checks the status, and that each part is in the body.
func (r reply) want(status int, parts ...string) reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("%s: got %d %s, want %d", r.what, r.status, r.body, status)
	}
	for _, p := range parts {
		if !strings.Contains(r.body, p) {
			r.t.Fatalf("%s: got %s, want %q in it", r.what, r.body, p)
		}
	}
	return r
}

// field returns a value of a JSON answer by its path.
func (r reply) field(path ...string) string {
	r.t.Helper()
	var v any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		r.t.Fatalf("%s: %v in %s", r.what, err, r.body)
	}
	for _, p := range path {
		switch at := v.(type) {
		case map[string]any:
			v = at[p]
		case []any:
			v = at[0]
		}
	}
	s, ok := v.(string)
	if !ok {
		r.t.Fatalf("%s: %v is %v in %s", r.what, path, v, r.body)
	}
	return s
}

// user makes a user with a role of the given permissions, each "ALLOW pattern" or "DENY pattern".
func (c *cluster) user(login string, permissions ...string) (as, string) {
	c.t.Helper()
	a := c.admin()
	const password = "a password"
	a.post(base+"/user", `{"fullName":"Some One","loginName":"`+login+`","enabled":true,"initialPassword":"`+password+`"}`).want(201)
	role := a.post(base+"/role", `{"roleName":"role of `+login+`"}`).want(201).field("id")
	for _, p := range permissions {
		kind, pattern, _ := strings.Cut(p, " ")
		body, _ := json.Marshal(map[string]string{"permissionType": kind, "permissionString": pattern})
		id := a.post(base+"/permission", string(body)).want(201).field("id")
		a.put(base+"/role/"+role+"/permission/"+id, "").want(200)
	}
	a.put(base+"/user/"+login+"/role/"+role, "").want(200)
	return as{c, login, password}, role
}

// flows is the stand-in for the flow worker.
type flows struct {
	bus *bus.Client
	mu  sync.Mutex
	all map[string]flow.Status
	// arguments are those of the last start.
	arguments string
	// inactive has starts refused as the worker does it for a node that takes none.
	inactive bool
	// unlucky says that the check of a module of that content has failed once.
	unlucky atomic.Bool
}

func (f *flows) Run(ctx context.Context, ready func()) error {
	consumer := f.bus.Consumer()
	topic.StartFlow.Handle(consumer, f.start)
	for _, stop := range []func(){
		topic.FlowStatus.Answer(f.bus, f.find),
		topic.Flows.Answer(f.bus, f.list),
		topic.FlowClasses.Answer(f.bus, func(context.Context, string) ([]string, error) { return []string{"demo.Ping"}, nil }),
		topic.CheckModule.Answer(f.bus, func(_ context.Context, m topic.ModuleCheck) ([]byte, error) {
			if bytes.Contains(m.WASM, []byte("bad")) {
				return nil, fault.New(fault.Invalid, "module %s imports what is not offered", m.Name)
			}
			if bytes.Contains(m.WASM, []byte("unlucky")) && !f.unlucky.Swap(true) {
				return nil, errors.New("no space left on /srv/hawser")
			}
			return []byte(`{"flows":[]}`), nil
		}),
	} {
		defer stop()
	}
	return consumer.Run(ctx, ready)
}

func (f *flows) start(_ context.Context, tx *bus.Tx, key string, req flow.Start) (flow.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inactive {
		return flow.Status{}, fault.New(fault.Conflict, "not operational").With(flow.ReasonDetail, flow.ReasonInactive)
	}
	id := req.Holder + "/" + req.ClientRequestID
	if s, exists := f.all[id]; exists {
		return s, fault.New(fault.Conflict, "started already").With("flowStatus", string(s.State)).With("flowId", s.FlowID)
	}
	s := flow.Status{Holder: req.Holder, ClientRequestID: req.ClientRequestID, State: flow.StartRequested, UpdatedAt: tx.Now().UnixMilli(), Class: req.Class, FlowID: key}
	f.all[id], f.arguments = s, string(req.Arguments)
	return s, nil
}

func (f *flows) find(_ context.Context, ref topic.FlowRef) (flow.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, found := f.all[ref.Holder+"/"+ref.ClientRequestID]
	if !found {
		return s, fault.New(fault.NotFound, "no such flow")
	}
	return s, nil
}

func (f *flows) list(_ context.Context, filter topic.FlowFilter) (list []flow.Status, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.all {
		if s.Holder == filter.Holder && (filter.State == "" || s.State == filter.State) {
			list = append(list, s)
		}
	}
	return list, nil
}

// refuseStarts has starts refused, or no longer.
func (f *flows) refuseStarts(refuse bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inactive = refuse
}

// end ends a flow.
func (f *flows) end(holder, id, result string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.all[holder+"/"+id]
	s.State, s.Result = flow.Completed, []byte(result)
	f.all[holder+"/"+id] = s
}
