package call_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus/call"
)

// BenchmarkCall has one request of 1 KiB and its echo over mutual TLS on loopback, from 1 and from 64 callers, beside
// net/http with nothing on top under the same certificates. p50 is in microseconds.
func BenchmarkCall(b *testing.B) {
	c := newCluster(b, "london")
	server, client := c.process("b", "beta"), c.process("a", "alpha")
	at, _ := serve(b, call.Serving{TLS: server, Serve: echo})
	calls := newClient(b, client)
	request := ask
	request.Body = make([]byte, 1024)
	send := func(ctx context.Context) error {
		_, err := calls.Send(ctx, at, request)
		return err
	}
	bare := bareEcho(b, server.Server("h2"), client.Client("h2"), request.Body)
	for _, x := range []struct {
		name    string
		callers int
		do      func(context.Context) error
	}{{"bare/1", 1, bare}, {"call/1", 1, send}, {"bare/64", 64, bare}, {"call/64", 64, send}} {
		b.Run(x.name, func(b *testing.B) { measure(b, x.callers, x.do) })
	}
}

func measure(b *testing.B, callers int, do func(context.Context) error) {
	b.Helper()
	if err := do(b.Context()); err != nil { // opens the connection
		b.Fatal(err)
	}
	b.ReportAllocs()
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	done := make(chan error, callers)
	b.ResetTimer()
	for range callers {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= b.N {
					done <- nil
					return
				}
				ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
				began := time.Now()
				err := do(ctx)
				took[i] = time.Since(began)
				cancel()
				if err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range callers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// bareEcho is net/http with HTTP/2 and nothing of ours but the certificates.
func bareEcho(b *testing.B, server, client *tls.Config, body []byte) func(context.Context) error {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{TLSConfig: server, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1024}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		octets, err := io.ReadAll(r.Body)
		if err == nil {
			_, _ = w.Write(octets)
		}
	})}
	go func() { _ = s.ServeTLS(l, "", "") }()
	b.Cleanup(func() { _ = s.Close() })
	t := &http.Transport{TLSClientConfig: client, ForceAttemptHTTP2: true}
	b.Cleanup(t.CloseIdleConnections)
	url := "https://" + l.Addr().String() + "/"
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		resp, err := t.RoundTrip(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return err
	}
}
