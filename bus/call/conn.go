package call

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/internal/pki"
)

// conn is a connection after its handshake, as net/http gets it. It does not show that it is TLS: net/http then speaks
// HTTP/2 on it whatever the handshake agreed upon.
type conn struct {
	net.Conn // *tls.Conn
	raw      net.Conn
	peer     pki.Identity
	protocol string

	heard     chan struct{} // closed once the other side has said something
	hearOnce  sync.Once
	closed    chan struct{}
	closeOnce sync.Once
	expiry    *time.Timer
	open      prometheus.Gauge
	readErr   atomic.Pointer[error] // why nothing was heard
}

// handshake makes a conn, or closes the connection. The gauge that it counts in depends on the protocol.
func handshake(ctx context.Context, c *tls.Conn, gauge func(protocol string) prometheus.Gauge) (*conn, error) {
	if err := c.HandshakeContext(ctx); err != nil {
		_ = c.NetConn().Close()
		return nil, err
	}
	state := c.ConnectionState()
	peer, err := pki.FromCertificate(state.PeerCertificates[0]) // it was verified in the handshake
	if err == nil && state.NegotiatedProtocol == "" {
		err = fmt.Errorf("%s agrees upon no protocol", peer)
	}
	if err != nil {
		_ = c.NetConn().Close()
		return nil, err
	}
	n := &conn{
		Conn: c, raw: c.NetConn(), peer: peer, protocol: state.NegotiatedProtocol, open: gauge(state.NegotiatedProtocol),
		heard: make(chan struct{}), closed: make(chan struct{}),
	}
	n.open.Inc()
	// A certificate that has ended is good for no connection, also not for an old one.
	n.expiry = time.AfterFunc(time.Until(peer.NotAfter), func() { _ = n.Close() })
	return n, nil
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.hearOnce.Do(func() { close(c.heard) })
	} else if err != nil {
		c.readErr.CompareAndSwap(nil, &err)
	}
	return n, err
}

// Close does not wait for a peer that is gone to take the last word of TLS.
func (c *conn) Close() error {
	c.closeOnce.Do(func() {
		c.expiry.Stop()
		force := time.AfterFunc(250*time.Millisecond, func() { _ = c.raw.Close() })
		defer force.Stop()
		_ = c.Conn.Close()
		c.open.Dec()
		close(c.closed)
	})
	return nil
}

// awaitFirstWord returns once the server has said something. In TLS 1.3 the client's handshake ends before the server has
// looked at its certificate; only what the server says next shows that it was let in.
func (c *conn) awaitFirstWord(ctx context.Context) error {
	select {
	case <-c.heard:
		return nil
	case <-c.closed:
		if err := c.readErr.Load(); err != nil {
			return *err
		}
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keepAlive notices peers whose host is gone while HTTP/2 is not there yet to do so.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}

// dial opens a connection to an address for one of the two protocols.
func dial(ctx context.Context, address string, config *tls.Config, open prometheus.Gauge) (*conn, error) {
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return handshake(ctx, tls.Client(raw, config), func(string) prometheus.Gauge { return open })
}

// link is a connection on which this process asks.
type link struct {
	*http.ClientConn
	conn *conn
}

type connKey struct{}

// newTransport makes what speaks HTTP/2 on conns that are there already.
func newTransport(idle time.Duration, limits Limits) *http.Transport {
	t := &http.Transport{
		DisableCompression: true, IdleConnTimeout: idle, MaxResponseHeaderBytes: maxHeaders,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingAfter, PingTimeout: pingTime, WriteByteTimeout: writeTime,
			MaxReceiveBufferPerConnection: int(min(2*limits.MaxBody, 1<<30)), MaxReceiveBufferPerStream: 1 << 20,
		},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, ok := ctx.Value(connKey{}).(*conn)
			if !ok {
				return nil, net.ErrClosed // nobody asks the transport itself
			}
			return c, nil
		},
		Protocols: new(http.Protocols),
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// newLink begins to speak HTTP/2, as the side that asks, and returns once the other side has let it in.
func newLink(ctx context.Context, t *http.Transport, c *conn) (*link, error) {
	cc, err := t.NewClientConn(context.WithValue(ctx, connKey{}, c), "http", "peer:0")
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	if err := c.awaitFirstWord(ctx); err != nil {
		_ = cc.Close()
		return nil, fmt.Errorf("not let in: %w", err)
	}
	return &link{cc, c}, nil
}
