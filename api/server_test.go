package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/api"
	"rollcall/api/stream"
	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/tests/contract"
)

// node is a Server on loopback over a real tracker and hub. Every answer that its client gets is checked against the contract.
type node struct {
	testing.TB
	*api.Server
	tracker *presence.Tracker
	hub     *stream.Hub
	log     *buffer
	url     string
	client  *http.Client
}

func start(t testing.TB, configure ...func(*api.Config)) *node {
	t.Helper()
	n := assemble(t, configure...)
	server := httptest.NewServer(n)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(func() {
		n.hub.Close() // or streams would keep the server open
		transport.CloseIdleConnections()
		server.Close()
	})
	n.url = server.URL
	n.client = &http.Client{
		Transport:     &contract.Transport{TB: t, Base: transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return n
}

// assemble makes a node without a socket.
func assemble(t testing.TB, configure ...func(*api.Config)) *node {
	t.Helper()
	tracker, err := presence.Open(presence.Config{Replica: crdt.Replica{Name: "n1", Incarnation: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracker.Close)
	hub, err := stream.Open(stream.Config{Tracker: tracker})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	log := &buffer{}
	config := api.Config{
		Tracker: tracker, Hub: hub, Version: "1.2.3",
		Logger: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range configure {
		c(&config)
	}
	server, err := api.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return &node{TB: t, Server: server, tracker: tracker, hub: hub, log: log}
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// answer is a whole response.
type answer struct {
	testing.TB
	*http.Response
	body string
}

// do sends a request. A body is sent as JSON unless header, in pairs, says otherwise.
func (n *node) do(method, path, body string, header ...string) answer {
	n.Helper()
	request, err := http.NewRequestWithContext(n.Context(), method, n.url+path, strings.NewReader(body))
	if err != nil {
		n.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := n.client.Do(request)
	if err != nil {
		n.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		n.Fatal(err)
	}
	return answer{n.TB, response, string(got)}
}

func (n *node) get(path string, header ...string) answer {
	n.Helper()
	return n.do(http.MethodGet, path, "", header...)
}

// want fails the test unless the answer has the status.
func (a answer) want(status int) answer {
	a.Helper()
	if a.StatusCode != status {
		a.Fatalf("%s %s = %d, want %d; body %s", a.Request.Method, a.Request.URL.EscapedPath(), a.StatusCode, status, a.body)
	}
	return a
}

// wantProblem fails the test unless the answer is a problem with the code and the field.
func (a answer) wantProblem(status int, code api.ProblemCode, field string) api.Problem {
	a.Helper()
	a.want(status)
	problem := decode[api.Problem](a)
	got := ""
	if problem.Field != nil {
		got = *problem.Field
	}
	if problem.Code != code || got != field {
		a.Errorf("%s %s: code %s, field %q, want %s, %q", a.Request.Method, a.Request.URL.EscapedPath(), problem.Code, got, code, field)
	}
	if !strings.HasSuffix(problem.Detail, ".") {
		a.Errorf("detail %q is not a sentence", problem.Detail)
	}
	return problem
}

func decode[T any](a answer) T {
	a.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		a.Fatalf("%v in %s", err, a.body)
	}
	return v
}

// track makes somebody present and returns the answer.
func (n *node) track(topic, key, session string) api.Presence {
	n.Helper()
	request := map[string]any{"key": key}
	if session != "" {
		request["session"] = session
	}
	return decode[api.Presence](n.do(http.MethodPost, "/v1/topics/"+topic+"/presences", encode(n, request)).want(http.StatusCreated))
}

func encode(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// events is an open stream.
type events struct {
	testing.TB
	*http.Response
	lines   *bufio.Scanner
	wrapped bool
	close   context.CancelFunc
}

// stream opens a stream, which the end of the test closes.
func (n *node) stream(path string, header ...string) *events {
	n.Helper()
	ctx, cancel := context.WithCancel(n.Context())
	n.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+path, nil)
	if err != nil {
		n.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := n.client.Do(request)
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(response.Body)
		n.Fatalf("GET %s = %s: %s", path, response.Status, body)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	return &events{n.TB, response, lines, strings.HasPrefix(path, "/v1/events"), cancel}
}

type event struct{ name, data, id string }

// next reads the next event and checks its data against the contract.
func (e *events) next() event {
	e.Helper()
	var got event
	for e.lines.Scan() {
		field, value, _ := strings.Cut(e.lines.Text(), ": ")
		switch field {
		case "event":
			got.name = value
		case "data":
			got.data = value
		case "id":
			got.id = value
		case "":
			if got.name == "" {
				continue // after a retry or a comment
			}
			if err := contract.CheckEvent(e.wrapped, got.name, []byte(got.data)); err != nil {
				e.Errorf("event breaks the contract: %v", err)
			}
			return got
		}
	}
	e.Fatalf("the stream ended: %v", e.lines.Err())
	return got
}

// eventually fails the test unless the condition holds within a few seconds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("in 5 s not: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

const (
	session1 = "session-number-1-SECRET"
	session2 = "session-number-2-SECRET"
)

func TestNewReportsEveryMistakeOfItsConfig(t *testing.T) {
	_, err := api.New(api.Config{MaxBodyBytes: 10, AllowOrigins: []string{"*", "https://a.example", "a.example", "https://a.example/x"}})
	if err == nil {
		t.Fatal("New = nil")
	}
	for _, want := range []string{"Tracker", "Hub", "MaxBodyBytes is 10", `"a.example"`, `"https://a.example/x"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want also %s", err, want)
		}
	}
	if unwanted := `"https://a.example" `; strings.Contains(err.Error(), unwanted) {
		t.Errorf("New = %v, without %s", err, unwanted)
	}
}

func TestDrainingRefusesWritesAndStreamsAndServesReads(t *testing.T) {
	n := start(t)
	n.track("lobby", "Alice", session1)
	n.get("/readyz").want(http.StatusOK)
	n.SetDraining()

	for _, call := range []struct{ method, path, body string }{
		{"GET", "/readyz", ""},
		{"POST", "/v1/topics/lobby/presences", `{"key":"Bob"}`},
		{"PUT", "/v1/topics/lobby/presences/Alice", `{"session":"` + session1 + `","meta":{}}`},
		{"PATCH", "/v1/topics/lobby/presences/Alice", `{"session":"` + session1 + `","meta":{}}`},
		{"DELETE", "/v1/topics/lobby/presences/Alice?session=" + session1, ""},
		{"POST", "/v1/sessions/" + session1 + "/heartbeat", ""},
		{"POST", "/v1/heartbeats", `{"sessions":[]}`},
		{"DELETE", "/v1/sessions/" + session1, ""},
		{"POST", "/v1/sessions/" + session1 + "/leave", ""},
		{"DELETE", "/v1/cluster/nodes/n2", ""},
		{"GET", "/v1/topics/lobby/events", ""},
		{"GET", "/v1/events?topic=lobby", ""},
	} {
		a := n.do(call.method, call.path, call.body)
		a.wantProblem(http.StatusServiceUnavailable, api.ProblemCodeDraining, "")
		if a.Header.Get("Retry-After") == "" {
			t.Errorf("%s %s: no Retry-After", call.method, call.path)
		}
	}
	for _, path := range []string{
		"/healthz", "/metrics", "/v1/cluster", "/v1/topics", "/v1/topics/lobby/count", "/v1/topics/lobby/presences",
		"/v1/topics/lobby/presences/Alice", "/v1/keys/Alice", "/docs",
	} {
		n.get(path).want(http.StatusOK)
	}
	n.do("POST", "/v1/keys/query", `{"keys":["Alice"]}`).want(http.StatusOK)
}

func TestReadyzGivesEveryReason(t *testing.T) {
	var reasons atomic.Value
	reasons.Store([]error{})
	n := start(t, func(c *api.Config) {
		c.Ready = func() error { return errors.Join(reasons.Load().([]error)...) }
	})
	n.get("/readyz").want(http.StatusOK)
	reasons.Store([]error{errors.New("joining the cluster"), errors.New("durability is lost: the disk is full")})
	a := n.get("/readyz")
	problem := a.wantProblem(http.StatusServiceUnavailable, api.ProblemCodeNotReady, "")
	if want := "The node is not ready: joining the cluster; durability is lost: the disk is full."; problem.Detail != want {
		t.Errorf("detail %q, want %q", problem.Detail, want)
	}
	n.get("/healthz").want(http.StatusOK)
	n.track("lobby", "Alice", session1) // whoever comes all the same is served
	n.SetDraining()
	n.get("/readyz").wantProblem(http.StatusServiceUnavailable, api.ProblemCodeDraining, "")
}

func TestHubThatDrainsFirstRefusesStreamsAlike(t *testing.T) {
	n := start(t)
	if err := n.hub.Drain(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	n.get("/v1/topics/lobby/events").wantProblem(http.StatusServiceUnavailable, api.ProblemCodeDraining, "")
}

func TestPanicsAreAnsweredAndLoggedOnce(t *testing.T) {
	n := start(t, func(c *api.Config) { c.Tracker = new(presence.Tracker) }) // has no shards
	n.get("/v1/topics/lobby/count").wantProblem(http.StatusInternalServerError, api.ProblemCodeInternal, "")
	if got := strings.Count(n.log.String(), `"level":"ERROR"`); got != 1 {
		t.Errorf("%d errors logged, want 1:\n%s", got, n.log)
	}
	if !strings.Contains(n.log.String(), "CountPresences") {
		t.Errorf("no stack in the log:\n%s", n.log)
	}
}

func TestHeadIsAnsweredLikeGetExceptForStreams(t *testing.T) {
	n := start(t)
	for _, path := range []string{"/", "/healthz", "/v1/topics", "/v1/topics/lobby/presences", "/openapi.yaml", "/docs"} {
		want := n.get(path).want(http.StatusOK)
		got := n.do(http.MethodHead, path, "").want(http.StatusOK)
		if got.Header.Get("Content-Type") != want.Header.Get("Content-Type") || got.body != "" {
			t.Errorf("HEAD %s: %q with a body of %d", path, got.Header.Get("Content-Type"), len(got.body))
		}
	}
	n.do(http.MethodHead, "/v1/topics/lobby/events", "").want(http.StatusMethodNotAllowed)
}
