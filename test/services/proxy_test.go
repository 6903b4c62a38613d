package services_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hawser-project/hawser/test/services"
)

// echo answers every line with itself, and reports it to heard before.
func echo(t *testing.T) (addr string, heard <-chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	lines := make(chan string, 16)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for s := bufio.NewScanner(c); s.Scan(); {
					lines <- s.Text()
					io.WriteString(c, s.Text()+"\n")
				}
			}()
		}
	}()
	return listener.Addr().String(), lines
}

// dial connects through the proxy, by the address of what is behind it.
func dial(t *testing.T, p *services.TCPProxy, target string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := services.Dialer(map[string]string{target: p.Addr()})(t.Context(), "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if c.RemoteAddr().String() != p.Addr() {
		t.Fatalf("the dialer went to %v, want the proxy at %v", c.RemoteAddr(), p.Addr())
	}
	return c, bufio.NewReader(c)
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text+"\n"); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, r *bufio.Reader, want string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := r.ReadString('\n'); err != nil || got != want+"\n" {
		t.Fatalf("heard %q, %v, want %q", got, err, want)
	}
}

func hearNothing(t *testing.T, c net.Conn, r *bufio.Reader) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if got, err := r.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("heard %q, %v, want nothing", got, err)
	}
}

func hearEnd(t *testing.T, c net.Conn, r *bufio.Reader) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := r.ReadString('\n'); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("heard %q, %v, want the end of the connection", got, err)
	}
}

func TestProxyForwardsUntilItCuts(t *testing.T) {
	t.Parallel()
	target, _ := echo(t)
	p := services.Proxy(t, target)
	c, r := dial(t, p, target)
	say(t, c, "one")
	hear(t, c, r, "one")
	p.Cut()
	hearEnd(t, c, r)

	again, r := dial(t, p, target)
	say(t, again, "two")
	hear(t, again, r, "two")
}

func TestProxyPassesTheEndOfOneDirection(t *testing.T) {
	t.Parallel()
	target, _ := echo(t)
	p := services.Proxy(t, target)
	c, r := dial(t, p, target)
	say(t, c, "last words")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	hear(t, c, r, "last words")
	hearEnd(t, c, r)
}

func TestProxyBlocksOldAndNewConnections(t *testing.T) {
	t.Parallel()
	target, heard := echo(t)
	p := services.Proxy(t, target)
	old, oldReader := dial(t, p, target)
	say(t, old, "before")
	hear(t, old, oldReader, "before")
	<-heard

	p.Block()
	late, lateReader := dial(t, p, target)
	say(t, old, "old")
	say(t, late, "late")
	hearNothing(t, old, oldReader)
	hearNothing(t, late, lateReader)
	select {
	case line := <-heard:
		t.Fatalf("the target heard %q", line)
	default:
	}

	p.Unblock()
	hear(t, old, oldReader, "old")
	hear(t, late, lateReader, "late")
}

func TestProxyCutsWhatIsBlocked(t *testing.T) {
	t.Parallel()
	target, heard := echo(t)
	p := services.Proxy(t, target)
	p.Block()
	c, r := dial(t, p, target)
	say(t, c, "lost")
	hearNothing(t, c, r)
	p.Cut()
	hearEnd(t, c, r)
	p.Unblock()
	c, r = dial(t, p, target)
	say(t, c, "found")
	hear(t, c, r, "found")
	if got := <-heard; got != "found" {
		t.Errorf("the target heard %q first, want %q", got, "found")
	}
}

func TestProxyLosesTheAnswerOfWhatWasDone(t *testing.T) {
	t.Parallel()
	target, heard := echo(t)
	p := services.Proxy(t, target)
	c, r := dial(t, p, target)
	p.BlockAnswers()
	say(t, c, "do it")
	if got := <-heard; got != "do it" {
		t.Errorf("the target heard %q, want %q", got, "do it")
	}
	p.Cut()
	hearEnd(t, c, r)
}

func TestProxyOfNobodyEndsConnections(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	listener.Close()
	c, r := dial(t, services.Proxy(t, nobody), nobody)
	hearEnd(t, c, r)
}
