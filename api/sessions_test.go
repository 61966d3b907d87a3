package api_test

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"rollcall/api"
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
