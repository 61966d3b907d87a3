package api_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"rollcall/api"
	"rollcall/presence"
	"rollcall/tests/contract"
)

// raw answers a request as it would come over the wire, without a socket, and checks the answer against the contract. It returns nil
// for what net/http itself refuses. A stream ends when it has sent something.
func (n *node) raw(method, target, header, body string) *httptest.ResponseRecorder {
	n.Helper()
	wire := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", method, target, header, len(body), body)
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(n.Context())
	defer cancel()
	recorder := httptest.NewRecorder()
	n.ServeHTTP(&onceWriter{recorder, cancel}, request.WithContext(ctx))
	if recorder.Code >= 500 {
		n.Fatalf("%s %q = %d: %s", method, target, recorder.Code, recorder.Body)
	}
	response := recorder.Result()
	response.Request = request
	if err := contract.CheckResponse(request, response); err != nil {
		n.Fatalf("%s %q with %q breaks the contract: %d, %v", method, target, body, recorder.Code, err)
	}
	return recorder
}

// quietly keeps a log from growing for as long as the fuzzer runs.
func quietly(c *api.Config) { c.Logger = slog.New(slog.DiscardHandler) }

// onceWriter ends the request when it flushes.
type onceWriter struct {
	*httptest.ResponseRecorder
	done context.CancelFunc
}

func (w *onceWriter) Flush() {
	w.ResponseRecorder.Flush()
	w.done()
}

func FuzzPath(f *testing.F) {
	for _, name := range names {
		f.Add(name, "Alice")
		f.Add("lobby", name)
	}
	for _, name := range []string{"", "\xff", "a\x00b", "\u0085", strings.Repeat("x", 256)} {
		f.Add(name, name)
	}
	n := assemble(f, quietly)
	f.Fuzz(func(t *testing.T, topic, key string) {
		n := &node{TB: t, Server: n.Server, tracker: n.tracker}
		// As a client writes it: valid names come back as they are.
		path := "/v1/topics/" + url.PathEscape(topic) + "/presences/" + url.PathEscape(key)
		_, topicErr := presence.ParseTopic(topic)
		_, keyErr := presence.ParseKey(key)
		body := encode(t, map[string]any{"session": session1, "meta": map[string]any{}})
		answer := n.raw("PUT", path, "Content-Type: application/json\r\n", body)
		if valid := topicErr == nil && keyErr == nil; valid != (answer.Code < 400) {
			t.Fatalf("PUT %s = %d, topic %v, key %v", path, answer.Code, topicErr, keyErr)
		} else if valid {
			metas := n.tracker.Get(presence.Topic(topic), presence.Key(key))
			if !slices.ContainsFunc(metas, func(p *presence.Presence) bool { return p.Session == session1 }) {
				t.Errorf("PUT %s has not tracked %q in %q", path, key, topic)
			}
			if code := n.raw("GET", answer.Header().Get("Location"), "", "").Code; answer.Code == http.StatusCreated && code != http.StatusOK {
				t.Errorf("GET Location %s = %d", answer.Header().Get("Location"), code)
			}
			n.raw("DELETE", path+"?session="+session1, "", "")
		}
		// As it comes: anything but a failure.
		for _, route := range []string{"/v1/topics/%s/presences/%s", "/v1/topics/%s/events?key=%s", "/v1/topics/%s/count?%s", "/v1/keys/%s%s", "/v1/cluster/nodes/%s?%s", "/%s/%s"} {
			n.raw("GET", fmt.Sprintf(route, topic, key), "", "")
			n.raw("DELETE", fmt.Sprintf(route, topic, key), "", "")
		}
	})
}

func FuzzTrackBody(f *testing.F) {
	for _, body := range []string{
		`{"key":"Alice"}`, `{"key":"Alice","meta":{"a":[1,null,{"b":1e400}]},"session":"` + session1 + `","ttl":30}`, `{"key":"\ud800"}`,
		`{"key":"Alice","ttl":9223372036854775807}`, `{"key":"Alice","meta":{"phx_ref":"x","":{}}}`, `[]`, `{"key":"a","key":"b"}`, ` { } `,
	} {
		f.Add("application/json", []byte(body))
	}
	n := assemble(f, quietly)
	f.Fuzz(func(t *testing.T, mediaType string, body []byte) {
		if strings.ContainsAny(mediaType, "\r\n") {
			return
		}
		n := &node{TB: t, Server: n.Server, tracker: n.tracker}
		header := "Content-Type: " + mediaType + "\r\n"
		answer := n.raw("POST", "/v1/topics/lobby/presences", header, string(body))
		if answer == nil || answer.Code != http.StatusCreated {
			return
		}
		checkTaken(t, "POST", "/v1/topics/lobby/presences", body)
		tracked := decode[api.Presence](result(t, answer))
		n.tracker.Leave(presence.SessionID(tracked.Session))
	})
}

func FuzzUpdateBody(f *testing.F) {
	for _, body := range []string{
		`{"session":"` + session1 + `","meta":{}}`, `{"session":"` + session1 + `","meta":{"a":null,"b":{"c":null}}}`,
		`{"session":"` + session1 + `","meta":[]}`, `{"session":"` + session2 + `","meta":{}}`, `{"meta":{}}`, `{"session":"` + session1 + `"}`,
	} {
		f.Add(true, []byte(body))
		f.Add(false, []byte(body))
	}
	n := assemble(f, quietly)
	f.Fuzz(func(t *testing.T, patch bool, body []byte) {
		n := &node{TB: t, Server: n.Server, tracker: n.tracker}
		n.tracker.Leave(session1)
		if _, err := n.tracker.Track(presence.TrackRequest{Topic: "lobby", Key: "Alice", Session: session1, Meta: presence.Meta(`{"a":{"b":1}}`)}); err != nil {
			t.Fatal(err)
		}
		method := "PUT"
		if patch {
			method = "PATCH"
		}
		answer := n.raw(method, "/v1/topics/lobby/presences/Alice", "Content-Type: application/json\r\n", string(body))
		if answer.Code >= 400 {
			return
		}
		checkTaken(t, method, "/v1/topics/lobby/presences/Alice", body)
		n.tracker.Leave(presence.SessionID(decode[api.Presence](result(t, answer)).Session))
	})
}

func FuzzStreamQuery(f *testing.F) {
	for _, query := range []string{
		"", "topic=a", "topic=a&topic=b&key=Alice&session=" + session1 + "&linger=0&meta=%7B%22a%22%3A1%7D", "topic=a&last_event_id=x-1", "topic=%zz",
		"topic=a;b", "topic=&key=&session=&linger=&meta=", "topic=a&linger=61", "topic=a&key=b&meta=[", "topic=a&topic=a&key=a&key=b",
	} {
		f.Add(query, "")
		f.Add(query, "epoch-12")
	}
	n := assemble(f, quietly)
	f.Fuzz(func(t *testing.T, query, lastEventID string) {
		if strings.ContainsAny(lastEventID, "\r\n") {
			return
		}
		n := &node{TB: t, Server: n.Server, tracker: n.tracker}
		header := ""
		if lastEventID != "" {
			header = "Last-Event-ID: " + lastEventID + "\r\n"
		}
		for _, path := range []string{"/v1/events?", "/v1/topics/lobby/events?"} {
			answer := n.raw("GET", path+query, header, "")
			if answer == nil {
				continue
			}
			if answer.Code == http.StatusOK && !strings.Contains(answer.Body.String(), "event: presence_state\n") {
				t.Errorf("%s%s begins with %q", path, query, answer.Body)
			}
		}
	})
}

// checkTaken fails the test unless a body that was taken is one that the contract allows.
func checkTaken(t *testing.T, method, path string, body []byte) {
	t.Helper()
	request := httptest.NewRequest(method, path, bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	if err := contract.CheckRequest(request); err != nil {
		t.Errorf("%s %s took %q, which breaks the contract: %v", method, path, body, err)
	}
}

func result(t *testing.T, recorder *httptest.ResponseRecorder) answer {
	return answer{t, recorder.Result(), recorder.Body.String()}
}
