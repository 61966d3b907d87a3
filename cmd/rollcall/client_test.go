package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
)

// openNode starts a node that the test stops, and returns its URL.
func openNode(t *testing.T, config NodeConfig) (node *Node, base string) {
	t.Helper()
	if config.DataDir == "" {
		config.DataDir = t.TempDir()
	}
	node, err := OpenNode(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return node, "http://" + node.Addr().String()
}

// flaky is a proxy in front of a node that can cut connections and refuse new ones.
type flaky struct {
	*httptest.Server
	down atomic.Bool

	mu       sync.Mutex
	requests []*http.Request
}

func newFlaky(t *testing.T, node string) *flaky {
	t.Helper()
	target, err := url.Parse(node)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	f := &flaky{}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.down.Load() {
			panic(http.ErrAbortHandler)
		}
		f.mu.Lock()
		f.requests = append(f.requests, r)
		f.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
		transport.CloseIdleConnections()
	})
	return f
}

// cut breaks all connections and refuses new requests until restore.
func (f *flaky) cut() {
	f.down.Store(true)
	f.CloseClientConnections()
}

func (f *flaky) restore() { f.down.Store(false) }

// seen returns the requests so far whose path ends in suffix.
func (f *flaky) seen(method, suffix string) (requests []*http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if r.Method == method && strings.HasSuffix(r.URL.Path, suffix) {
			requests = append(requests, r)
		}
	}
	return requests
}

// command is a run of a client command in this process.
type command struct {
	stdout, stderr *lockedBuffer
	cancel         context.CancelFunc
	done           chan int
}

func start(t *testing.T, args ...string) *command {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	con, stdout, stderr := recorded()
	c := &command{stdout: stdout, stderr: stderr, cancel: cancel, done: make(chan int, 1)}
	go func() { c.done <- run(ctx, args, con) }()
	t.Cleanup(func() { c.stop(t) })
	return c
}

// stop is Ctrl-C. It returns the exit code.
func (c *command) stop(t *testing.T) int {
	t.Helper()
	c.cancel()
	return c.wait(t)
}

func (c *command) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-c.done:
		c.done <- code // for the next call
		return code
	case <-time.After(10 * time.Second):
		t.Fatalf("the command does not end; stdout %q, stderr %q", c.stdout, c.stderr)
		return 0
	}
}

// awaitLine waits until stdout has the line.
func (c *command) awaitLine(t *testing.T, line string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains("\n"+c.stdout.String(), "\n"+line+"\n") {
		if time.Now().After(deadline) {
			t.Fatalf("no line %q; stdout %q, stderr %q", line, c.stdout, c.stderr)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func client(t *testing.T, base string) *rollcallclient.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := rollcallclient.NewClient(base, rollcallclient.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func track(t *testing.T, c *rollcallclient.Client, topic, key, session, meta string) {
	t.Helper()
	raw := json.RawMessage(meta)
	if _, err := answer[rollcallclient.Presence](c.Update(t.Context(), topic, key, rollcallclient.UpdateRequest{Session: session, Meta: raw})); err != nil {
		t.Fatal(err)
	}
}

func leave(t *testing.T, c *rollcallclient.Client, session string) {
	t.Helper()
	if _, err := answer[struct{}](c.Leave(t.Context(), session)); err != nil {
		t.Fatal(err)
	}
}

// list returns a topic's state as JSON without refs.
func list(t *testing.T, c *rollcallclient.Client, topic string) string {
	t.Helper()
	state, err := answer[rollcallclient.PresenceState](c.ListPresences(t.Context(), topic, nil))
	if err != nil {
		t.Fatal(err)
	}
	short := map[string][]json.RawMessage{}
	for key, metas := range state {
		for _, meta := range metas.Metas {
			short[key] = append(short[key], json.RawMessage(metaText(meta)))
		}
	}
	text, err := json.Marshal(short)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	sessionA = "session-of-alice-1"
	sessionB = "session-of-bob-001"
)

func TestTopicsPrintsAllPages(t *testing.T) {
	_, base := openNode(t, NodeConfig{})
	api := client(t, base)
	const n = 1001 // more than a page
	for i := range n {
		track(t, api, fmt.Sprintf("room:%04d", i), "Alice", sessionA, `{}`)
	}
	track(t, api, "attic", "Alice", sessionA, `{}`)
	track(t, api, "attic", "Alice", sessionB, `{}`)

	con, stdout, stderr := recorded()
	if code := run(t.Context(), []string{"topics", "--url", base}, con); code != exitFine {
		t.Fatalf("exit code %d, %q", code, stderr)
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if len(lines) != n+2 || lines[0] != "PEOPLE  DEVICES  TOPIC" || lines[1] != "1       2        attic" || lines[n+1] != "1       1        room:1000" {
		t.Errorf("%d lines: %q, %q … %q", len(lines), lines[0], lines[1], lines[len(lines)-1])
	}
	con, stdout, stderr = recorded()
	if code := run(t.Context(), []string{"topics", "--prefix=room:100", "--json", "--url", base}, con); code != exitFine {
		t.Fatalf("exit code %d, %q", code, stderr)
	}
	if got, want := stdout.String(), `{"keys":1,"metas":1,"topic":"room:1000"}`+"\n"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
}

func TestCount(t *testing.T) {
	_, base := openNode(t, NodeConfig{})
	api := client(t, base)
	track(t, api, "lobby", "Alice", sessionA, `{}`)
	track(t, api, "lobby", "Alice", sessionB, `{}`)
	for args, want := range map[string]string{
		"count lobby":        "1 person on 2 devices\n",
		"count lobby --json": `{"keys":1,"metas":2}` + "\n",
		"count nowhere":      "0 people on 0 devices\n",
	} {
		con, stdout, stderr := recorded()
		if code := run(t.Context(), append(strings.Fields(args), "--url", base+"/"), con); code != exitFine || stdout.String() != want {
			t.Errorf("%s: exit code %d, %q, %q; want %q", args, code, stdout, stderr, want)
		}
	}
}

func TestClientsPassOnWhatTheNodeSays(t *testing.T) {
	_, base := openNode(t, NodeConfig{})
	long := strings.Repeat("x", 256)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"track":       {[]string{"track", long, "Alice"}, "topic is 256 bytes long; at most 255 are allowed"},
		"track's ttl": {[]string{"track", "lobby", "Alice", "--ttl=2h"}, "ttl"},
		"watch":       {[]string{"watch", long}, "topic is 256 bytes long; at most 255 are allowed"},
		"watch two":   {[]string{"watch", "lobby", long}, "topic is 256 bytes long; at most 255 are allowed"},
		"count":       {[]string{"count", long}, "topic is 256 bytes long; at most 255 are allowed"},
		"topics":      {[]string{"topics", "--prefix", long}, "prefix"},
	} {
		con, stdout, stderr := recorded()
		code := run(t.Context(), append(test.args, "--url", base), con)
		if code != exitFailure || !strings.Contains(stderr.String(), test.want) || stdout.Len() > 0 {
			t.Errorf("%s: exit code %d, %q; want 1 and %q", name, code, stderr, test.want)
		}
	}
}

func TestClientsSayWhenThereIsNoNode(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	defer other.Close()
	missing := httptest.NewServer(http.NotFoundHandler())
	defer missing.Close()
	for base, want := range map[string]string{
		gone.URL:    "cannot reach " + gone.URL,
		other.URL:   "not as rollcall does",
		missing.URL: "not as rollcall does",
	} {
		for _, args := range [][]string{{"track", "lobby", "Alice"}, {"watch", "lobby"}, {"count", "lobby"}, {"topics"}, {"cluster"}, {"cluster", "remove", "x"}} {
			con, _, stderr := recorded()
			code := run(t.Context(), append(args, "--url", base), con)
			if code != exitFailure || !strings.Contains(stderr.String(), want) {
				t.Errorf("%s: exit code %d, %q; want 1 and %q", args, code, stderr, want)
			}
		}
	}
}
