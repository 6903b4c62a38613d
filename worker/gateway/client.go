package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/p2p"
)

const (
	maxClients   = 1000
	clientIdle   = 60 * time.Second
	maxAnswer    = 8 << 20
	maxSingle    = 1 << 20 // of the answer to one message
	batchRequest = 256     // messages in one request, at most
)

// clients has one client per destination and trust.
type clients struct {
	worker *Worker

	mu      sync.Mutex
	entries map[clientKey]*client
}

type clientKey struct{ url, trust string }

// client talks to one endpoint.
type client struct {
	http     *http.Client
	url      string
	host     string
	batches  atomic.Bool // the server has offered them
	lastUsed time.Time   // clients.mu
}

func newClients(w *Worker) *clients {
	return &clients{worker: w, entries: make(map[clientKey]*client)}
}

// get finds or makes the client of a destination.
func (c *clients) get(endpoint string, trust topic.Trust) (*client, error) {
	key := clientKey{endpoint, trust.ID}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.entries[key]; found != nil {
		found.lastUsed = now
		return found, nil
	}
	made, err := c.worker.newClient(endpoint, trust)
	if err != nil {
		return nil, err
	}
	made.lastUsed = now
	if len(c.entries) >= maxClients {
		c.dropOldest()
	}
	c.entries[key] = made
	return made, nil
}

// dropOldest closes the client that was not used for the longest time. c.mu is held.
func (c *clients) dropOldest() {
	var oldest clientKey
	for key, e := range c.entries {
		if found := c.entries[oldest]; found == nil || e.lastUsed.Before(found.lastUsed) {
			oldest = key
		}
	}
	c.drop(oldest)
}

func (c *clients) drop(key clientKey) {
	c.entries[key].http.CloseIdleConnections()
	delete(c.entries, key)
}

// keep closes the connections made under trust that is no longer in use.
func (c *clients) keep(trust []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.entries {
		if !slices.Contains(trust, key.trust) {
			c.drop(key)
		}
	}
}

func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.entries {
		c.drop(key)
	}
}

func (w *Worker) newClient(endpoint string, trust topic.Trust) (*client, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || u.User != nil {
		return nil, fault.New(fault.Invalid, "endpoint %.200q is not of the form https://HOST:PORT/PATH", endpoint)
	}
	sni, err := p2p.SNI(endpoint)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	roots := x509.NewCertPool()
	for _, der := range trust.Roots {
		if root, err := x509.ParseCertificate(der); err == nil {
			roots.AddCert(root)
		}
	}
	config := clientTLS(sni, u.Hostname(), roots)
	address := net.JoinHostPort(u.Hostname(), u.Port())
	transport := &http.Transport{
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialTLS(ctx, network, address, config, w.ConnectTimeout)
		},
		DisableCompression: true, MaxConnsPerHost: w.ClientConnections, MaxIdleConnsPerHost: w.ClientConnections,
		IdleConnTimeout: clientIdle, ResponseHeaderTimeout: w.ResponseTimeout, MaxResponseHeaderBytes: maxHeader,
		WriteBufferSize: 64 << 10, ReadBufferSize: 16 << 10,
	}
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true)
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return &client{http: &http.Client{Transport: transport, CheckRedirect: refuse}, url: "https://" + address + path, host: u.Hostname()}, nil
}

// clientTLS checks a server as Corda does (spec/p2p-wire.md 6.4): the library's own check would ask for the name of the
// handshake, which for an address is one that no certificate has.
func clientTLS(sni, host string, roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: sni, InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it
		VerifyConnection: func(state tls.ConnectionState) error {
			if !slices.Contains(aesSuites, state.CipherSuite) {
				return errors.New("the server chose a cipher suite that the protocol does not have")
			}
			if len(state.PeerCertificates) == 0 {
				return errors.New("the server shows no certificate")
			}
			intermediates := x509.NewCertPool()
			for _, certificate := range state.PeerCertificates[1:] {
				intermediates.AddCert(certificate)
			}
			leaf := state.PeerCertificates[0]
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
				return err
			}
			return p2p.VerifyServer(leaf, sni, host)
		},
	}
}

func dialTLS(ctx context.Context, network, address string, config *tls.Config, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	plain, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(plain, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = plain.Close()
		return nil, fmt.Errorf("TLS with %s: %w", address, err)
	}
	return secured, nil
}

// post sends link messages to one endpoint: in batches where the server takes them, else each in its own request.
func (w *Worker) post(ctx context.Context, p topic.Post) (topic.PostResult, error) {
	c, err := w.clients.get(p.URL, p.Trust)
	if err != nil {
		return topic.PostResult{}, err
	}
	result := topic.PostResult{Outcomes: make([]topic.PostOutcome, len(p.Bodies))}
	if c.batches.Load() && !w.NoBatch {
		for from := 0; from < len(p.Bodies); {
			to := batchEnd(p.Bodies, from)
			w.postBatch(ctx, c, p.Bodies[from:to], result.Outcomes[from:to], &result)
			from = to
		}
		return result, nil
	}
	w.postSingly(ctx, c, p.Bodies, &result)
	return result, nil
}

// batchEnd finds how many bodies fit into one request.
func batchEnd(bodies [][]byte, from int) int {
	octets := 0
	for to := from; to < len(bodies); to++ {
		octets += 4 + len(bodies[to])
		if to > from && (octets > maxBatch || to-from == batchRequest) {
			return to
		}
	}
	return len(bodies)
}

func (w *Worker) postBatch(ctx context.Context, c *client, bodies [][]byte, outcomes []topic.PostOutcome, result *topic.PostResult) {
	octets := 0
	for _, body := range bodies {
		octets += 4 + len(body)
	}
	outcome, answer := w.request(ctx, c, appendBatch(make([]byte, 0, octets), bodies), batchContentType)
	if outcome.Status == http.StatusUnsupportedMediaType || outcome.Status == http.StatusBadRequest || outcome.Status == http.StatusRequestEntityTooLarge {
		c.batches.Store(false) // behind the same address there is another gateway, or an older one
		single := topic.PostResult{Outcomes: outcomes}
		w.postSingly(ctx, c, bodies, &single)
		result.Received = append(result.Received, single.Received...)
		return
	}
	for i := range outcomes {
		outcomes[i] = outcome
	}
	if outcome.Status == http.StatusOK {
		if acks, err := splitBatch(answer); err == nil {
			result.Received = append(result.Received, acks...)
		}
	}
}

// postSingly sends each message in a request of its own, over all connections of the destination.
func (w *Worker) postSingly(ctx context.Context, c *client, bodies [][]byte, result *topic.PostResult) {
	var next atomic.Int64
	var mu sync.Mutex
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(bodies) {
				return
			}
			outcome, answer := w.request(ctx, c, bodies[i], jsonContent)
			result.Outcomes[i] = outcome
			if received := payloadOf(answer); received != nil {
				mu.Lock()
				result.Received = append(result.Received, received)
				mu.Unlock()
			}
		}
	}
	var group sync.WaitGroup
	for range min(len(bodies), w.ClientConnections) - 1 {
		group.Go(work)
	}
	work()
	group.Wait()
}

// payloadOf is the link message in an answer. Corda's answers have none.
func payloadOf(answer []byte) []byte {
	if len(answer) == 0 {
		return nil
	}
	m, err := p2p.DecodeGatewayResponse(answer)
	if err != nil || m.Payload == nil {
		return nil
	}
	return p2p.AppendPayload(nil, m.Payload)
}

// request sends one request. The answer's body is nil unless the status is 200.
func (w *Worker) request(ctx context.Context, c *client, body []byte, contentType string) (topic.PostOutcome, []byte) {
	begun := time.Now()
	status, answer, err := c.do(ctx, body, contentType)
	w.metrics.seconds.WithLabelValues("client").Observe(time.Since(begun).Seconds())
	outcome := topic.PostOutcome{Status: status}
	switch {
	case err != nil:
		outcome = topic.PostOutcome{Error: explain(err)}
		w.metrics.posts.WithLabelValues("none").Inc()
	default:
		if status != http.StatusOK {
			outcome.Error = "it answered " + strconv.Itoa(status) + " " + http.StatusText(status)
			answer = nil
		}
		w.metrics.posts.WithLabelValues(strconv.Itoa(status)).Inc()
	}
	return outcome, answer
}

func (c *client) do(ctx context.Context, body []byte, contentType string) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Host = c.host
	req.Header = http.Header{"Content-Type": {contentType}, "Accept-Encoding": {jsonContent}, "Connection": {"keep-alive"}, "User-Agent": nil}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	limit := int64(maxSingle)
	if contentType == batchContentType {
		limit = maxAnswer
	}
	answer, err = io.ReadAll(io.LimitReader(res.Body, limit))
	c.batches.Store(res.Header.Get(batchHeader) == batchVersion)
	if err != nil && res.StatusCode != http.StatusOK {
		err = nil
	}
	return res.StatusCode, answer, err
}

// explain takes the request out of an error: who asks knows it.
func explain(err error) string {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return err.Error()
}
