package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/store"
)

// pipeListener is a network in memory, which unlike a socket lets a synctest clock run.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (l *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// inMemory runs test with a node on a fake clock and a client of it.
func inMemory(t *testing.T, config NodeConfig, test func(t *testing.T, node *Node, client *http.Client, listener *pipeListener)) {
	synctest.Test(t, func(t *testing.T) {
		listener := newPipeListener()
		config.Listener = listener
		node, _ := openNode(t, config)
		transport := &http.Transport{DialContext: listener.dial}
		t.Cleanup(transport.CloseIdleConnections)
		test(t, node, &http.Client{Transport: transport}, listener)
	})
}

// call makes a request and returns the status and the body.
func call(t *testing.T, client *http.Client, method, path, body string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://node"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// shutdown stops the node and returns how long that took.
func shutdown(t *testing.T, node *Node) time.Duration {
	t.Helper()
	start := time.Now()
	if err := node.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	return time.Since(start)
}

func TestNodeEndsALeaseThatIsNotRenewed(t *testing.T) {
	inMemory(t, NodeConfig{DefaultTTL: 30 * time.Second}, func(t *testing.T, _ *Node, client *http.Client, _ *pipeListener) {
		if status, answer := call(t, client, "POST", "/v1/topics/lobby/presences", `{"key":"Alice"}`); status != http.StatusCreated {
			t.Fatalf("track: %d %s", status, answer)
		}
		time.Sleep(29 * time.Second)
		if _, answer := call(t, client, "GET", "/v1/topics/lobby/count", ""); !strings.Contains(answer, `"keys":1`) {
			t.Errorf("after 29 s: %s, want Alice", answer)
		}
		time.Sleep(3 * time.Second)
		if _, answer := call(t, client, "GET", "/v1/topics/lobby/count", ""); !strings.Contains(answer, `"keys":0`) {
			t.Errorf("after 32 s: %s, want nobody", answer)
		}
	})
}

func TestNodeWithoutStreamsStopsAtOnce(t *testing.T) {
	inMemory(t, NodeConfig{Drain: time.Hour}, func(t *testing.T, node *Node, client *http.Client, _ *pipeListener) {
		call(t, client, "POST", "/v1/topics/lobby/presences", `{"key":"Alice"}`) // leaves an idle connection
		if took := shutdown(t, node); took > 10*time.Millisecond {
			t.Errorf("stopping took %v, want milliseconds", took)
		}
		if err := node.Wait(); err != nil {
			t.Errorf("Wait = %v, want nil", err)
		}
	})
}

func TestNodeEndsStreamsWithinTheDrainTime(t *testing.T) {
	const drain = 100 * time.Millisecond
	inMemory(t, NodeConfig{Drain: drain}, func(t *testing.T, node *Node, client *http.Client, _ *pipeListener) {
		var streams sync.WaitGroup
		for range 100 {
			response, err := client.Get("http://node/v1/topics/lobby/events")
			if err != nil {
				t.Fatal(err)
			}
			streams.Go(func() {
				defer response.Body.Close()
				if _, err := io.Copy(io.Discard, response.Body); err != nil {
					t.Errorf("a stream ended with %v, want a clean end", err)
				}
			})
		}
		if took := shutdown(t, node); took < drain/2 || took > drain+20*time.Millisecond {
			t.Errorf("stopping took %v, want about %v", took, drain)
		}
		streams.Wait()
	})
}

func TestNodeIsUnreadyWhileItDrains(t *testing.T) {
	config := NodeConfig{Drain: time.Second, WriteTimeout: 10 * time.Second, KeepAlive: time.Second}
	inMemory(t, config, func(t *testing.T, node *Node, client *http.Client, _ *pipeListener) {
		response, err := client.Get("http://node/v1/topics/lobby/events") // a client that does not read
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		time.Sleep(5 * time.Second) // until a keep-alive is stuck

		stopped := make(chan time.Duration)
		go func() { stopped <- shutdown(t, node) }()
		time.Sleep(time.Millisecond)
		if status, _ := call(t, client, "GET", "/readyz", ""); status != http.StatusServiceUnavailable {
			t.Errorf("readyz: %d, want 503", status)
		}
		if status, answer := call(t, client, "POST", "/v1/topics/lobby/presences", `{"key":"Alice"}`); status != http.StatusServiceUnavailable {
			t.Errorf("track: %d %s, want 503", status, answer)
		}
		if status, _ := call(t, client, "GET", "/v1/topics/lobby/presences", ""); status != http.StatusOK {
			t.Errorf("list: %d, want 200", status)
		}
		if took := <-stopped; took > config.Drain+config.WriteTimeout+shutdownGrace {
			t.Errorf("stopping took %v, want no longer than the client may be stuck", took)
		}
	})
}

func TestNodeDoesNotWaitLongForARequestWithoutAnEnd(t *testing.T) {
	inMemory(t, NodeConfig{}, func(t *testing.T, node *Node, _ *http.Client, listener *pipeListener) {
		conn, err := listener.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /v1/heartbeats HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if took := shutdown(t, node); took < shutdownGrace || took > shutdownGrace+time.Second {
			t.Errorf("stopping took %v, want about %v", took, shutdownGrace)
		}
	})
}

func TestNodeGivesUpOnClientsWhenTheContextEnds(t *testing.T) {
	config := NodeConfig{WriteTimeout: time.Hour, KeepAlive: time.Second}
	inMemory(t, config, func(t *testing.T, node *Node, client *http.Client, _ *pipeListener) {
		response, err := client.Get("http://node/v1/topics/lobby/events")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		time.Sleep(5 * time.Second) // until a keep-alive is stuck
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := node.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("stopping took %v, want about a second", took)
		}
	})
}

func TestNodeCutsOffASlowHeader(t *testing.T) {
	inMemory(t, NodeConfig{}, func(t *testing.T, _ *Node, _ *http.Client, listener *pipeListener) {
		conn, err := listener.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		start := time.Now()
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\n"); err != nil {
			t.Fatal(err)
		}
		_, err = bufio.NewReader(conn).ReadString('\n')
		if took := time.Since(start); err == nil || took > 11*time.Second {
			t.Errorf("the connection was cut off after %v with %v, want 10 s", took, err)
		}
	})
}

func TestOpenNodeLeavesNothingOpenAfterAnError(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, test := range map[string]struct {
		change func(c *NodeConfig)
		code   int
	}{
		"tracker":  {func(c *NodeConfig) { c.MinTTL = time.Minute; c.MaxTTL = time.Second }, exitUsage},
		"hub":      {func(c *NodeConfig) { c.ResumeBytes = -1 }, exitUsage},
		"api":      {func(c *NodeConfig) { c.AllowOrigins = []string{"nonsense"} }, exitUsage},
		"loopback": {func(c *NodeConfig) { c.Addr = "0.0.0.0:0" }, exitUsage},
		"port":     {func(c *NodeConfig) { c.Addr = taken.Addr().String() }, exitListen},
		"address":  {func(c *NodeConfig) { c.Addr = "nonsense" }, exitListen},
	} {
		config := NodeConfig{DataDir: t.TempDir()}
		test.change(&config)
		node, err := OpenNode(config)
		if err == nil {
			_ = node.Shutdown(t.Context())
		}
		if code := exitCode(err); err == nil || code != test.code {
			t.Errorf("%s: OpenNode = %v, exit code %d, want %d", name, err, code, test.code)
		}
		openNode(t, NodeConfig{DataDir: config.DataDir}) // nobody holds it
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenNode(NodeConfig{DataDir: "/dev/null", Listener: listener}); !errors.Is(err, store.ErrUnreadable) {
		t.Errorf("OpenNode = %v, want ErrUnreadable", err)
	}
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener that was given is not closed: %v", err)
	}
}

func TestNodeReportsThatServingFailed(t *testing.T) {
	node, _ := openNode(t, NodeConfig{})
	if err := node.listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := node.Wait(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Wait = %v, want that the listener is closed", err)
	}
}

func TestNodeTakesTheNextIncarnationAtEachStart(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		node, _ := openNode(t, NodeConfig{DataDir: dir})
		if err := node.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := node.Shutdown(t.Context()); err != nil {
			t.Errorf("a second Shutdown = %v, want what the first returned", err)
		}
	}
	disk, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if got := disk.Incarnation(); got != 4 {
		t.Errorf("incarnation %d after three starts, want 4", got)
	}
}
