package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestSessionIDsAndQueriesAreToldToNobody(t *testing.T) {
	t.Parallel()
	const (
		chosen  = "secret-session-chosen-by-client"
		bound   = "secret-session-of-a-stream"
		unknown = "secret-session-that-is-unknown"
		invalid = "secret.session.that.is.invalid"
		token   = "secret-token-in-a-query"
	)
	n := serve(t, "--log-level=debug")
	shown := map[string]string{} // what others get to see
	refuse := func(raw string) {
		_, body := n.exchange(raw, true)
		shown[raw] = string(body)
	}

	w := n.watch(lobbyEvents + "?access_token=" + token)
	w.nextState()
	made := n.track("room:lobby", `{"key":"Alice"}`).Session
	n.track("room:lobby", fmt.Sprintf(`{"key":"Bob","session":%q}`, chosen))
	stream := n.watch(lobbyEvents + "?key=Carol&linger=60&session=" + bound + "&access_token=" + token)
	stream.nextState()
	for _, session := range []string{made, chosen, bound} {
		n.call(http.StatusOK, "POST", "/v1/sessions/"+session+"/heartbeat?access_token="+token, "")
		n.call(http.StatusOK, "POST", "/v1/heartbeats", fmt.Sprintf(`{"sessions":[%q]}`, session))
	}
	n.call(http.StatusConflict, "POST", presences("room:lobby"), fmt.Sprintf(`{"key":"Bob","session":%q}`, chosen))
	n.call(http.StatusOK, "PUT", presenceOf("room:lobby", "Bob"), fmt.Sprintf(`{"session":%q,"meta":{"n":1}}`, chosen))
	for _, session := range []string{unknown, invalid} {
		refuse(request("POST", "/v1/sessions/"+session+"/heartbeat", ""))
		refuse(request("GET", "/v1/sessions/"+session, ""))
		refuse(request("GET", "/v1/sessions/"+session+"/nothing?"+token, ""))
		refuse(request("GET", lobbyEvents+"?session="+session, ""))
		refuse(request("GET", lobbyEvents+"?session="+session+"&session="+session, ""))
		refuse(request("GET", lobbyEvents+"?key=a&linger="+session, ""))
		refuse(request("GET", lobbyEvents+"?session="+session+";%zz"+token, ""))
		refuse(request("GET", "/%zz/"+session+"?"+token, ""))
		refuse(request("PATCH", presenceOf("room:lobby", "Bob"), fmt.Sprintf(`{"session":%q,"meta":{}}`, session), asJSON))
		refuse(request("PATCH", presenceOf("room:lobby", "Bob"), fmt.Sprintf(`{"session":%q,"meta":{`, session), asJSON))
		refuse(request("POST", "/v1/heartbeats", fmt.Sprintf(`{"sessions":[%q,7]}`, session), asJSON))
		refuse(request("POST", "/v1/heartbeats", fmt.Sprintf(`{"sessions":%q}`, session), asJSON))
	}
	n.callWith(http.StatusOK, "GET", presences("room:lobby"), "", http.Header{"Referer": {n.URL + "/?" + token}, "Authorization": {"Bearer " + token}})
	refuse(request("GET", "/v1/topics?limit="+token, "", "X-Request-ID: an id: "+token))

	shown["the list"] = string(n.call(http.StatusOK, "GET", presences("room:lobby"), "").body)
	shown["a page"] = string(n.call(http.StatusOK, "GET", presences("room:lobby")+"?limit=10", "").body)
	shown["one presence"] = string(n.call(http.StatusOK, "GET", presenceOf("room:lobby", "Bob"), "").body)
	shown["the topics"] = string(n.call(http.StatusOK, "GET", "/v1/topics", "").body)
	shown["whereabouts"] = string(n.call(http.StatusOK, "GET", "/v1/keys/Carol", "").body)
	shown["who is online"] = string(n.call(http.StatusOK, "POST", "/v1/keys/query", `{"keys":["Alice","Bob","Carol"]}`).body)
	shown["a new stream"] = openRaw(n, lobbyEvents, nil).next().data
	for _, session := range []string{made, chosen, bound, unknown} {
		n.leave(session)
	}
	n.track("room:lobby", `{"key":"the last"}`)
	for len(w.state["the last"].Metas) == 0 {
		shown["the stream"] += w.next().data
	}
	shown["the metrics"] = string(n.call(http.StatusOK, "GET", "/metrics", "").body)
	n.stop()
	shown["the log"] = n.Stderr()

	if !strings.Contains(shown["the list"], "Carol") || !strings.Contains(shown["the log"], "/v1/sessions/:session/heartbeat") {
		t.Fatalf("not what it should be: %v", shown)
	}
	for name, text := range shown {
		for _, secret := range []string{made, chosen, bound, unknown, invalid, token} {
			if strings.Contains(text, secret) {
				t.Errorf("%.200q shows %s: %s", name, secret, text)
			}
		}
	}
}
