package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"rollcall/api"
)

func TestStreamBeginsWithTheState(t *testing.T) {
	n := start(t)
	events := n.stream("/v1/topics/lobby/events")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
	} {
		if got := events.Header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := events.next(); got.name != "presence_state" || got.data != "{}" || got.id == "" {
		t.Errorf("first event of an empty topic = %+v", got)
	}
	ref := n.track("lobby", "Alice", session1).Ref
	want := event{"presence_diff", fmt.Sprintf(`{"joins":{"Alice":{"metas":[{"phx_ref":%q}]}},"leaves":{}}`, ref), ""}
	if got := events.next(); got.name != want.name || got.data != want.data {
		t.Errorf("second event = %+v, want %+v", got, want)
	}
}

func TestStreamsOfSeveralTopicsAreWrapped(t *testing.T) {
	n := start(t)
	events := n.stream("/v1/events?topic=a%2Cb&topic=c&topic=c&topic=d%26e")
	var got []string
	for range 3 {
		got = append(got, events.next().data)
	}
	want := []string{`{"topic":"a,b","payload":{}}`, `{"topic":"c","payload":{}}`, `{"topic":"d&e","payload":{}}`}
	for _, state := range want {
		if !strings.Contains(strings.Join(got, "\n"), state) {
			t.Errorf("states %s, want %s", got, state)
		}
	}
	ref := n.track("c", "Alice", session1).Ref
	diff := fmt.Sprintf(`{"topic":"c","payload":{"joins":{"Alice":{"metas":[{"phx_ref":%q}]}},"leaves":{}}}`, ref)
	if got := events.next(); got.name != "presence_diff" || got.data != diff {
		t.Errorf("event = %+v, want %s", got, diff)
	}
}

func TestStreamWithAKeyIsAPresence(t *testing.T) {
	n := start(t)
	online := func(topic string) int {
		return decode[api.Count](n.get("/v1/topics/" + topic + "/count").want(http.StatusOK)).Keys
	}
	events := n.stream("/v1/events?topic=lobby&topic=attic&key=Alice&meta=%7B%22device%22%3A%22phone%22%7D&linger=0&session=" + session1)
	if got := events.next(); !strings.Contains(got.data, `"device":"phone"`) {
		t.Errorf("first state = %s, want the stream's own presence in it", got.data)
	}
	if online("lobby") != 1 || online("attic") != 1 {
		t.Errorf("%d in the lobby, %d in the attic, want 1 and 1", online("lobby"), online("attic"))
	}
	events.close()
	eventually(t, "the presence ends with the stream", func() bool { return online("lobby")+online("attic") == 0 })
}

func TestStreamWithASessionKeepsItAlive(t *testing.T) {
	n := start(t)
	n.get("/v1/topics/lobby/events?session="+session1).wantProblem(http.StatusNotFound, api.ProblemCodeUnknownSession, "")
	n.track("lobby", "Alice", session1)
	events := n.stream("/v1/topics/attic/events?linger=0&session=" + session1)
	events.next()
	events.close()
	eventually(t, "the session ends with the stream", func() bool {
		return n.do("POST", "/v1/sessions/"+session1+"/heartbeat", "").StatusCode == http.StatusNotFound
	})
}

func TestStreamsResumeFromTheHeaderRatherThanTheQuery(t *testing.T) {
	n := start(t)
	events := n.stream("/v1/topics/lobby/events")
	state := events.next()
	n.track("lobby", "Alice", session1)
	diff := events.next()

	resumed := []struct{ query, header, first, why string }{
		{"?last_event_id=" + state.id, "", diff.data, "the query alone"},
		{"", state.id, diff.data, "the header alone"},
		{"?last_event_id=unknown", state.id, diff.data, "the header wins"},
	}
	for _, r := range resumed {
		var header []string
		if r.header != "" {
			header = []string{"Last-Event-ID", r.header}
		}
		if got := n.stream("/v1/topics/lobby/events"+r.query, header...).next(); got.name != "presence_diff" || got.data != r.first {
			t.Errorf("%s: first event %+v, want the missed diff", r.why, got)
		}
	}
	if got := n.stream("/v1/topics/lobby/events?last_event_id="+state.id, "Last-Event-ID", "unknown").next(); got.name != "presence_state" {
		t.Errorf("an unknown id in the header: first event %+v, want the state", got)
	}
}

func TestStreamParametersAreChecked(t *testing.T) {
	n := start(t)
	many := "/v1/events?topic=x" + strings.Repeat("&topic=x", 200)
	for i := range 99 {
		many += fmt.Sprintf("&topic=t%d", i)
	}
	n.stream(many) // 100 topics; doubles do not count
	for path, field := range map[string]string{
		many + "&topic=one-more":                                             "topic",
		"/v1/events":                                                         "topic",
		"/v1/events?topic=":                                                  "topic",
		"/v1/events?topic=a&key=b&key=c":                                     "key",
		"/v1/topics/lobby/events?key=":                                       "key",
		"/v1/topics/lobby/events?meta={}":                                    "meta",
		"/v1/topics/lobby/events?meta={}&session=" + session1:                "meta",
		"/v1/topics/lobby/events?key=a&meta=[]":                              "meta",
		"/v1/topics/lobby/events?key=a&meta=nope":                            "meta",
		"/v1/topics/lobby/events?key=a&meta={}{}":                            "meta",
		"/v1/topics/lobby/events?key=a&meta={}&meta={}":                      "meta",
		"/v1/topics/lobby/events?key=a&meta=" + strings.Repeat("%5B", 20000): "meta",
		"/v1/topics/lobby/events?linger=5":                                   "linger",
		"/v1/topics/lobby/events?key=a&linger=-1":                            "linger",
		"/v1/topics/lobby/events?key=a&linger=61":                            "linger",
		"/v1/topics/lobby/events?key=a&linger=5s":                            "linger",
		"/v1/topics/lobby/events?key=a&linger=":                              "linger",
		"/v1/topics/lobby/events?session=short":                              "session",
		"/v1/topics/lobby/events?key=a&session=":                             "session",
		"/v1/topics/lobby/events?last_event_id=1&last_event_id=2":            "last_event_id",
	} {
		n.get(path).wantProblem(http.StatusUnprocessableEntity, api.ProblemCodeInvalidField, field)
	}
	if got := decode[api.Whereabouts](n.get("/v1/keys/a").want(http.StatusOK)); got.Online {
		t.Errorf("a refused stream has tracked: %+v", got)
	}
}
