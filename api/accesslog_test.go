package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"rollcall/api"
)

// entries returns the log's entries for requests, by request id.
func (n *node) entries() map[string]map[string]any {
	n.Helper()
	entries := map[string]map[string]any{}
	for line := range strings.Lines(n.log.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			n.Fatalf("%v in %s", err, line)
		}
		if entry["msg"] == "request" {
			entries[entry["request_id"].(string)] = entry
		}
	}
	return entries
}

func TestRequestsAreLoggedByTheirRoutes(t *testing.T) {
	n := start(t)
	for id, call := range map[string]struct {
		method, path, body, route, topic, level string
		status                                  float64
	}{
		"count":   {"GET", "/v1/topics/room%2Flobby/count", "", "/v1/topics/:topic/count", "room/lobby", "INFO", 200},
		"track":   {"POST", "/v1/topics/lobby/presences", `{"key":"Alice"}`, "/v1/topics/:topic/presences", "lobby", "INFO", 201},
		"beat":    {"POST", "/v1/sessions/" + session1 + "/heartbeat", "", "/v1/sessions/:session/heartbeat", "", "INFO", 404},
		"unknown": {"GET", "/nope", "", "none", "", "INFO", 404},
		"method":  {"BREW", "/v1/topics", "", "/v1/topics", "", "INFO", 405},
		"invalid": {"GET", "/v1/topics?limit=x", "", "/v1/topics", "", "INFO", 422},
		"healthz": {"GET", "/healthz", "", "/healthz", "", "DEBUG", 200},
		"readyz":  {"GET", "/readyz", "", "/readyz", "", "DEBUG", 200},
		"metrics": {"GET", "/metrics", "", "/metrics", "", "DEBUG", 200},
	} {
		n.do(call.method, call.path, call.body, "X-Request-ID", id)
		eventually(t, id+" is logged", func() bool { return n.entries()[id] != nil })
		entry := n.entries()[id]
		method := call.method
		if method == "BREW" {
			method = "other"
		}
		topic, _ := entry["topic"].(string)
		if entry["route"] != call.route || topic != call.topic || entry["level"] != call.level || entry["status"] != call.status ||
			entry["method"] != method || entry["remote"] != "127.0.0.1" {
			t.Errorf("%s: entry %v, want %+v", id, entry, call)
		}
		if _, ok := entry["duration"].(float64); !ok {
			t.Errorf("%s: duration %v", id, entry["duration"])
		}
	}
}

func TestStreamsAreLoggedWhenTheyEnd(t *testing.T) {
	n := start(t)
	events := n.stream("/v1/topics/lobby/events", "X-Request-ID", "the-stream")
	events.next()
	if n.entries()["the-stream"] != nil {
		t.Error("the stream is logged before its end")
	}
	events.close()
	eventually(t, "the stream is logged", func() bool { return n.entries()["the-stream"] != nil })
	if entry := n.entries()["the-stream"]; entry["topic"] != "lobby" || entry["bytes"].(float64) == 0 {
		t.Errorf("entry %v, want the topic and some bytes", entry)
	}
}

func TestLogsAndErrorsHoldNoSessionAndNoQuery(t *testing.T) {
	n := start(t)
	n.track("lobby", "Alice", session1)
	const query = "QUERY-SECRET"
	for _, call := range []struct{ method, path, body string }{
		{"POST", "/v1/topics/lobby/presences", `{"key":"Alice","session":"` + session1 + `"}`},
		{"PUT", "/v1/topics/lobby/presences/Alice?x=" + query, `{"session":"` + session1 + `","meta":3}`},
		{"PATCH", "/v1/topics/attic/presences/Alice", `{"session":"` + session1 + `","meta":{}}`},
		{"POST", "/v1/topics/lobby/presences", `{"key":"Alice","session":"` + session1 + `!"}`},
		{"DELETE", "/v1/topics/lobby/presences/Alice?session=" + session1 + "&session=" + session2, ""},
		{"DELETE", "/v1/topics/lobby/presences/Alice?session=" + session1 + "!", ""},
		{"DELETE", "/v1/topics/lobby/presences/?session=" + session1, ""},
		{"GET", "/v1/topics/lobby/presences?limit=" + query, ""},
		{"GET", "/v1/topics/lobby/events?session=" + session2, ""},
		{"GET", "/v1/topics/lobby/events?key=a&linger=x&session=" + session2, ""},
		{"POST", "/v1/sessions/" + session2 + "/heartbeat", ""},
		{"POST", "/v1/sessions/" + session2 + "%00/heartbeat", ""},
		{"POST", "/v1/sessions/" + session2 + "/nope", ""},
		{"GET", "/v1/sessions/" + session2, ""},
		{"DELETE", "/v1/sessions/" + session2 + "/x", ""},
		{"POST", "/v1/heartbeats", `{"sessions":["` + session1 + `","` + session2 + `!"]}`},
		{"POST", "/v1/heartbeats", `{"sessions":["` + session1 + `"}`},
	} {
		a := n.do(call.method, call.path, call.body)
		if a.StatusCode < 400 {
			t.Errorf("%s %s = %d, want an error", call.method, call.path, a.StatusCode)
		}
		for _, secret := range []string{session1, session2, query} {
			if strings.Contains(a.body, secret) {
				t.Errorf("%s %s answers %s", call.method, call.path, a.body)
			}
		}
	}
	events := n.stream("/v1/topics/lobby/events?session="+session1+"&last_event_id="+query, "X-Request-ID", "the-stream")
	events.close()
	n.do("DELETE", "/v1/sessions/"+session1, "").want(http.StatusNoContent)
	eventually(t, "the stream is logged", func() bool { return n.entries()["the-stream"] != nil })
	if strings.Contains(n.log.String(), "SECRET") {
		t.Errorf("the log holds a secret:\n%s", n.log)
	}
}

func TestRequestIDsAreTakenWhenTheyAreSane(t *testing.T) {
	n := start(t)
	for id, taken := range map[string]bool{
		"abc-123_X.y:z/w+v=":    true,
		strings.Repeat("x", 64): true,
		strings.Repeat("x", 65): false,
		"with space":            false,
		"<script>":              false,
		"":                      false,
		"é":                     false,
	} {
		a := n.get("/nope", "X-Request-ID", id)
		got := a.Header.Get("X-Request-ID")
		if (got == id) != taken || got == "" {
			t.Errorf("X-Request-ID %q: answered %q, want it taken %v", id, got, taken)
		}
		if problem := decode[api.Problem](a); problem.RequestId == nil || *problem.RequestId != got {
			t.Errorf("request_id %v, want %s", problem.RequestId, got)
		}
		if taken {
			eventually(t, id+" is logged", func() bool { return n.entries()[id] != nil })
		}
	}
}
