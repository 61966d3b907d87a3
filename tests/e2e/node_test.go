package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/contract"
	"rollcall/tests/program"
)

// node is a running node, and a client of it that checks the contract.
type node struct {
	*program.Node
	t    *testing.T
	http *http.Client
}

// serve starts a node that lives as long as the test.
func serve(t *testing.T, flags ...string) *node {
	t.Helper()
	return &node{Node: binary.Serve(t, flags...), t: t, http: checkedClient(t)}
}

// checkedClient returns a client with connections of its own whose requests and answers are checked.
func checkedClient(t *testing.T) *http.Client {
	base := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(base.CloseIdleConnections)
	return &http.Client{Transport: &contract.Transport{TB: t, Base: base, Requests: true}}
}

// answer is what a call returned.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send sends a request and returns its answer. It may be used in any goroutine.
func (n *node) send(method, path, body string, header http.Header) (answer, error) {
	request, err := http.NewRequest(method, n.URL+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := n.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, content}, err
}

// call makes a call that must be answered with the status; body is JSON, "" for none.
func (n *node) call(status int, method, path, body string) answer {
	n.t.Helper()
	return n.callWith(status, method, path, body, nil)
}

// callWith is call with more headers, which may replace the Content-Type.
func (n *node) callWith(status int, method, path, body string, header http.Header) answer {
	n.t.Helper()
	got, err := n.send(method, path, body, header)
	if err != nil {
		n.t.Fatal(err)
	}
	if got.status != status {
		n.t.Fatalf("%s %s %.200s: %d %s, want %d", method, path, body, got.status, got.body, status)
	}
	return got
}

// get returns the answer to a GET as a T.
func get[T any](n *node, path string) T {
	n.t.Helper()
	return decode[T](n.t, n.call(http.StatusOK, "GET", path, "").body)
}

// decode returns JSON as a T.
func decode[T any](t *testing.T, data []byte) T {
	t.Helper()
	var value T
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return value
}

// refused makes a call that must be refused, and returns the problem.
func (n *node) refused(status int, code, method, path, body string) rollcallclient.Problem {
	n.t.Helper()
	problem := decode[rollcallclient.Problem](n.t, n.call(status, method, path, body).body)
	if string(problem.Code) != code {
		n.t.Fatalf("%s %s: code %s, want %s", method, path, problem.Code, code)
	}
	return problem
}

// presences is the path of who is in a topic.
func presences(topic string) string { return "/v1/topics/" + url.PathEscape(topic) + "/presences" }

// presenceOf is the path of one key there.
func presenceOf(topic, key string) string { return presences(topic) + "/" + url.PathEscape(key) }

// track tracks with the given body.
func (n *node) track(topic, body string) rollcallclient.Presence {
	n.t.Helper()
	return decode[rollcallclient.Presence](n.t, n.call(http.StatusCreated, "POST", presences(topic), body).body)
}

// list returns who is in a topic.
func (n *node) list(topic string) rollcallclient.PresenceState {
	n.t.Helper()
	return get[rollcallclient.PresenceState](n, presences(topic))
}

// leave ends a session.
func (n *node) leave(session string) {
	n.t.Helper()
	n.call(http.StatusNoContent, "DELETE", "/v1/sessions/"+session, "")
}

// object returns v as JSON.
func object(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// stop stops the node in good order.
func (n *node) stop() {
	n.t.Helper()
	n.Signal(syscall.SIGTERM)
	if code := n.Wait(); code != 0 {
		n.t.Fatalf("exit code %d after SIGTERM, want 0", code)
	}
}

// restart stops the node and starts it again on its data, at another port.
func (n *node) restart(flags ...string) {
	n.t.Helper()
	n.stop()
	n.Node = binary.Serve(n.t, append(flags, "--data-dir="+n.DataDir)...)
}

// metric returns the value of a metric without labels.
func (n *node) metric(name string) float64 {
	n.t.Helper()
	for line := range strings.Lines(string(n.call(http.StatusOK, "GET", "/metrics", "").body)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				n.t.Fatal(err)
			}
			return value
		}
	}
	n.t.Fatalf("there is no metric %s", name)
	return 0
}
