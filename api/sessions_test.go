package api_test

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"rollcall/api"
	"rollcall/presence"
)

func TestHeartbeatRenewsALease(t *testing.T) {
	n := start(t)
	n.do("POST", "/v1/sessions/"+session1+"/heartbeat", "").wantProblem(http.StatusNotFound, api.ProblemCodeUnknownSession, "")
	n.track("lobby", "Alice", session1)
	for _, header := range [][]string{nil, {"Content-Type", "text/plain"}} { // a body is ignored
		lease := decode[api.Lease](n.do("POST", "/v1/sessions/"+session1+"/heartbeat", "{not JSON", header...).want(http.StatusOK))
		if left := time.Until(lease.ExpiresAt); lease.Session != session1 || left < 20*time.Second || left > 31*time.Second {
			t.Errorf("lease = %+v, ends in %v", lease, left)
		}
	}
}

func TestHeartbeatsRenewTheSessionsThatAreKnown(t *testing.T) {
	n := start(t)
	n.track("lobby", "Alice", session1)
	body := encode(t, map[string]any{"sessions": []string{session1, session2, session1, session2}})
	got := decode[api.HeartbeatsResult](n.do("POST", "/v1/heartbeats", body).want(http.StatusOK))
	if want := (api.HeartbeatsResult{Renewed: 1, Unknown: []string{session2}}); !reflect.DeepEqual(got, want) {
		t.Errorf("heartbeats = %+v, want %+v", got, want)
	}
	got = decode[api.HeartbeatsResult](n.do("POST", "/v1/heartbeats", `{"sessions":[]}`).want(http.StatusOK))
	if got.Renewed != 0 || got.Unknown == nil {
		t.Errorf("heartbeats of none = %+v", got)
	}

	n.do("POST", "/v1/heartbeats", encode(t, map[string]any{"sessions": numbered("s", 1000)})).want(http.StatusOK)
	n.do("POST", "/v1/heartbeats", encode(t, map[string]any{"sessions": numbered("s", 1001)})).
		wantProblem(http.StatusUnprocessableEntity, api.ProblemCodeInvalidField, "sessions")
	problem := n.do("POST", "/v1/heartbeats", encode(t, map[string]any{"sessions": []string{session1, "short"}})).
		wantProblem(http.StatusUnprocessableEntity, api.ProblemCodeInvalidField, "sessions")
	if want := "sessions[1] must be 16 to 64 characters of A-Za-z0-9_-."; problem.Detail != want {
		t.Errorf("detail = %s, want %s", problem.Detail, want)
	}
}

func TestLeaveEndsASession(t *testing.T) {
	n := start(t)
	leaves := []struct{ method, path, body, mediaType string }{
		{"DELETE", "/v1/sessions/" + session1, "", ""},
		{"POST", "/v1/sessions/" + session1 + "/leave", "", ""},
		{"POST", "/v1/sessions/" + session1 + "/leave", "bye", "text/plain;charset=UTF-8"}, // what sendBeacon sends
		{"POST", "/v1/sessions/" + session1 + "/leave", "{", "application/json"},
	}
	for _, leave := range leaves {
		n.track("lobby", "Alice", session1)
		n.track("attic", "Alice", session1)
		for range 2 { // the second finds nothing, which is a success as well
			n.do(leave.method, leave.path, leave.body, "Content-Type", leave.mediaType).want(http.StatusNoContent)
		}
		if got := decode[api.Whereabouts](n.get("/v1/keys/Alice").want(http.StatusOK)); got.Online {
			t.Errorf("after %s %s Alice is %+v", leave.method, leave.path, got)
		}
	}
}

// elsewhere is a Sessions whose sessions all live in another tracker, which this node's does not know of.
type elsewhere struct {
	owner *presence.Tracker
	err   error // of every call, if it is set
}

func (e *elsewhere) Track(_ context.Context, r presence.TrackRequest) (presence.Tracked, error) {
	if e.err != nil {
		return presence.Tracked{}, e.err
	}
	return e.owner.Track(r)
}

func (e *elsewhere) Update(_ context.Context, topic presence.Topic, key presence.Key, session presence.SessionID, meta presence.Meta) (presence.Tracked, bool, error) {
	if e.err != nil {
		return presence.Tracked{}, false, e.err
	}
	return e.owner.Update(topic, key, session, meta)
}

func (e *elsewhere) Patch(_ context.Context, topic presence.Topic, key presence.Key, session presence.SessionID, patch presence.Meta) (presence.Tracked, error) {
	if e.err != nil {
		return presence.Tracked{}, e.err
	}
	return e.owner.Patch(topic, key, session, patch)
}

func (e *elsewhere) Untrack(_ context.Context, topic presence.Topic, key presence.Key, session presence.SessionID) error {
	if e.err != nil {
		return e.err
	}
	return e.owner.Untrack(topic, key, session)
}

func (e *elsewhere) Leave(_ context.Context, session presence.SessionID) error {
	if e.err != nil {
		return e.err
	}
	return e.owner.Leave(session)
}

func (e *elsewhere) Heartbeat(_ context.Context, session presence.SessionID) (presence.Lease, error) {
	if e.err != nil {
		return presence.Lease{}, e.err
	}
	return e.owner.Heartbeat(session)
}

func (e *elsewhere) Heartbeats(_ context.Context, sessions []presence.SessionID) ([]presence.SessionID, error) {
	if e.err != nil {
		return nil, e.err
	}
	return e.owner.Heartbeats(sessions), nil
}

func (e *elsewhere) Attach(_ context.Context, r presence.AttachRequest) (*presence.Binding, error) {
	if e.err != nil {
		return nil, e.err
	}
	return e.owner.Attach(r)
}

func TestWritesGoWhereTheSessionLives(t *testing.T) {
	owner := start(t)
	n := start(t, func(c *api.Config) { c.Sessions = &elsewhere{owner: owner.tracker} })
	at := func() string { return owner.get("/v1/topics/lobby/presences").want(http.StatusOK).body }
	const path, session = "/v1/topics/lobby/presences/Alice", `{"session":"` + session1 + `","meta":`

	p := n.track("lobby", "Alice", session1)
	n.do("PUT", path, session+`{"a":1}}`).want(http.StatusOK)
	n.do("PUT", "/v1/topics/attic/presences/Alice", session+`{}}`).want(http.StatusCreated)
	patched := decode[api.Presence](n.do("PATCH", path, session+`{"b":2}}`).want(http.StatusOK))
	if string(patched.Meta) != `{"a":1,"b":2}` || patched.Ref == p.Ref || !strings.Contains(at(), patched.Ref) {
		t.Errorf("patched to %+v; the owner has %s", patched, at())
	}
	n.do("POST", "/v1/topics/lobby/presences", `{"key":"Alice","session":"`+session1+`"}`).
		wantProblem(http.StatusConflict, api.ProblemCodeAlreadyTracked, "")
	n.do("POST", "/v1/sessions/"+session1+"/heartbeat", "").want(http.StatusOK)
	n.do("POST", "/v1/sessions/"+session2+"/heartbeat", "").wantProblem(http.StatusNotFound, api.ProblemCodeUnknownSession, "")
	beats := decode[api.HeartbeatsResult](n.do("POST", "/v1/heartbeats", `{"sessions":["`+session1+`","`+session2+`"]}`).want(http.StatusOK))
	if beats.Renewed != 1 || !reflect.DeepEqual(beats.Unknown, []string{session2}) {
		t.Errorf("heartbeats = %+v", beats)
	}
	stream := n.stream("/v1/topics/lobby/events?key=Bob&linger=0&session=" + session2)
	eventually(t, "the stream is a presence", func() bool { return strings.Contains(at(), "Bob") })
	stream.close()
	eventually(t, "the stream's presence has ended", func() bool { return !strings.Contains(at(), "Bob") })
	n.do("DELETE", path+"?session="+session1, "").want(http.StatusNoContent)
	if got := at(); got != "{}" {
		t.Errorf("after untrack the owner has %s", got)
	}
	n.do("DELETE", "/v1/sessions/"+session1, "").want(http.StatusNoContent)
	if got := decode[api.Whereabouts](owner.get("/v1/keys/Alice").want(http.StatusOK)); got.Online {
		t.Errorf("after leave the owner has Alice in %+v", got)
	}
	if stats := n.tracker.Stats(); stats.Tracks != 0 || stats.Heartbeats != 0 {
		t.Errorf("this node's own tracker has done %+v", stats)
	}
}

func TestWritesThatCannotReachTheOwnerSayWhen(t *testing.T) {
	n := start(t, func(c *api.Config) { c.Sessions = &elsewhere{err: fmt.Errorf("forward: %w", api.ErrUnavailable)} })
	const session = `{"session":"` + session1 + `","meta":{}}`
	for _, call := range []struct{ method, path, body string }{
		{"POST", "/v1/topics/lobby/presences", `{"key":"Bob"}`},
		{"PUT", "/v1/topics/lobby/presences/Alice", session},
		{"PATCH", "/v1/topics/lobby/presences/Alice", session},
		{"DELETE", "/v1/topics/lobby/presences/Alice?session=" + session1, ""},
		{"POST", "/v1/sessions/" + session1 + "/heartbeat", ""},
		{"POST", "/v1/heartbeats", `{"sessions":["` + session1 + `"]}`},
		{"DELETE", "/v1/sessions/" + session1, ""},
		{"POST", "/v1/sessions/" + session1 + "/leave", ""},
		{"GET", "/v1/topics/lobby/events?key=Alice", ""},
		{"GET", "/v1/events?topic=lobby&session=" + session1, ""},
	} {
		a := n.do(call.method, call.path, call.body)
		a.wantProblem(http.StatusServiceUnavailable, api.ProblemCodeUnavailable, "")
		if a.Header.Get("Retry-After") == "" {
			t.Errorf("%s %s: no Retry-After", call.method, call.path)
		}
	}
	n.stream("/v1/topics/lobby/events").next() // which binds nothing
}

func TestSessionsThatAreNoneAreInvalidFields(t *testing.T) {
	n := start(t)
	for _, bad := range []string{"", "short", "fifteen-letters", "%2F", "with%20space-0123456789", "0123456789012345%00", "é%C3%A9" + session1, session1 + session1 + session1} {
		for _, call := range []struct{ method, path, body string }{
			{"DELETE", "/v1/sessions/" + bad, ""},
			{"POST", "/v1/sessions/" + bad + "/leave", ""},
			{"POST", "/v1/sessions/" + bad + "/heartbeat", ""},
			{"DELETE", "/v1/topics/lobby/presences/Alice?session=" + bad, ""},
			{"GET", "/v1/topics/lobby/events?session=" + bad, ""},
			{"GET", "/v1/events?topic=lobby&session=" + bad, ""},
			{"POST", "/v1/topics/lobby/presences", `{"key":"Alice","session":"` + bad + `"}`},
			{"PUT", "/v1/topics/lobby/presences/Alice", `{"meta":{},"session":"` + bad + `"}`},
			{"PATCH", "/v1/topics/lobby/presences/Alice", `{"meta":{},"session":"` + bad + `"}`},
		} {
			n.do(call.method, call.path, call.body).wantProblem(http.StatusUnprocessableEntity, api.ProblemCodeInvalidField, "session")
		}
	}
}
