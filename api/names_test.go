package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"rollcall/api"
)

// names are valid topics and keys that some layer might decode once too often, once too little, or take for something else.
var names = []string{
	"lobby", "room:lobby", "room/lobby", "/lobby", "lobby/", "/", "//", "a//b", "query", "que", "queryy", "count", "presences", "events",
	"100%", "100%25", "%2F", "%252F", "%", "%zz", "a+b", "a b", " ", "%2B", "+", "é", "%C3%A9", "e\u0301", "👩‍👩‍👧", "日本", "a?b", "?", "#", "a#b",
	"~", ";", "a;b", "a=b&c=d", "a,b", "@", "!$&'()*+,;=:@", "<script>", `"quoted"`, `back\slash`, "__proto__", "constructor", ":topic", ":key", "*", ".", "..", "...",
	"a.b", "{topic}", "null", "0", "-", strings.Repeat("x", 255), strings.Repeat("é", 127), "\u00a0", "\u200b", "\u2028",
}

// encodings are ways in which clients write a name into a path; all mean the same.
var encodings = map[string]func(string) string{
	"as little as Go's url package does": pathEscape,
	"as much as a query needs":           func(name string) string { return strings.ReplaceAll(url.QueryEscape(name), "+", "%20") },
	"every byte":                         func(name string) string { return everyByte(name, "%%%02X") },
	"every byte in lower case":           func(name string) string { return everyByte(name, "%%%02x") },
}

func pathEscape(name string) string { return url.PathEscape(name) }

func everyByte(name, format string) string {
	var b strings.Builder
	for i := range len(name) {
		fmt.Fprintf(&b, format, name[i])
	}
	return b.String()
}

func TestNamesInPathsAreDecodedExactlyOnce(t *testing.T) {
	for how, escape := range encodings {
		t.Run(how, func(t *testing.T) {
			n := start(t)
			for _, name := range names {
				checkNameOnEveryRoute(n, name, escape(name))
			}
		})
	}
}

// checkNameOnEveryRoute uses one name as topic and as key, in every place where a path may hold it.
func checkNameOnEveryRoute(n *node, name, escaped string) {
	n.Helper()
	topic := "/v1/topics/" + escaped
	member := topic + "/presences/" + escaped
	update := encode(n, map[string]any{"session": session1, "meta": map[string]any{"x": 1}})

	made := n.do("POST", topic+"/presences", encode(n, map[string]any{"key": name, "session": session1})).want(http.StatusCreated)
	if p := decode[api.Presence](made); p.Topic != name || p.Key != name {
		n.Fatalf("tracked %q in %q, want both %q", p.Key, p.Topic, name)
	}
	ref := onlyRef(n, decode[api.Metas](n.get(made.Header.Get("Location")).want(http.StatusOK)))

	for what, got := range map[string]string{
		"getPresence":   onlyRef(n, decode[api.Metas](n.get(member).want(http.StatusOK))),
		"listPresences": onlyRef(n, decode[api.PresenceState](n.get(topic + "/presences").want(http.StatusOK))[name]),
		"whereIs":       onlyRef(n, decode[api.Whereabouts](n.get("/v1/keys/" + escaped).want(http.StatusOK)).Topics[name]),
		"streamTopic":   onlyRef(n, firstState(n, topic+"/events")[name]),
	} {
		if got != ref {
			n.Errorf("%s of %q: ref %q, want %q", what, name, got, ref)
		}
	}
	if count := decode[api.Count](n.get(topic + "/count").want(http.StatusOK)); count.Keys != 1 {
		n.Errorf("countPresences of %q = %+v, want one", name, count)
	}
	for _, method := range []string{"PUT", "PATCH"} {
		if p := decode[api.Presence](n.do(method, member, update).want(http.StatusOK)); p.Topic != name || p.Key != name {
			n.Errorf("%s changed %q in %q, want %q", method, p.Key, p.Topic, name)
		}
	}
	n.do("DELETE", member+"?session="+session1, "").want(http.StatusNoContent)
	n.get(member).wantProblem(http.StatusNotFound, api.ProblemCodeNotPresent, "")
}

func onlyRef(n *node, metas api.Metas) string {
	n.Helper()
	if len(metas.Metas) != 1 {
		n.Errorf("%d metas, want 1", len(metas.Metas))
		return ""
	}
	return metas.Metas[0].PhxRef
}

func firstState(n *node, path string) (state api.PresenceState) {
	n.Helper()
	events := n.stream(path)
	defer events.close()
	if err := json.Unmarshal([]byte(events.next().data), &state); err != nil {
		n.Fatal(err)
	}
	return state
}

func TestNamesThatAreNoneAreInvalidFields(t *testing.T) {
	n := start(t)
	update := `{"session":"` + session1 + `","meta":{}}`
	for _, bad := range []string{"", "%FF", "%C3%28", "%00", "%0A", "%7F", "%C2%85", "%ED%A0%80", strings.Repeat("x", 256), strings.Repeat("%C3%A9", 128)} {
		for _, call := range []struct{ method, path, body, field string }{
			{"GET", "/v1/topics/" + bad + "/count", "", "topic"},
			{"GET", "/v1/topics/" + bad + "/presences", "", "topic"},
			{"POST", "/v1/topics/" + bad + "/presences", `{"key":"Alice"}`, "topic"},
			{"GET", "/v1/topics/" + bad + "/events", "", "topic"},
			{"GET", "/v1/topics/" + bad + "/presences/Alice", "", "topic"},
			{"GET", "/v1/topics/lobby/presences/" + bad, "", "key"},
			{"PUT", "/v1/topics/lobby/presences/" + bad, update, "key"},
			{"PATCH", "/v1/topics/lobby/presences/" + bad, update, "key"},
			{"DELETE", "/v1/topics/lobby/presences/" + bad + "?session=" + session1, "", "key"},
			{"GET", "/v1/keys/" + bad, "", "key"},
			{"GET", "/v1/events?topic=lobby&topic=" + bad, "", "topic"},
			{"GET", "/v1/topics/lobby/events?key=" + bad, "", "key"},
		} {
			n.do(call.method, call.path, call.body).wantProblem(http.StatusUnprocessableEntity, api.ProblemCodeInvalidField, call.field)
		}
	}
}

func TestSlashInsideANameMustBeEncoded(t *testing.T) {
	n := start(t)
	for _, path := range []string{
		"/v1/topics/room/lobby/presences", "/v1/topics/lobby/presences/a/b", "/v1/topics/lobby/presences/a/", "/v1/keys/a/b", "/v1/keys//",
		"/v1/topics/room%2Flobby/presences/a/b", "/v1/keys/a%2Fb/c",
	} {
		n.get(path).wantProblem(http.StatusNotFound, api.ProblemCodeNotFound, "")
	}
}

func TestPathsThatAreNotPercentEncodedAreBadRequests(t *testing.T) {
	n := start(t)
	for _, path := range []string{"/v1/keys/%zz", "/v1/keys/%", "/v1/keys/%f", "/v1/topics/100%/presences", "/%"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(n.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("GET %s = %s, want 400", path, response.Status)
		}
		response.Body.Close()
		conn.Close()
	}
}
