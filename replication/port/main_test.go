package port

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret      = "correct horse battery staple"
	otherSecret = "correct horse battery stapler"
	patience    = 20 * time.Second // for what should come at once
)

// node is a port whose handler counts its requests and echoes their bodies, and whose raft echoes every stream.
type node struct {
	*Port
	requests, streams atomic.Int32
}

func openNode(tb testing.TB, config Config) *node {
	tb.Helper()
	n := &node{}
	config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.requests.Add(1)
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	if config.Listener == nil {
		config.Addr = "127.0.0.1:0"
	}
	p, err := Open(config)
	if err != nil {
		tb.Fatal(err)
	}
	n.Port = p
	var echoes sync.WaitGroup
	echoes.Go(func() {
		for {
			stream, err := p.Raft().Accept()
			if err != nil {
				return
			}
			n.streams.Add(1)
			echoes.Go(func() {
				defer stream.Close()
				_, _ = io.Copy(stream, stream)
			})
		}
	})
	tb.Cleanup(func() {
		_ = p.Close()
		echoes.Wait()
	})
	return n
}

// post sends body to the node at addr, which must echo it.
func (n *node) post(addr, body string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/cluster/echo", strings.NewReader(body))
	if err != nil {
		return err
	}
	response, err := n.Client().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	echo, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || string(echo) != body {
		return fmt.Errorf("answer %s %.50q of %d bytes, want 200 and %.50q of %d", response.Status, echo, len(echo), body, len(body))
	}
	return nil
}

// talk sends a message over a raft stream, which must come back.
func talk(stream net.Conn, message string) error {
	if _, err := io.WriteString(stream, message); err != nil {
		return err
	}
	echo := make([]byte, len(message))
	if _, err := io.ReadFull(stream, echo); err != nil {
		return err
	}
	if string(echo) != message {
		return fmt.Errorf("echo %.50q, want %.50q", echo, message)
	}
	return nil
}

// untouched checks that nobody has got through to n.
func (n *node) untouched(tb testing.TB) {
	tb.Helper()
	if requests, streams := n.requests.Load(), n.streams.Load(); requests != 0 || streams != 0 {
		tb.Errorf("a stranger has made %d requests and %d streams", requests, streams)
	}
}

func withSecret(tb testing.TB, secret string) *Credentials {
	tb.Helper()
	return load(tb, write(tb, secret+"\n"), "", "", "")
}

func load(tb testing.TB, secretFile, cert, key, ca string) *Credentials {
	tb.Helper()
	c, err := LoadCredentials(secretFile, cert, key, ca)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func write(tb testing.TB, content string) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// pipes is a network in memory, for testing/synctest.
type pipes struct {
	mu        sync.Mutex
	listeners map[string]*backlog
}

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

func (n *pipes) listen(addr string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners == nil {
		n.listeners = map[string]*backlog{}
	}
	n.listeners[addr] = newBacklog(pipeAddr(addr))
	return n.listeners[addr]
}

func (n *pipes) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("nobody listens")
	}
	near, far := net.Pipe()
	select {
	case l.ready <- far:
		return near, nil
	case <-l.done:
		return nil, errors.New("nobody listens any more")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
