package rest_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkGet measures GET with Basic authentication and RBAC beside a bare net/http server that answers the same octets
// with the same certificate, each with keep-alive connections.
func BenchmarkGet(b *testing.B) {
	c := start(b)
	u, _ := c.user("someone", "ALLOW GET:/api/v[_a-zA-Z0-9]{1,30}/key/([a-fA-F0-9]{12}|p2p)/schemes/[_A-Z]{2,20}", "DENY POST:.*", "ALLOW GET:/api/v5_3/role", "ALLOW GET:/api/v5_3/user/.*")
	const path = base + "/key/p2p/schemes/TLS"
	body := u.get(path).want(200).body
	b.Run("hawser", func(b *testing.B) { u.cluster.load(b, c.url+path, u.login, u.password) })
	b.Run("bare", func(b *testing.B) { c.load(b, c.bare(b, body)+path, "", "") })
}

// bare serves one answer.
func (c *cluster) bare(b *testing.B, body string) string {
	b.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(c.dir, "rest", "rest-tls.crt"), filepath.Join(c.dir, "rest", "rest-tls.key"))
	if err != nil {
		b.Fatal(err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	})}
	go func() {
		_ = server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}))
	}()
	b.Cleanup(func() { _ = server.Close() })
	return "https://" + listener.Addr().String()
}

func (c *cluster) load(b *testing.B, url, login, password string) {
	b.Helper()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
			if err != nil {
				b.Error(err)
				return
			}
			if login != "" {
				req.SetBasicAuth(login, password)
			}
			resp, err := c.client.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				b.Errorf("got %d", resp.StatusCode)
				return
			}
		}
	})
}
