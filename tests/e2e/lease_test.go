package e2e

import (
	"net/http"
	"slices"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

func TestWhoVanishesWithoutAWordIsGoneWhenTheLeaseRunsOut(t *testing.T) {
	t.Parallel()
	n := serve(t)
	w := n.watch("/v1/topics/room:lobby/events")
	w.nextState()
	start := time.Now()
	alice := n.track("room:lobby", `{"key":"Alice","ttl":1}`)
	if joins := w.nextDiff().Joins; joins["Alice"].Metas[0].PhxRef != alice.Ref {
		t.Errorf("joined %v, want Alice with ref %s", joins, alice.Ref)
	}
	leaves := w.nextDiff().Leaves
	if lived := time.Since(start); lived < time.Second {
		t.Errorf("gone after %v, want at least a second", lived)
	}
	if leaves["Alice"].Metas[0].PhxRef != alice.Ref {
		t.Errorf("left %v, want Alice with ref %s", leaves, alice.Ref)
	}
	if state := n.list("room:lobby"); len(state) != 0 {
		t.Errorf("still there is %v", state)
	}
	n.refused(http.StatusNotFound, "unknown_session", "POST", "/v1/sessions/"+alice.Session+"/heartbeat", "")
	if page := get[rollcallclient.TopicPage](n, "/v1/topics"); len(page.Topics) != 0 {
		t.Errorf("topics are %v, want none", page.Topics)
	}
}

func TestHeartbeatsKeepASessionAlive(t *testing.T) {
	t.Parallel()
	n := serve(t)
	n.track("room:lobby", `{"key":"alone","session":"renewed-by-itself","ttl":3}`)
	n.track("room:lobby", `{"key":"among many","session":"renewed-by-gateway","ttl":3}`)
	n.track("room:lobby", `{"key":"vanished","ttl":4}`)
	program.Eventually(t, func() bool { // the one that vanished tells when the leases of the others would be over
		lease := decode[rollcallclient.Lease](t, n.call(http.StatusOK, "POST", "/v1/sessions/renewed-by-itself/heartbeat", "").body)
		if left := time.Until(lease.ExpiresAt); left <= 0 || left > 3*time.Second {
			t.Errorf("renewed for %v, want about 3 s", left)
		}
		result := decode[rollcallclient.HeartbeatsResult](t, n.call(http.StatusOK, "POST", "/v1/heartbeats",
			`{"sessions":["renewed-by-gateway","never-seen-before","renewed-by-gateway"]}`).body)
		if result.Renewed != 1 || !slices.Equal(result.Unknown, []string{"never-seen-before"}) {
			t.Errorf("heartbeats: %+v, want 1 renewed and 1 unknown", result)
		}
		_, there := n.list("room:lobby")["vanished"]
		return !there
	}, "the end of the lease that nobody renews")
	if got := devices(n.list("room:lobby")); len(got) != 2 {
		t.Errorf("there are %v, want the two who were renewed", got)
	}
}

func TestAnUpdateRenewsTheLease(t *testing.T) {
	t.Parallel()
	n := serve(t)
	for _, key := range []string{"put", "patched"} {
		n.track("room:lobby", object(t, map[string]any{"key": key, "session": "session-of-" + key + "-1", "ttl": 3}))
	}
	n.track("room:lobby", `{"key":"vanished","ttl":4}`)
	program.Eventually(t, func() bool {
		n.call(http.StatusOK, "PUT", presenceOf("room:lobby", "put"), `{"session":"session-of-put-1","meta":{}}`)
		n.call(http.StatusOK, "PATCH", presenceOf("room:lobby", "patched"), `{"session":"session-of-patched-1","meta":{}}`)
		_, there := n.list("room:lobby")["vanished"]
		return !there
	}, "the end of the lease that nobody renews")
	if got := devices(n.list("room:lobby")); len(got) != 2 {
		t.Errorf("there are %v, want the two who were updated", got)
	}
}
