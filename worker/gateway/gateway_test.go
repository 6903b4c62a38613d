package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/embedded"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/p2p"
)

// setup is a gateway with a certificate for 127.0.0.1 and *.example.com, and in place of link manager and crypto what a
// test wants them to do.
type setup struct {
	t       testing.TB
	bus     *bus.Bus
	gateway *Worker
	addr    string
	root    *x509.Certificate
	key     *ecdsa.PrivateKey
	signed  atomic.Int64

	mu        sync.Mutex
	delivered []topic.LinkMessage
	refuse    error
	acks      [][]byte
}

func newSetup(t testing.TB, change ...func(*Config)) *setup {
	t.Helper()
	store, err := embedded.Open(embedded.Options{Dir: "store", FS: vfs.NewMem(), Topics: topic.Definitions()})
	must(t, err)
	log := slog.New(slog.DiscardHandler)
	s := &setup{t: t, bus: bus.New(store, bus.Options{Log: log, Errors: fault.Codec{}})}
	s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	topic.SignTLS.Answer(s.bus.As(topic.Crypto), func(_ context.Context, req topic.SignRequest) ([]byte, error) {
		s.signed.Add(1)
		return s.key.Sign(rand.Reader, req.Data, req.Hash)
	})
	topic.Deliver.Answer(s.bus.As(topic.LinkManager), func(_ context.Context, d topic.Delivery) (topic.Receipt, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.delivered = append(s.delivered, d.Messages...)
		return topic.Receipt{Acks: s.acks}, s.refuse
	})
	config := Config{Bus: s.bus.As(topic.Gateway), Log: log, Listen: "127.0.0.1:0"}
	for _, fn := range change {
		fn(&config)
	}
	s.gateway = New(config)
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.gateway.Run(ctx, func() { close(ready) }) }()
	<-ready
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		must(t, store.Close())
	})
	s.addr = s.gateway.Addr().String()
	s.configure("1", s.certificate(func(*x509.Certificate) {}))
	return s
}

// certificate makes a self-signed certificate, which is its own trust root.
func (s *setup) certificate(change func(*x509.Certificate)) []byte {
	s.t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{Organization: []string{"Alice"}, Locality: []string{"London"}, Country: []string{"GB"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"*.example.com"},
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, s.key.Public(), s.key)
	must(s.t, err)
	s.root, err = x509.ParseCertificate(der)
	must(s.t, err)
	return der
}

func (s *setup) configure(version string, chains ...[]byte) {
	s.t.Helper()
	config := topic.GatewayConfig{Version: version, Trust: []string{"t"}}
	for _, der := range chains {
		config.Certificates = append(config.Certificates, topic.TLSIdentity{Tenant: "p2p", KeyID: "1", Chain: [][]byte{der}})
	}
	_, err := topic.GatewayConfigure.Do(s.t.Context(), s.bus.As(topic.LinkManager), config)
	must(s.t, err)
}

const ipName = "127.0.0.1.cluster.corda.net"

func (s *setup) dial(sni string, change ...func(*tls.Config)) (*tls.Conn, error) {
	config := &tls.Config{ServerName: sni, InsecureSkipVerify: true}
	for _, fn := range change {
		fn(config)
	}
	return tls.Dial("tcp", s.addr, config)
}

// exchange writes a request as it is, and reads the answer.
func (s *setup) exchange(request string) (*http.Response, []byte, net.Conn, *bufio.Reader) {
	s.t.Helper()
	c, err := s.dial(ipName)
	must(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, request)
	must(s.t, err)
	r := bufio.NewReader(c)
	res, body := readResponse(s.t, r)
	return res, body, c, r
}

func readResponse(t testing.TB, r *bufio.Reader) (*http.Response, []byte) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	must(t, err)
	body, err := io.ReadAll(res.Body)
	must(t, err)
	return res, body
}

func request(target, contentType, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nhost: h.example\r\nconnection: keep-alive\r\naccept-encoding: application/json\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s",
		target, contentType, len(body), body)
}

func linkMessage(id string) string {
	m := p2p.GatewayMessage{ID: id, Payload: &p2p.UnauthenticatedMessage{Subsystem: "membership", MessageID: id, Payload: []byte("x")}}
	return string(m.AppendBody(nil))
}

func TestALinkMessageIsAnsweredAsCordaAnswers(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	for _, target := range []string{"/", "https://h.example:8080/"} {
		res, body, c, _ := s.exchange(request(target, "application/json", linkMessage("m1")))
		if res.StatusCode != 200 || res.ContentLength != int64(len(body)) || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", target, res)
		}
		if m, err := p2p.DecodeGatewayResponse(body); err != nil || m.ID != "m1" || m.Payload != nil {
			t.Errorf("%s: response %+v, %v", target, m, err)
		}
		if _, err := io.WriteString(c, request("/", "APPLICATION/JSON", linkMessage("m2"))); err != nil {
			t.Errorf("the connection was closed: %v", err)
		}
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	c, err := s.dial(ipName)
	must(t, err)
	defer func() { _ = c.Close() }()
	var all strings.Builder
	for i := range 20 {
		all.WriteString(request("https://h.example:8080/", "application/json", linkMessage(fmt.Sprint(i))))
	}
	_, err = io.WriteString(c, all.String())
	must(t, err)
	r := bufio.NewReader(c)
	for i := range 20 {
		_, body := readResponse(t, r)
		if m, err := p2p.DecodeGatewayResponse(body); err != nil || m.ID != fmt.Sprint(i) {
			t.Fatalf("answer %d is %+v, %v", i, m, err)
		}
	}
}

func TestWhatIsNoGatewayMessageIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	good := linkMessage("m")
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"target does not parse": {"POST /%zz HTTP/1.1\r\nhost: h\r\n\r\n", 400},
		"another path":          {request("/other", "application/json", good), 404},
		"path with slash":       {request("/x/", "application/json", good), 404},
		"path before version":   {"GET /other HTTP/1.0\r\nhost: h\r\n\r\n", 404},
		"HTTP/1.0":              {"POST / HTTP/1.0\r\nhost: h\r\ncontent-length: 0\r\n\r\n", 505},
		"GET":                   {"GET / HTTP/1.1\r\nhost: h\r\n\r\n", 501},
		"PUT":                   {strings.Replace(request("/", "application/json", good), "POST", "PUT", 1), 501},
		"OPTIONS *":             {"OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n", 404},
		"no length":             {"POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\r\n", 411},
		"chunked":               {"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n0\r\n\r\n", 411},
		"too long":              {"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 600000000\r\ncontent-type: text/plain\r\n\r\n", 413},
		"content type":          {request("/", "text/plain", good), 415},
		"content type charset":  {request("/", "application/json; charset=utf-8", good), 415},
		"empty body":            {request("/", "application/json", ""), 400},
		"JSON":                  {request("/", "application/json", `{"id":"m"}`), 400},
		"cut short":             {request("/", "application/json", good[:len(good)-2]), 400},
		"another record":        {request("/", "application/json", string((&p2p.GatewayResponse{ID: "m"}).AppendBody(nil))), 400},
		"batch that is none":    {request("/", batchContentType, "\x00\x00\x01"), 400},
		"batch of nonsense":     {request("/", batchContentType, "\x00\x00\x00\x01x"), 400},
	} {
		t.Run(name, func(t *testing.T) {
			res, body, _, r := s.exchange(c.request)
			if res.StatusCode != c.status {
				t.Fatalf("status %d, want %d", res.StatusCode, c.status)
			}
			if name != "target does not parse" && (len(body) != 0 || res.Header.Get("Content-Length") != "0" || res.Header.Get("Content-Type") != "application/json") {
				t.Errorf("body %q, headers %v", body, res.Header)
			}
			if _, err := r.ReadByte(); err == nil {
				t.Error("the connection goes on")
			}
		})
	}
	if len(s.delivered) != 0 {
		t.Errorf("%d messages were delivered", len(s.delivered))
	}
}

func TestWithoutALinkManagerTheAnswerIs503(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.refuse = fault.New(fault.Unavailable, "not running")
	if res, body, _, _ := s.exchange(request("/", "application/json", linkMessage("m"))); res.StatusCode != 503 || len(body) != 0 {
		t.Errorf("status %d, body %q", res.StatusCode, body)
	}
}

func TestHandshakesNeedAServerNameOfOurs(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	for _, name := range []string{ipName, "gate.example.com"} {
		c, err := s.dial(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if v := c.ConnectionState().Version; v != tls.VersionTLS13 {
			t.Errorf("version %x", v)
		}
		_ = c.Close()
	}
	signed := s.signed.Load()
	for _, name := range []string{"", "example.com", "a.b.example.com", "127.0.0.2.cluster.corda.net", "gate.example.org", "127.0.0.1"} {
		c, err := s.dial(name)
		if err == nil {
			_ = c.Close()
			t.Errorf("%q was accepted", name)
		} else if !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%q is refused with %v", name, err)
		}
	}
	if c, err := s.dial(ipName, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }); err == nil {
		_ = c.Close()
		t.Error("TLS 1.2 was accepted")
	}
	if n := s.signed.Load(); n != signed {
		t.Errorf("%d signatures were spent on them", n-signed)
	}
}

func TestCertificatesAreReplacedWhileServing(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.configure("2", s.certificate(func(c *x509.Certificate) { c.DNSNames = []string{"new.example.org"} }))
	c, err := s.dial("new.example.org")
	must(t, err)
	_ = c.Close()
	if c, err := s.dial("gate.example.com"); err == nil {
		_ = c.Close()
		t.Error("the old certificate is still shown")
	}
}

func TestHandshakesAreLimitedBeforeASignatureIsSpent(t *testing.T) {
	t.Parallel()
	s := newSetup(t, func(c *Config) { c.HandshakesPerSecond = 0.001 })
	accepted := 0
	for range 20 {
		if c, err := s.dial(ipName); err == nil {
			accepted++
			_ = c.Close()
		}
	}
	if accepted != 1 || s.signed.Load() != 1 {
		t.Errorf("%d handshakes, %d signatures, want 1 of each", accepted, s.signed.Load())
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	s := newSetup(t, func(c *Config) { c.ConnectionsPerSource = 2 })
	for range 2 {
		c, err := s.dial(ipName)
		must(t, err)
		defer func() { _ = c.Close() }()
	}
	if c, err := s.dial(ipName); err == nil {
		_ = c.Close()
		t.Error("a third connection was accepted")
	}
}

func TestBodiesInMemoryAreLimited(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	s := newSetup(t, func(c *Config) { c.BodyOctets, c.BodyOctetsPerSource = 4*size, 2*size })
	whole := request("/", "application/json", strings.Repeat("x", size))
	held := make([]net.Conn, 0, 3)
	for range cap(held) { // two fill the memory of the source but for a little; the third is one too many
		c, err := s.dial(ipName)
		must(t, err)
		defer func() { _ = c.Close() }()
		held = append(held, c)
	}
	for _, c := range held[:2] {
		_, err := io.WriteString(c, whole[:len(whole)-1])
		must(t, err)
	}
	for s.octetsTaken() < 2*size {
		<-time.After(time.Millisecond)
	}
	_, err := io.WriteString(held[2], whole)
	must(t, err)
	if res, _ := readResponse(t, bufio.NewReader(held[2])); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a body too many: got %d, want 503", res.StatusCode)
	}
	for _, c := range held[:2] {
		_, err := io.WriteString(c, "x")
		must(t, err)
		if res, _ := readResponse(t, bufio.NewReader(c)); res.StatusCode != http.StatusBadRequest {
			t.Errorf("a body that had its memory: got %d, want 400 since it is no message", res.StatusCode)
		}
	}
	if res, _, _, _ := s.exchange(request("/", "application/json", linkMessage("m"))); res.StatusCode != 200 || s.octetsTaken() != 0 {
		t.Errorf("afterwards: got %d, %d octets are still taken", res.StatusCode, s.octetsTaken())
	}
}

func (s *setup) octetsTaken() int {
	s.gateway.sources.mu.Lock()
	defer s.gateway.sources.mu.Unlock()
	return s.gateway.sources.octets
}

func (s *setup) post(bodies ...string) (topic.PostResult, error) {
	p := topic.Post{URL: "https://" + s.addr, Trust: topic.Trust{ID: "t", Roots: [][]byte{s.root.Raw}}}
	for _, b := range bodies {
		p.Bodies = append(p.Bodies, []byte(b))
	}
	return topic.GatewayPost.Do(s.t.Context(), s.bus.As(topic.LinkManager), p)
}

func TestPostsAreSingleUntilBatchesAreOffered(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.acks = [][]byte{[]byte("ack")}
	for round := range 2 {
		result, err := s.post(linkMessage("a"), linkMessage("b"), linkMessage("c"))
		must(t, err)
		for i, o := range result.Outcomes {
			if o.Status != 200 || o.Error != "" {
				t.Errorf("round %d: message %d: %+v", round, i, o)
			}
		}
		if batched := len(result.Received) > 0; batched != (round > 0) {
			t.Errorf("round %d: received %q", round, result.Received)
		}
	}
	if len(s.delivered) != 6 {
		t.Errorf("%d messages were delivered", len(s.delivered))
	}
}

func TestAServerIsTrustedByRootAndName(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	other := newSetup(t)
	s.root = other.root
	if result, err := s.post(linkMessage("a")); err != nil || result.Outcomes[0].Status != 0 || result.Outcomes[0].Error == "" {
		t.Errorf("another root: %+v, %v", result, err)
	}
	s.configure("2", s.certificate(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
	if result, err := s.post(linkMessage("a")); err != nil || !strings.Contains(result.Outcomes[0].Error, "expired") {
		t.Errorf("expired certificate: %+v, %v", result, err)
	}
	if _, err := topic.GatewayPost.Do(t.Context(), s.bus.As(topic.LinkManager), topic.Post{URL: "http://127.0.0.1:1", Bodies: [][]byte{{1}}}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an endpoint without TLS: %v", err)
	}
}

func TestTheClientSendsWhatCordaExpects(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	seen := make(chan *http.Request, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	secured := tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{s.root.Raw}, PrivateKey: s.key}}})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		w.Header().Set("Content-Length", "0")
	})}
	go func() { _ = server.Serve(secured) }()
	defer func() { _ = server.Close() }()
	p := topic.Post{URL: "https://" + l.Addr().String(), Trust: topic.Trust{ID: "t", Roots: [][]byte{s.root.Raw}}, Bodies: [][]byte{[]byte(linkMessage("a"))}}
	result, err := topic.GatewayPost.Do(t.Context(), s.bus.As(topic.LinkManager), p)
	if err != nil || result.Outcomes[0].Status != 200 {
		t.Fatalf("%+v, %v", result, err)
	}
	r := <-seen
	if r.Host != "127.0.0.1" || r.TLS.ServerName != ipName || r.ContentLength != int64(len(p.Bodies[0])) || r.RequestURI != "/" || r.Proto != "HTTP/1.1" {
		t.Errorf("host %q, name %q, length %d, target %q, %s", r.Host, r.TLS.ServerName, r.ContentLength, r.RequestURI, r.Proto)
	}
	want := http.Header{"Content-Type": {"application/json"}, "Content-Length": {fmt.Sprint(len(p.Bodies[0]))}, "Accept-Encoding": {"application/json"}, "Connection": {"keep-alive"}}
	if fmt.Sprint(r.Header) != fmt.Sprint(want) {
		t.Errorf("headers %v, want %v", r.Header, want)
	}
}

func FuzzSplitBatch(f *testing.F) {
	f.Add(appendBatch(nil, [][]byte{[]byte("a"), nil, []byte("bc")}))
	f.Add([]byte{0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		if items, err := splitBatch(b); err == nil && !bytes.Equal(appendBatch(nil, items), b) {
			t.Errorf("%x reads as %x", b, items)
		}
	})
}

var _ crypto.Signer = (*signer)(nil)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
