package port

import (
	"net"
	"sync"
)

// conn is a connection as it is below TLS, where Close finds it.
type conn struct {
	net.Conn
	port *Port
}

// keep makes raw a connection of the port. It closes raw if the port is closed.
func (p *Port) keep(raw net.Conn) (*conn, error) {
	c := &conn{raw, p}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	p.conns[c] = struct{}{}
	return c, nil
}

func (c *conn) Close() error {
	c.port.mu.Lock()
	delete(c.port.conns, c)
	c.port.mu.Unlock()
	return c.Conn.Close()
}

// backlog is a listener whose connections come from within.
type backlog struct {
	addr  net.Addr
	ready chan net.Conn
	done  chan struct{} // closed by Close
	once  sync.Once
}

func newBacklog(addr net.Addr) *backlog {
	return &backlog{addr: addr, ready: make(chan net.Conn), done: make(chan struct{})}
}

// put waits until c is accepted. It returns false, and leaves c alone, if the backlog is closed.
func (b *backlog) put(c net.Conn) bool {
	select {
	case b.ready <- c:
		return true
	case <-b.done:
		return false
	}
}

// Accept waits for the next connection. After Close it returns net.ErrClosed.
func (b *backlog) Accept() (net.Conn, error) {
	select {
	case c := <-b.ready:
		return c, nil
	case <-b.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept, now and later. It leaves the connections alone that were accepted.
func (b *backlog) Close() error {
	b.once.Do(func() { close(b.done) })
	return nil
}

// Addr is the address that the cluster port listens on.
func (b *backlog) Addr() net.Addr { return b.addr }

func (b *backlog) closed() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}
