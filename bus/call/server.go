package call

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/internal/listen"
)

// ServerConfig is what a Server needs.
type ServerConfig struct {
	Address string // HOST:PORT
	Serving
	// Peers are the roles of which a process must have one to be let in at all; empty: any.
	Peers []bus.Role
	// Bound is told the address once it is open; may be nil.
	Bound func(net.Addr)
}

// Server takes connections of other processes, and answers what they ask.
type Server struct {
	config  ServerConfig
	host    *host
	reverse func(context.Context, *conn) // takes over a reverse connection until it ends; nil: there are none
	asking  *side                        // counts reverse connections
}

// NewServer makes a server. It does nothing before Run.
func NewServer(c ServerConfig) *Server {
	return &Server{config: c, host: newHost(c.Serving, 2*idleTime)}
}

// Run serves until ctx ends. What is in flight then is finished for a few seconds.
func (s *Server) Run(ctx context.Context, ready func()) error {
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	l, err := config.Listen(ctx, "tcp", s.config.Address)
	if err != nil {
		return fmt.Errorf("open the port for other processes: %w", err)
	}
	if s.config.Bound != nil {
		s.config.Bound(l.Addr())
	}
	l = listen.Limit(l, s.host.Limits.MaxConns)
	protocols := []string{protocolOrdinary}
	if s.reverse != nil {
		protocols = append(protocols, protocolReverse)
	}
	ours, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.host.start()
	var running sync.WaitGroup
	ended := make(chan error, 1)
	running.Go(func() {
		for pause(ours, certificateEvery) == nil {
			_ = s.config.TLS.Identity() // warns before the certificate ends, also where no connection is opened for long
		}
	})
	running.Go(func() { ended <- s.accept(ours, l, s.config.TLS.Server(protocols...), &running) })
	ready()
	select {
	case <-ctx.Done():
	case err = <-ended:
	}
	err = errors.Join(err, l.Close())
	cancel()
	s.host.stop()
	running.Wait()
	return err
}

// accept takes connections until the listener is closed.
func (s *Server) accept(ctx context.Context, l net.Listener, config *tls.Config, running *sync.WaitGroup) error {
	for {
		raw, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil && isTemporary(err):
			if pause(ctx, minBackOff) != nil {
				return nil
			}
			continue
		case err != nil:
			return fmt.Errorf("take connections: %w", err)
		}
		running.Go(func() { s.take(ctx, tls.Server(raw, config)) })
	}
}

// isTemporary says whether taking connections may work again: too many open files is not the end of a server.
func isTemporary(err error) bool {
	var e interface{ Temporary() bool }
	return errors.As(err, &e) && e.Temporary()
}

// take makes the handshake of a connection, and hands it to who is to serve it.
func (s *Server) take(ctx context.Context, c *tls.Conn) {
	timed, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	n, err := handshake(timed, c, s.gauge)
	if err == nil && !s.letsIn(n) {
		_ = n.Close()
		err = fmt.Errorf("%s has no role that is let in", n.peer)
	}
	if err != nil {
		if ctx.Err() == nil {
			s.config.Log.LogAttrs(ctx, slog.LevelWarn, "connection refused", slog.String("from", c.RemoteAddr().String()), slog.Any("error", err))
		}
		return
	}
	if n.protocol == protocolReverse {
		s.reverse(ctx, n)
		return
	}
	s.host.add(n)
}

func (s *Server) gauge(protocol string) prometheus.Gauge {
	if protocol == protocolReverse {
		return s.asking.connections
	}
	return s.host.side.connections
}

func (s *Server) letsIn(c *conn) bool {
	return len(s.config.Peers) == 0 || slices.ContainsFunc(s.config.Peers, func(r bus.Role) bool { return c.peer.Has(string(r)) })
}
