package restart

import (
	"context"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// balancer gives each request to the next node that says it is ready. When that cannot be reached it takes another one, as the usual ones do;
// what breaks later is the client's business.
type balancer struct {
	URL string

	transport *http.Transport
	mu        sync.Mutex
	nodes     []string // URLs of all, ready or not
	ready     []string
	next      int
}

// balance starts a balancer over nodes.
func balance(t *testing.T, nodes ...string) *balancer {
	t.Helper()
	b := &balancer{nodes: nodes, transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	server := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme = "http" }, // RoundTrip sets the host
		Transport: b,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
		ErrorLog: log.New(io.Discard, "", 0), // of streams that break, which is what the tests are about
	})
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	b.URL = server.URL
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	b.look(ctx)
	watching.Go(func() {
		for ctx.Err() == nil {
			b.look(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		watching.Wait()
		server.CloseClientConnections()
		server.Close()
		b.transport.CloseIdleConnections()
	})
	return b
}

// set takes in that nodes have other addresses.
func (b *balancer) set(nodes ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes = nodes
}

// look asks every node whether it is ready.
func (b *balancer) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	b.mu.Lock()
	nodes := b.nodes
	b.mu.Unlock()
	var ready []string
	for _, node := range nodes {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, node+"/readyz", nil)
		if err != nil {
			continue
		}
		response, err := b.transport.RoundTrip(request)
		if err != nil {
			continue
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			ready = append(ready, node)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready = ready
}

var errNobodyReady = errors.New("no node is ready")

// RoundTrip sends a request to the next node.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	err := errNobodyReady
	for _, node := range b.turn() {
		var target *url.URL
		if target, err = url.Parse(node); err != nil {
			return nil, err
		}
		r.URL.Host = target.Host
		var response *http.Response
		response, err = b.transport.RoundTrip(r)
		if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
			continue
		}
		return response, err
	}
	return nil, err
}

// turn returns the nodes that are ready, the one whose turn it is first.
func (b *balancer) turn() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ready) == 0 {
		return nil
	}
	b.next++
	first := b.next % len(b.ready)
	return slices.Concat(b.ready[first:], b.ready[:first])
}

// other returns a node that is ready, another than this one if there is any.
func (b *balancer) other(than string) string {
	ready := b.turn()
	for _, node := range ready {
		if node != than {
			return node
		}
	}
	return than
}

// freeAddr returns an address on loopback for a node that keeps it over restarts. Its port is below those that the kernel gives to outgoing
// connections: one of them could otherwise take it while the node is down.
func freeAddr(t *testing.T) string {
	t.Helper()
	const first, last = 10_000, 15_000
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first)))
		listener, err := net.Listen("tcp", addr)
		if err == nil {
			listener.Close()
			return addr
		}
	}
	t.Fatal("there is no free port")
	return ""
}
