// Package listen bounds how many connections a server holds at a time, so that nobody can use up the process's file
// descriptors: in one process with everything else, those are the store's too.
package listen

import (
	"net"
	"sync"
)

// Limit accepts at most max connections at a time from the listener; further ones wait in the kernel's queue until one of
// those is closed.
func Limit(l net.Listener, max int) net.Listener {
	return &limited{Listener: l, places: make(chan struct{}, max), closed: make(chan struct{})}
}

type limited struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &conn{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
}

// Close closes the listener and ends an Accept that waits for a place.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type conn struct {
	net.Conn
	leave func()
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}
