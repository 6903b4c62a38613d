package gateway

import (
	"bufio"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/corda/p2p"
)

// clientsOf runs b.N requests over some connections.
func clientsOf(b *testing.B, addr string, request string) {
	b.Helper()
	const connections = 8
	var next atomic.Int64
	done := make(chan error, connections)
	b.ResetTimer()
	for range connections {
		go func() {
			done <- func() error {
				c, err := tls.Dial("tcp", addr, &tls.Config{ServerName: ipName, InsecureSkipVerify: true})
				if err != nil {
					return err
				}
				defer func() { _ = c.Close() }()
				r := bufio.NewReader(c)
				for next.Add(1) <= int64(b.N) {
					if _, err := io.WriteString(c, request); err != nil {
						return err
					}
					res, err := http.ReadResponse(r, nil)
					if err != nil {
						return err
					}
					if _, err := io.Copy(io.Discard, res.Body); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range connections {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

func body() string {
	m := p2p.GatewayMessage{ID: "m", Payload: &p2p.UnauthenticatedMessage{Subsystem: "membership", MessageID: "m", Payload: []byte(strings.Repeat("x", 1024))}}
	return request("/", jsonContent, string(m.AppendBody(nil)))
}

func BenchmarkGateway(b *testing.B) {
	s := newSetup(b)
	clientsOf(b, s.addr, body())
}

// BenchmarkBareHTTP is net/http with a handler that reads the body and answers.
func BenchmarkBareHTTP(b *testing.B) {
	s := newSetup(b)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	secured := tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{s.root.Raw}, PrivateKey: s.key}}})
	server := &http.Server{ReadHeaderTimeout: time.Second, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write((&p2p.GatewayResponse{ID: "m"}).AppendBody(nil))
	})}
	go func() { _ = server.Serve(secured) }()
	defer func() { _ = server.Close() }()
	clientsOf(b, l.Addr().String(), body())
}
