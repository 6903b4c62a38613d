package gateway

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

var errTooMany = errors.New("too many handshakes from this address")

// sources counts connections and handshakes by the address that they come from.
type sources struct {
	limits Config

	mu     sync.Mutex
	total  int
	octets int // of bodies
	known  map[netip.Addr]*source
}

type source struct {
	connections int
	octets      int
	handshakes  *rate.Limiter
	seen        time.Time
}

// maxSources bounds the addresses that are remembered without a connection.
const maxSources = 20_000

func newSources(c Config) *sources { return &sources{limits: c, known: make(map[netip.Addr]*source)} }

// of finds an address's entry. s.mu is held.
func (s *sources) of(at netip.Addr, now time.Time) *source {
	if at.Is6() { // a host has a whole /64
		at = netip.PrefixFrom(at, 64).Masked().Addr()
	}
	found := s.known[at]
	if found == nil {
		s.forget(now)
		burst := max(1, int(4*s.limits.HandshakesPerSecond))
		found = &source{handshakes: rate.NewLimiter(rate.Limit(s.limits.HandshakesPerSecond), burst)}
		s.known[at] = found
	}
	found.seen = now
	return found
}

// forget makes room by dropping addresses that have no connection.
func (s *sources) forget(now time.Time) {
	if len(s.known) < maxSources {
		return
	}
	for at, e := range s.known {
		if e.connections == 0 && e.octets == 0 && (now.Sub(e.seen) > time.Minute || len(s.known) >= maxSources) {
			delete(s.known, at)
		}
	}
}

// enter counts a connection in, or says why it is refused.
func (s *sources) enter(at netip.Addr) (leave func(), refused string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.limits.Connections {
		return nil, "connections"
	}
	from := s.of(at, time.Now())
	if from.connections >= s.limits.ConnectionsPerSource {
		return nil, "connections per source"
	}
	s.total++
	from.connections++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.total--
		from.connections--
	}, ""
}

// handshake says whether an address may have another handshake now.
func (s *sources) handshake(at netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of(at, time.Now()).handshakes.Allow()
}

// memory is what the body of one request takes of the bounds.
type memory struct {
	sources *sources
	from    *source
	octets  int
}

func (s *sources) memory(at netip.Addr) *memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &memory{sources: s, from: s.of(at, time.Now())}
}

// grow says whether the body may have that many octets in all.
func (m *memory) grow(octets int) bool {
	s := m.sources
	s.mu.Lock()
	defer s.mu.Unlock()
	more := octets - m.octets
	if s.octets+more > s.limits.BodyOctets || m.from.octets+more > s.limits.BodyOctetsPerSource {
		return false
	}
	s.octets += more
	m.from.octets += more
	m.octets = octets
	return true
}

// free gives it back.
func (m *memory) free() {
	m.sources.mu.Lock()
	defer m.sources.mu.Unlock()
	m.sources.octets -= m.octets
	m.from.octets -= m.octets
	m.octets = 0
}

func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// countingListener refuses connections over the limits.
type countingListener struct {
	net.Listener
	worker *Worker
}

// Accept returns the next connection that is within the limits.
func (l *countingListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		leave, refused := l.worker.sources.enter(addressOf(c.RemoteAddr()))
		if refused == "" {
			return &countedConn{Conn: c, leave: sync.OnceFunc(leave)}, nil
		}
		l.worker.metrics.refused.WithLabelValues(refused).Inc()
		_ = c.Close()
	}
}

type countedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection and counts it out.
func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// secure puts TLS 1.3 on a listener.
func (w *Worker) secure(l net.Listener) net.Listener {
	base := &tls.Config{
		MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			certificate := w.certs.choose(hello)
			if certificate == nil {
				w.metrics.refused.WithLabelValues("server name").Inc()
			}
			return certificate, nil
		},
	}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		switch {
		case !offersAES(hello.CipherSuites):
			w.metrics.refused.WithLabelValues("cipher suites").Inc()
			return nil, errors.New("no cipher suite in common")
		case !w.sources.handshake(addressOf(hello.Conn.RemoteAddr())):
			w.metrics.refused.WithLabelValues("handshakes").Inc()
			return nil, errTooMany
		}
		return nil, nil //nolint:nilnil // keep the configuration
	}
	return tls.NewListener(&countingListener{l, w}, base)
}
