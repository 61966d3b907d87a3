package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

func TestAClientWhoseRequestsGoToAnotherNodeEachTime(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 3)
	client, lobby := c.balanced(), watchAt(c.nodes, "room:lobby")
	const alice = "alice-phone-00001"
	renew := func(session string) {
		t.Helper()
		client.call(http.StatusOK, "POST", "/v1/sessions/"+session+"/heartbeat", "")
	}
	change := func(method string, status int, key, meta string) rollcallclient.Presence {
		t.Helper()
		body := fmt.Sprintf(`{"session":%q,"meta":%s}`, alice, meta)
		return decode[rollcallclient.Presence](t, client.call(status, method, presenceOf("room:lobby", key), body).body)
	}

	// What each witness sees after one step is just what the step asked for: a diff for anything before would come first.
	first := client.track("room:lobby", `{"key":"Alice","session":"alice-phone-00001","meta":{"device":"phone","status":"here"},"ttl":60}`)
	lobby.seeJoin(first)
	away := change("PATCH", http.StatusOK, "Alice", `{"status":"away"}`)
	lobby.seeUpdate(first, away)
	if string(away.Meta) != `{"device":"phone","status":"away"}` || away.Ttl != 60 {
		t.Errorf("patched %+v, want both members and the ttl of the track", away)
	}
	renew(alice)
	if same := change("PUT", http.StatusOK, "Alice", string(away.Meta)); same.Ref != away.Ref {
		t.Errorf("an equal meta made ref %s of %s", same.Ref, away.Ref)
	}
	for range c.nodes {
		problem := client.refused(http.StatusConflict, "already_tracked", "POST", presences("room:lobby"), `{"key":"Alice","session":"alice-phone-00001"}`)
		if problem.Ref == nil || *problem.Ref != away.Ref {
			t.Errorf("a retry names the ref %v, want %s", problem.Ref, away.Ref)
		}
	}
	back := change("PUT", http.StatusOK, "Alice", `{"status":"back"}`)
	lobby.seeUpdate(away, back)
	alicia := change("PUT", http.StatusCreated, "Alicia", `{}`)
	lobby.seeJoin(alicia)
	for range 2 {
		client.call(http.StatusNoContent, "DELETE", presenceOf("room:lobby", "Alicia")+"?session="+alice, "")
	}
	lobby.seeLeave(alicia)
	client.refused(http.StatusNotFound, "not_present", "PATCH", presenceOf("room:lobby", "Alicia"), `{"session":"alice-phone-00001","meta":{}}`)
	for range c.nodes { // for each node it is a session of another one, or was until a moment ago
		client.watch("/v1/topics/elsewhere/events?session=" + alice).nextState()
		renew(alice)
	}

	bob := client.track("room:lobby", `{"key":"Bob"}`) // under a session that a node made
	lobby.seeJoin(bob)
	for range c.nodes {
		renew(bob.Session)
		client.track("room:attic", fmt.Sprintf(`{"key":"Bob","session":%q}`, bob.Session))
		client.call(http.StatusNoContent, "DELETE", presenceOf("room:attic", "Bob")+"?session="+bob.Session, "")
	}
	client.call(http.StatusNoContent, "POST", "/v1/sessions/"+bob.Session+"/leave", "")
	lobby.seeLeave(bob)
	client.leave(alice)
	lobby.seeLeave(back)
	for _, session := range []string{alice, bob.Session} {
		for range c.nodes {
			client.refused(http.StatusNotFound, "unknown_session", "POST", "/v1/sessions/"+session+"/heartbeat", "")
		}
	}
	if state := c.agree("room:lobby", lobby); len(state) != 0 {
		t.Errorf("at the end there is %v, want nobody", state)
	}
}

func TestATabWhoseStreamOpensAtAnotherNodeEachTime(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 3)
	client, lobby := c.balanced(), watchAt(c.nodes, "room:lobby")
	const stream = lobbyEvents + "?key=Alice&session=alice-tab-0000001&linger=10"
	alice := rollcallclient.Presence{Key: "Alice"}
	for i := range 2 * len(c.nodes) {
		tab := client.watch(stream)
		own := tab.nextState()["Alice"].Metas
		if len(own) != 1 {
			t.Fatalf("Alice sees herself as %+v, want one device", own)
		}
		if i == 0 {
			alice.Ref = own[0].PhxRef
			lobby.seeJoin(alice)
		}
		if own[0].PhxRef != alice.Ref {
			t.Errorf("stream %d has ref %s, want %s", i, own[0].PhxRef, alice.Ref)
		}
		if i%2 == 0 { // else the next one opens while this one is
			tab.close()
		}
	}
	client.call(http.StatusNoContent, "POST", "/v1/sessions/alice-tab-0000001/leave", "")
	lobby.seeLeave(alice)
}

func TestAStreamBringsItsSessionToItsNode(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 3)
	lobby := watchAt(c.nodes, "room:lobby")
	alice := c.nodes[0].track("room:lobby", `{"key":"Alice","session":"alice-tab-0000001","ttl":2}`)
	lobby.seeJoin(alice)
	here, elsewhere := c.nodes[1], c.nodes[2]
	first := here.watch("/v1/topics/elsewhere/events?session=alice-tab-0000001&linger=3")
	second := elsewhere.watch("/v1/topics/elsewhere/events?session=alice-tab-0000001&linger=3")
	program.Eventually(t, func() bool {
		return c.nodes[0].metric("rollcall_sessions") == 0 && here.metric("rollcall_sessions") == 0 && elsewhere.metric("rollcall_sessions") == 1
	}, "the session is where its last stream is, and nowhere else")

	outlive := func(what string) { // what keeps the session does so for longer than its ttl
		t.Helper()
		clock := c.nodes[0].track("room:lobby", `{"key":"clock","ttl":4}`)
		lobby.seeJoin(clock)
		lobby.seeLeave(clock)
		if got := refs(c.nodes[0].list("room:lobby")); len(got["Alice"]) != 1 || got["Alice"][0] != alice.Ref {
			t.Fatalf("with %s there are %v, want Alice with ref %s", what, got, alice.Ref)
		}
	}
	outlive("both streams")
	second.close()
	outlive("the first stream, which is not where the session is")
	first.close()
	lobby.seeLeave(alice)
}

func TestAGatewayRenewsAThousandSessionsOfAllNodesByOneCall(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 3)
	client := c.balanced()
	const many, short = 1000, 10
	everybody := make([]string, many)
	var tracking sync.WaitGroup
	for worker := range 4 {
		tracking.Go(func() {
			for i := worker; i < many-short; i += 4 { // one in ten under an id of its own, of which no node can tell where it is
				var id string
				if i%10 == 0 {
					id = fmt.Sprintf(`,"session":"gateway-session-%04d"`, i)
				}
				got, err := client.send("POST", presences("room:lobby"), fmt.Sprintf(`{"key":"user %d"%s}`, i, id), nil)
				if err != nil || got.status != http.StatusCreated {
					t.Errorf("track: %d %s, %v", got.status, got.body, err)
					return
				}
				everybody[i] = decode[rollcallclient.Presence](t, got.body).Session
			}
		})
	}
	tracking.Wait()
	for i := many - short; i < many; i++ {
		everybody[i] = client.track("room:lobby", fmt.Sprintf(`{"key":"user %d","ttl":4}`, i)).Session
	}
	c.nodes[0].track("room:lobby", `{"key":"clock","ttl":5}`) // is gone when those would be who are not renewed
	renew := func(sessions []string) rollcallclient.HeartbeatsResult {
		t.Helper()
		body := object(t, map[string]any{"sessions": sessions})
		return decode[rollcallclient.HeartbeatsResult](t, client.call(http.StatusOK, "POST", "/v1/heartbeats", body).body)
	}
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	for c.nodes[0].has("room:lobby", "clock") {
		if result := renew(everybody); result.Renewed != many || len(result.Unknown) != 0 {
			t.Fatalf("heartbeats: %d renewed, unknown %v; want all %d renewed", result.Renewed, result.Unknown, many)
		}
		<-beat.C
	}
	if state := c.agree("room:lobby", watchAt(c.nodes, "room:lobby")); len(state) != many {
		t.Errorf("there are %d, want the %d who were renewed", len(state), many)
	}
	strangers := append(slices.Clone(everybody[:many-2]), "never-seen-before-2", "never-seen-before-1")
	for range c.nodes {
		if result := renew(strangers); result.Renewed != many-2 || !slices.Equal(result.Unknown, strangers[many-2:]) {
			t.Errorf("heartbeats: %d renewed, unknown %v; want %d and %v", result.Renewed, result.Unknown, many-2, strangers[many-2:])
		}
	}
}
