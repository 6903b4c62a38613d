package call_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/call"
	"github.com/hawser-project/hawser/internal/pki"
)

var ask = bus.Request{What: "call", Name: "thing.get", Asker: "alpha", Body: []byte("question")}

// kind returns what an error says of itself to cluster/fault.
func kind(err error) string {
	var k interface{ FaultKind() string }
	if errors.As(err, &k) {
		return k.FaultKind()
	}
	return ""
}

// fails checks an error: its kind, whether the request was certainly not taken up, and a part of its text.
func fails(t *testing.T, err error, wantKind string, notSent bool, text string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	if kind(err) != wantKind || errors.Is(err, bus.ErrNotSent) != notSent || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v: kind %q, not sent %v; want kind %q, not sent %v, %q in it", err, kind(err), errors.Is(err, bus.ErrNotSent), wantKind, notSent, text)
	}
}

func TestARequestIsCarriedWhole(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	want := bus.Request{What: "command", Name: "n", Asker: "alpha", Role: "beta", Partition: 3, Key: "\x00\xff", ID: "i", Instance: 9, Body: []byte("b")}
	answer := bus.Answer{Body: []byte("a"), Err: []byte{}, NotHere: true, Commit: bus.Commit{Stamps: []bus.Sent{{Topic: "t", Stamp: bus.Stamp{Source: "s", Epoch: 1, Sequence: 2}}}}}
	type seen struct {
		peer pki.Identity
		r    bus.Request
	}
	got := make(chan seen, 1)
	registry := prometheus.NewRegistry()
	at, _ := serve(t, call.Serving{TLS: c.process("b-1", "beta"), Metrics: call.NewMetrics(registry), Serve: func(_ context.Context, peer pki.Identity, r bus.Request) bus.Answer {
		got <- seen{peer, r}
		return answer
	}})
	a, err := newClient(t, c.process("a-1", "alpha")).Send(t.Context(), at, want)
	if err != nil || !reflect.DeepEqual(a, answer) {
		t.Fatalf("answered %+v, %v, want %+v", a, err, answer)
	}
	s := <-got
	if !reflect.DeepEqual(s.r, want) || s.peer.Instance != "a-1" || s.peer.Cluster != "london" || !s.peer.Has("alpha") {
		t.Errorf("served %+v", s)
	}
	until(t, "the request is counted", func() bool {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		counted := 0.0
		for _, f := range families {
			for _, m := range f.GetMetric() {
				counted += m.GetCounter().GetValue()
			}
		}
		return counted == 1
	})
}

func TestABigRequestAndAnswerAreCarried(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	at, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: echo})
	r := ask
	r.Body = bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	a, err := newClient(t, c.process("a", "alpha")).Send(t.Context(), at, r)
	if err != nil || !bytes.Equal(a.Body, r.Body) {
		t.Errorf("%d octets came back, %v", len(a.Body), err)
	}
}

func TestStrangersAreNotLetIn(t *testing.T) {
	t.Parallel()
	london := newCluster(t, "london")
	var log logged
	at, _ := serve(t, call.Serving{TLS: london.process("b", "beta"), Serve: echo, Log: log.log()})
	for name, other := range map[string]cluster{"another cluster": newCluster(t, "paris"), "another authority": newCluster(t, "london")} {
		_, err := newClient(t, other.process("a", "alpha")).Send(t.Context(), at, ask)
		fails(t, err, "unavailable", true, "unknown authority")
		// The other way about: who asks trusts nobody either.
		theirs, _ := serve(t, call.Serving{TLS: other.process("b", "beta"), Serve: func(context.Context, pki.Identity, bus.Request) bus.Answer {
			t.Errorf("%s: a request got through", name)
			return bus.Answer{}
		}})
		_, err = newClient(t, london.process("a", "alpha")).Send(t.Context(), theirs, ask)
		fails(t, err, "unavailable", true, "unknown authority")
	}
	// Clients that take any server, one of which has a certificate of our authority that has ended.
	old, strange := t.TempDir(), t.TempDir()
	newCluster(t, "london").issue(strange, "a", "alpha")
	if _, err := london.ca.Issue(pki.Order{Roles: []string{"alpha"}, Known: known, Instance: "old", Validity: time.Nanosecond}, old); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{old, strange} {
		cert, err := tls.LoadX509KeyPair(dir+"/"+pki.CertFile, dir+"/"+pki.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := tls.Dial("tcp", at.Address, &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err == nil {
			_, err = raw.Read(make([]byte, 1))
			_ = raw.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "bad certificate") && !strings.Contains(err.Error(), "expired certificate") {
			t.Errorf("got %v", err)
		}
	}
	until(t, "the log says so", func() bool { return log.has("has expired") && log.has("unknown authority") })
}

func TestOnlyWhoHasARoleAsksInItsName(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	at, _ := serve(t, call.Serving{
		TLS: c.process("b", "beta"), Serve: echo, MaySpeakFor: map[bus.Role][]bus.Role{"through": {"behind"}},
	})
	alpha, through := newClient(t, c.process("a", "alpha")), newClient(t, c.process("t", "through"))
	for asker, want := range map[bus.Role]string{"alpha": "", "beta": "may not ask in the name of", "behind": "may not ask", "": "may not ask", "through": "may not"} {
		r := ask
		r.Asker = asker
		if _, err := alpha.Send(t.Context(), at, r); want == "" && err != nil {
			t.Errorf("%q: %v", asker, err)
		} else if want != "" {
			fails(t, err, "forbidden", true, want)
		}
	}
	r := ask
	r.Asker = "behind"
	if _, err := through.Send(t.Context(), at, r); err != nil {
		t.Errorf("who relays: %v", err)
	}
}

func TestOnlyAWorkerOfTheRoleAnswers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	refuse := func(context.Context, pki.Identity, bus.Request) bus.Answer {
		t.Error("a request got through")
		return bus.Answer{}
	}
	client := newClient(t, c.process("a", "alpha"))
	beta, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: refuse})
	r := ask
	r.What, r.Role = "command", "through"
	_, err := client.Send(t.Context(), beta, r)
	fails(t, err, "forbidden", true, `may not answer for role "through"`)
	worker, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: echo})
	r.What, r.Asker = "operator", pki.Operator // any worker hands it on
	if _, err := newClient(t, c.process("o", pki.Operator)).Send(t.Context(), worker, r); err != nil {
		t.Errorf("an operator's request: %v", err)
	}
	person, _ := serve(t, call.Serving{TLS: c.process("p", pki.Operator), Serve: refuse})
	_, err = client.Send(t.Context(), person, ask)
	fails(t, err, "forbidden", true, "may not answer")
}

func TestTheDeadlineTravels(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	deadlines := make(chan time.Duration, 2)
	at, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: func(ctx context.Context, _ pki.Identity, _ bus.Request) bus.Answer {
		left := time.Duration(-1)
		if d, ok := ctx.Deadline(); ok {
			left = time.Until(d)
		}
		deadlines <- left
		return bus.Answer{}
	}})
	client := newClient(t, c.process("a", "alpha"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := client.Send(ctx, at, ask); err != nil {
		t.Fatal(err)
	}
	if left := <-deadlines; left < 30*time.Second || left > time.Minute {
		t.Errorf("the handler has %s, want about a minute", left)
	}
	if _, err := client.Send(t.Context(), at, ask); err != nil {
		t.Fatal(err)
	}
	if left := <-deadlines; left != -1 {
		t.Errorf("the handler has %s, want no limit", left)
	}
}

// TestAHandlerEndsWithTheDeadlineAlsoWhereTheAskerWaits has an asker that announces 50 ms and then does not go away.
func TestAHandlerEndsWithTheDeadlineAlsoWhereTheAskerWaits(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	w := newWaiting()
	at, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: w.serve})
	bare := &http.Transport{TLSClientConfig: c.process("a", "alpha").Client("h2"), ForceAttemptHTTP2: true}
	t.Cleanup(bare.CloseIdleConnections)
	body := "\xa3\x02\x61n\x03\x65alpha\x09\x18\x32" // {2: "n", 3: "alpha", 9: 50}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+at.Address+"/v1/request", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := bare.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if ctx := get(t, "the handler's end", w.ended); resp.StatusCode != http.StatusOK || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("answered with %d; the handler's context ended with %v", resp.StatusCode, ctx.Err())
	}
}

func TestACancelledAskerEndsTheHandler(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	w := newWaiting()
	at, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: w.serve})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	client := newClient(t, c.process("a", "alpha"))
	go func() {
		_, err := client.Send(ctx, at, ask)
		failed <- err
	}()
	get(t, "the handler's begin", w.began)
	cancel()
	get(t, "the handler's end", w.ended)
	err := get(t, "the error", failed)
	fails(t, err, "unavailable", false, "canceled")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not say that it was cancelled", err)
	}
}

// killable is a way through which connections go, and can be cut.
type killable struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func between(t *testing.T, to string) *killable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &killable{Listener: l}
	t.Cleanup(k.kill)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			k.mu.Lock()
			k.conns = append(k.conns, in, out)
			k.mu.Unlock()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		}
	}()
	return k
}

// kill is what the other side sees of a kill -9.
func (k *killable) kill() {
	_ = k.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		_ = c.Close()
	}
}

func TestAServerThatIsKilledMayHaveTakenUpTheRequest(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	w := newWaiting()
	at, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: w.serve})
	way := between(t, at.Address)
	to := bus.Instance{Address: way.Addr().String()}
	client := newClient(t, c.process("a", "alpha"))
	failed := make(chan error, 1)
	go func() {
		_, err := client.Send(t.Context(), to, ask)
		failed <- err
	}()
	get(t, "the handler's begin", w.began)
	way.kill()
	fails(t, get(t, "the error", failed), "unavailable", false, "")
	get(t, "the handler's end", w.ended)
	until(t, "the client notices that nobody listens any more", func() bool {
		_, err := client.Send(t.Context(), to, ask)
		return errors.Is(err, bus.ErrNotSent) && strings.Contains(err.Error(), "refused")
	})
}

func TestWhereNobodyListensNothingWasSent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := bus.Instance{Name: "gone", Address: l.Addr().String()}
	_ = l.Close()
	client := newClient(t, newCluster(t, "london").process("a", "alpha"))
	_, err = client.Send(t.Context(), to, ask)
	fails(t, err, "unavailable", true, "connection refused")
	began := time.Now()
	_, err = client.Send(t.Context(), to, ask) // at once: nobody tries again yet
	fails(t, err, "unavailable", true, "connection refused")
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s to say so again", took)
	}
}

func TestAServerThatComesBackIsFoundAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	serving := call.Serving{TLS: c.process("b", "beta"), Serve: echo}
	at, stop := serve(t, serving)
	client := newClient(t, c.process("a", "alpha"))
	if _, err := client.Send(t.Context(), at, ask); err != nil {
		t.Fatal(err)
	}
	stop()
	until(t, "it is gone", func() bool {
		_, err := client.Send(t.Context(), at, ask)
		return errors.Is(err, bus.ErrNotSent)
	})
	serveAt(t, at.Address, serving)
	until(t, "it is there again", func() bool {
		_, err := client.Send(t.Context(), at, ask)
		return err == nil
	})
}

func TestAServerThatStopsFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	began, release := make(chan struct{}), make(chan struct{})
	at, stop := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: func(_ context.Context, _ pki.Identity, r bus.Request) bus.Answer {
		close(began)
		<-release
		return bus.Answer{Body: r.Body}
	}})
	client := newClient(t, c.process("a", "alpha"))
	failed := make(chan error, 1)
	go func() {
		_, err := client.Send(t.Context(), at, ask)
		failed <- err
	}()
	get(t, "the handler's begin", began)
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	until(t, "nothing more is taken up", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := client.Send(ctx, at, ask)
		return errors.Is(err, bus.ErrNotSent)
	})
	close(release)
	if err := get(t, "the answer", failed); err != nil {
		t.Errorf("what was in flight: %v", err)
	}
	get(t, "the end", stopped)
}

func TestNewCertificateFilesAreUsedAtTheNextHandshake(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	dir := t.TempDir()
	c.issue(dir, "first", "beta")
	at, _ := serve(t, call.Serving{TLS: load(t, dir), Serve: echo})
	ours := c.process("a", "alpha")
	shown := func() string {
		raw, err := tls.Dial("tcp", at.Address, ours.Client("h2"))
		if err != nil {
			t.Error(err)
			return ""
		}
		defer func() { _ = raw.Close() }()
		id, err := pki.FromCertificate(raw.ConnectionState().PeerCertificates[0])
		if err != nil {
			t.Error(err)
		}
		return id.Instance
	}
	if got := shown(); got != "first" {
		t.Fatalf("shows %s", got)
	}
	c.issue(dir, "second", "beta")
	until(t, "the new one is shown", func() bool { return shown() == "second" })
}

func TestWhatIsTooBigIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	ours := c.process("a", "alpha")
	big := ask
	big.Body = make([]byte, 1<<20)
	small, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Limits: call.Limits{MaxBody: 1000}, Serve: func(_ context.Context, _ pki.Identity, r bus.Request) bus.Answer {
		return bus.Answer{Body: make([]byte, 2000)}
	}})
	client := newClient(t, ours)
	_, err := client.Send(t.Context(), small, big)
	fails(t, err, "too large", true, "longer than 1000 octets")
	_, err = client.Send(t.Context(), small, ask)
	fails(t, err, "internal", false, "octets, more than 1000") // the answer
	strict := call.NewClient(call.ClientConfig{TLS: ours, Limits: call.Limits{MaxBody: 1000}})
	start(t, strict)
	_, err = strict.Send(t.Context(), small, big)
	fails(t, err, "too large", true, "more than 1000, the limit")
	wide, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: func(context.Context, pki.Identity, bus.Request) bus.Answer {
		return bus.Answer{Body: make([]byte, 2000)}
	}})
	_, err = strict.Send(t.Context(), wide, ask)
	fails(t, err, "too large", false, "the answer is longer than 1000")
}

func TestAPanicEndsTheRequestAndNotTheConnection(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	var log logged
	w := newWaiting()
	at, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Log: log.log(), Serve: func(ctx context.Context, p pki.Identity, r bus.Request) bus.Answer {
		if r.Name == "panic" {
			panic("as asked")
		}
		return w.serve(ctx, p, r)
	}})
	client := newClient(t, c.process("a", "alpha"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := client.Send(ctx, at, ask)
		failed <- err
	}()
	get(t, "the other request", w.began)
	r := ask
	r.Name = "panic"
	_, err := client.Send(t.Context(), at, r)
	fails(t, err, "internal", false, "the handler of panic panicked")
	if !log.has("as asked") || !log.has("call_test.go") {
		t.Error("the log does not have the panic and its stack")
	}
	select {
	case err := <-failed:
		t.Errorf("the other request on the connection ended: %v", err)
	default:
	}
}

func TestAPeerHasOnlySoManyRequestsAtATime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	w := newWaiting()
	at, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: w.serve, Limits: call.Limits{MaxPerPeer: 1}})
	first, second := newClient(t, c.process("a-1", "alpha")), newClient(t, c.process("a-2", "alpha"))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { _, _ = first.Send(ctx, at, ask) })
	get(t, "the first", w.began)
	_, err := first.Send(ctx, at, ask)
	fails(t, err, "unavailable", true, "1 requests of a-1 are being answered already")
	all.Go(func() { _, _ = second.Send(ctx, at, ask) })
	get(t, "another peer's", w.began)
}

func TestMoreRequestsThanAConnectionTakesGoOverMore(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	const n = 1500
	all, release := make(chan struct{}, n), make(chan struct{})
	at, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: func(context.Context, pki.Identity, bus.Request) bus.Answer {
		all <- struct{}{}
		<-release
		return bus.Answer{}
	}})
	client := newClient(t, c.process("a", "alpha"))
	failed := make(chan error, n)
	for range n {
		go func() {
			_, err := client.Send(t.Context(), at, ask)
			failed <- err
		}()
	}
	for range n {
		get(t, "all at once", all)
	}
	close(release)
	for range n {
		if err := get(t, "the answers", failed); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOddRequestsAreAnsweredWithWhatIsWrong(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	at, _ := serve(t, call.Serving{TLS: c.process("b", "beta"), Serve: echo})
	t1 := &http.Transport{TLSClientConfig: c.process("a", "alpha").Client("h2"), ForceAttemptHTTP2: true}
	t.Cleanup(t1.CloseIdleConnections)
	for _, x := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/v1/request", "", 404}, {"POST", "/v2/request", "", 404}, {"POST", "/v1/hello", "", 404}, {"POST", "/v1/request", "no CBOR", 400}, {"POST", "/v1/request", "\xa0", 403},
	} {
		req, err := http.NewRequestWithContext(t.Context(), x.method, "https://"+at.Address+x.path, strings.NewReader(x.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := t1.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != x.status || resp.ProtoMajor != 2 || len(text) == 0 {
			t.Errorf("%+v: got %d, %s, %q", x, resp.StatusCode, resp.Proto, text)
		}
	}
	old := &http.Transport{TLSClientConfig: c.process("a", "alpha").Client("http/1.1")}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://"+at.Address, nil)
	if resp, err := old.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		t.Error("HTTP/1.1 is answered")
	}
}

// frame is a frame of HTTP/2 with an empty or given payload (RFC 9113, 4.1).
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	head = append(head, flags)
	return append(binary.BigEndian.AppendUint32(head, stream), payload...)
}

// handMade starts a server that lets clients in, answers every request with some octets, and nothing else: no pings.
func handMade(t *testing.T, l *pki.Loader, answer func(stream uint32) []byte) bus.Instance {
	t.Helper()
	const headers, settings = 1, 4
	listener, err := tls.Listen("tcp", "127.0.0.1:0", l.Server("h2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	talk := func(conn net.Conn) {
		defer func() { _ = conn.Close() }()
		_, _ = io.CopyN(io.Discard, conn, 24) // the preface
		_, _ = conn.Write(frame(settings, 0, 0, nil))
		head := make([]byte, 9)
		for {
			if _, err := io.ReadFull(conn, head); err != nil {
				return
			}
			_, _ = io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head)>>8))
			if head[3] == headers {
				_, _ = conn.Write(answer(binary.BigEndian.Uint32(head[5:])))
			}
		}
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go talk(conn)
		}
	}()
	return bus.Instance{Address: listener.Addr().String()}
}

// TestAPeerThatFallsSilentIsNoticedInSeconds has a host that is gone without a word: nothing is closed, nothing comes.
func TestAPeerThatFallsSilentIsNoticedInSeconds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	at := handMade(t, c.process("b", "beta"), func(uint32) []byte { return nil })
	began := time.Now()
	_, err := newClient(t, c.process("a", "alpha")).Send(t.Context(), at, ask)
	fails(t, err, "unavailable", false, "connection lost")
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestWhatAServerSaysNotToHaveLookedAtWasNotSent pins the texts and forms of errors of net/http that isRefusal knows: a
// hand-made server answers the first HEADERS with GOAWAY or RST_STREAM, on every connection.
func TestWhatAServerSaysNotToHaveLookedAtWasNotSent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "london")
	const rst, goAway = 3, 7
	code := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	for name, x := range map[string]struct {
		answer  func(stream uint32) []byte
		notSent bool
	}{
		"GOAWAY before the stream": {func(uint32) []byte { return frame(goAway, 0, 0, append(code(0), code(0)...)) }, true},
		"REFUSED_STREAM":           {func(n uint32) []byte { return frame(rst, 0, n, code(7)) }, true},
		"INTERNAL_ERROR":           {func(n uint32) []byte { return frame(rst, 0, n, code(2)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := handMade(t, c.process("b", "beta"), x.answer)
			_, err := newClient(t, c.process("a", "alpha")).Send(t.Context(), at, ask)
			fails(t, err, "unavailable", x.notSent, "")
		})
	}
}
