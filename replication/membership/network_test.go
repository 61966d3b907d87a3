package membership_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

var (
	errRefused   = errors.New("connection refused")
	errNoAnswer  = errors.New("i/o timeout")
	errListening = errors.New("address in use")
)

// network joins nodes in memory, so that they can live in a synctest bubble.
type network struct {
	mu    sync.Mutex
	ports map[string]*port
	cuts  map[[2]*port]bool
	pipes map[*pipe]struct{}
}

func newNetwork() *network {
	return &network{ports: map[string]*port{}, cuts: map[[2]*port]bool{}, pipes: map[*pipe]struct{}{}}
}

// port is one node's cluster port: a membership.Streams and a membership.Client.
type port struct {
	network *network
	addr    string
	accepts chan net.Conn
	closed  chan struct{}
	once    sync.Once

	mu      sync.Mutex
	handler http.Handler
}

func (n *network) listen(addr string) (*port, error) {
	p := &port{network: n, addr: addr, accepts: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports[addr] != nil {
		return nil, errListening
	}
	n.ports[addr] = p
	return p, nil
}

// unplug makes p unreachable, and its connections end.
func (n *network) unplug(p *port) {
	n.mu.Lock()
	if n.ports[p.addr] == p {
		delete(n.ports, p.addr)
	}
	n.mu.Unlock()
	n.drop(func(one, other *port) bool { return one == p || other == p })
}

// cut makes what is sent between a and b vanish, or heals that.
func (n *network) cut(a, b *port, cut bool) {
	n.mu.Lock()
	n.cuts[[2]*port{a, b}], n.cuts[[2]*port{b, a}] = cut, cut
	n.mu.Unlock()
	n.drop(func(one, other *port) bool { return one == a && other == b || one == b && other == a })
}

func (n *network) drop(which func(one, other *port) bool) {
	n.mu.Lock()
	var dropped []*pipe
	for p := range n.pipes {
		if which(p.from, p.to) {
			dropped = append(dropped, p)
			delete(n.pipes, p)
		}
	}
	n.mu.Unlock()
	for _, p := range dropped {
		_ = p.one.Close()
		_ = p.other.Close()
	}
}

type pipe struct {
	from, to   *port
	one, other net.Conn
}

// find returns the port at addr as p sees it. silent: what p sends there vanishes.
func (p *port) find(addr string) (to *port, silent bool) {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	to = p.network.ports[addr]
	if p.network.ports[p.addr] != p {
		return nil, false
	}
	return to, to != nil && p.network.cuts[[2]*port{p, to}]
}

func (p *port) Dial(addr string, timeout time.Duration) (net.Conn, error) {
	to, silent := p.find(addr)
	if silent {
		time.Sleep(timeout)
		return nil, errNoAnswer
	}
	if to == nil {
		return nil, errRefused
	}
	one, other := net.Pipe()
	select {
	case to.accepts <- other:
	case <-to.closed:
		return nil, errRefused
	case <-time.After(timeout):
		return nil, errNoAnswer
	}
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	p.network.pipes[&pipe{from: p, to: to, one: one, other: other}] = struct{}{}
	return one, nil
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepts:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *port) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *port) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero} } // as one that listens on all

func (p *port) serve(handler http.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handler = handler
}

func (p *port) Do(request *http.Request) (*http.Response, error) {
	to, silent := p.find(request.URL.Host)
	if silent {
		<-request.Context().Done()
		return nil, context.Cause(request.Context())
	}
	if to == nil {
		return nil, errRefused
	}
	to.mu.Lock()
	handler := to.handler
	to.mu.Unlock()
	if handler == nil {
		return nil, errRefused
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request.Clone(request.Context()))
	return recorder.Result(), nil
}
