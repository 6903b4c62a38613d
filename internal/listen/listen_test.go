package listen_test

import (
	"errors"
	"net"
	"testing"

	"github.com/hawser-project/hawser/internal/listen"
)

// accepted hands out the connections that a listener accepts, and tells its end.
func accepted(l net.Listener) (<-chan net.Conn, <-chan error) {
	conns, ended := make(chan net.Conn), make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			conns <- c
		}
	}()
	return conns, ended
}

func TestOneMoreConnectionWaitsForAnotherToClose(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := listen.Limit(inner, 2)
	conns, ended := accepted(l)
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	first, second := <-conns, <-conns
	select {
	case <-conns:
		t.Fatal("a third connection was accepted")
	default:
	}
	if err := errors.Join(first.Close(), second.Close()); err != nil {
		t.Fatal(err)
	}
	_ = second.Close() // closing twice gives no second place
	third := <-conns
	defer func() { _ = third.Close() }()
	_ = l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("ended with %v, want closed", err)
	}
}

func TestCloseEndsAnAcceptThatWaitsForAPlace(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := listen.Limit(inner, 1)
	conns, ended := accepted(l)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	held := <-conns
	defer func() { _ = held.Close() }()
	_ = l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("ended with %v, want closed", err)
	}
}
