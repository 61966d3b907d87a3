package e2e

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

// crew is sessions that live on one node, each under a key that says what becomes of it, in two topics.
type crew struct {
	t            *testing.T
	lobby, attic map[string]rollcallclient.Presence
}

// newCrew tracks sessions at a node, and waits until all nodes know them and a crash would not lose them.
func (c *cluster) newCrew(n *node, keys ...string) crew {
	n.t.Helper()
	crew := crew{t: n.t, lobby: map[string]rollcallclient.Presence{}, attic: map[string]rollcallclient.Presence{}}
	for _, key := range keys {
		body := fmt.Sprintf(`{"key":%q,"session":%q}`, key, sessionOf(key))
		crew.lobby[key] = n.track("room:lobby", body)
		crew.attic[key] = n.track("room:attic", body)
	}
	program.Eventually(n.t, func() bool { return n.metric("rollcall_journal_records") == float64(len(keys)) }, "all are in the journal")
	c.agree("room:lobby", nil)
	c.agree("room:attic", nil)
	return crew
}

// sessionOf is the session of one of a crew.
func sessionOf(key string) string { return "session-of-" + strings.ReplaceAll(key, " ", "-") + "-1" }

// refs are those of some in one topic.
func (c crew) refs(of map[string]rollcallclient.Presence, keys ...string) map[string][]string {
	some := map[string][]string{}
	for _, key := range keys {
		some[key] = []string{of[key].Ref}
	}
	return some
}

// gallery is witnesses of the crew's topics.
type gallery struct{ lobby, attic witnesses }

func watchCrew(nodes []*node) gallery {
	return gallery{watchAt(nodes, "room:lobby"), watchAt(nodes, "room:attic")}
}

// see is witnesses.see for some who come to both topics, and some who leave them.
func (g gallery) see(c crew, joins, leaves []string) {
	c.t.Helper()
	g.lobby.see(c.refs(c.lobby, joins...), c.refs(c.lobby, leaves...))
	g.attic.see(c.refs(c.attic, joins...), c.refs(c.attic, leaves...))
}

// views are all the answers that say when they may lack somebody.
var views = []string{
	presences("room:lobby"), presenceOf("room:lobby", "follows"), "/v1/topics/room:lobby/count", "/v1/topics", "/v1/keys/follows", lobbyEvents, "/v1/events?topic=room:lobby",
}

// checkViews fails the test unless these nodes say in all answers that they may, or cannot, lack somebody.
func checkViews(incomplete bool, nodes ...*node) {
	for _, n := range nodes {
		n.t.Helper()
		for _, path := range views {
			if n.incomplete(path) != incomplete {
				n.t.Errorf("%s at %s says that it is incomplete: %v, want %v", path, n.URL, !incomplete, incomplete)
			}
		}
	}
}

func TestWhenANodeIsKilledItsPeopleAreHiddenExceptThoseWhoGoOnElsewhere(t *testing.T) {
	for _, end := range []string{"it comes back", "it is removed"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			c := serveCluster(t, 3, "--down-after=5s")
			victim, others := c.leader()
			id, client := victim.id(), c.balanced(others...)
			crew := c.newCrew(victim, "follows", "returns", "stays", "rests")
			gallery := watchCrew(others)
			checkViews(false, c.nodes...)

			victim.Kill()
			client.call(http.StatusOK, "POST", "/v1/sessions/"+sessionOf("follows")+"/heartbeat", "") // is adopted before anybody misses the node
			gallery.see(crew, nil, []string{"returns", "stays", "rests"})                             // in one diff a topic
			checkViews(true, others...)
			for _, n := range others {
				n.awaitState(id, rollcallclient.Down)
			}
			client.call(http.StatusOK, "POST", "/v1/sessions/"+sessionOf("returns")+"/heartbeat", "") // is adopted although it is hidden
			gallery.see(crew, []string{"returns"}, nil)
			problem := client.refused(http.StatusConflict, "already_tracked", "POST", presences("room:lobby"),
				object(t, map[string]any{"key": "follows", "session": sessionOf("follows")}))
			if *problem.Ref != crew.lobby["follows"].Ref {
				t.Errorf("adopted with ref %s, want %s", *problem.Ref, crew.lobby["follows"].Ref)
			}

			there := []string{"follows", "returns"}
			if end == "it is removed" {
				others[0].remove(id)
				c.awaitAgreement(others...)
				checkViews(false, others...)
			} else {
				c.start(victim)
				c.awaitAgreement()
				gallery.see(crew, []string{"stays", "rests"}, nil) // as the journal has them
				there = append(there, "stays", "rests")
				checkViews(false, c.nodes...)
			}
			// One more change shows that there was no other diff before it.
			client.leave(sessionOf("follows"))
			gallery.see(crew, nil, []string{"follows"})
			there = there[1:]
			if state := c.agree("room:lobby", gallery.lobby); !reflect.DeepEqual(refs(state), crew.refs(crew.lobby, there...)) {
				t.Errorf("in the lobby are %v, want %v", refs(state), crew.refs(crew.lobby, there...))
			}
		})
	}
}

func TestNobodySeesThatANodeWasKilledWhenItIsBackInTime(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 3)
	victim, others := c.nodes[1], []*node{c.nodes[0], c.nodes[2]}
	crew := c.newCrew(victim, "stays", "follows")
	gallery := watchCrew(others)
	for range 3 {
		victim.Kill()
		others[0].call(http.StatusOK, "POST", "/v1/sessions/"+sessionOf("follows")+"/heartbeat", "")
		c.start(victim)
		c.awaitAgreement()
	}
	if state := c.agree("room:lobby", nil); !reflect.DeepEqual(refs(state), crew.refs(crew.lobby, "stays", "follows")) {
		t.Errorf("in the lobby are %v, want %v", refs(state), crew.refs(crew.lobby, "stays", "follows"))
	}
	for _, key := range []string{"follows", "stays"} {
		victim.leave(sessionOf(key))
		gallery.see(crew, nil, []string{key})
	}
}

func TestAClusterThatWasKilledAsAWholeStartsAgain(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 3)
	var sessions []string
	want := map[string][]string{}
	for i, n := range c.nodes {
		p := n.track("room:lobby", fmt.Sprintf(`{"key":"user %d"}`, i))
		sessions = append(sessions, p.Session)
		want[p.Key] = []string{p.Ref}
	}
	c.agree("room:lobby", nil)
	for _, n := range c.nodes {
		program.Eventually(t, func() bool { return n.metric("rollcall_journal_records") == 1 }, "a session in the journal")
	}
	for _, n := range c.nodes {
		n.Kill()
	}
	c.start(c.nodes...)
	c.awaitAgreement()
	if state := c.agree("room:lobby", nil); !reflect.DeepEqual(refs(state), want) {
		t.Errorf("in the lobby are %v, want %v", refs(state), want)
	}
	lobby, client := watchAt(c.nodes, "room:lobby"), c.balanced()
	result := decode[rollcallclient.HeartbeatsResult](t, client.call(http.StatusOK, "POST", "/v1/heartbeats", object(t, map[string]any{"sessions": sessions})).body)
	if result.Renewed != len(sessions) {
		t.Errorf("renewed are %d, unknown %v; want all %d", result.Renewed, result.Unknown, len(sessions))
	}
	lobby.seeJoin(client.track("room:lobby", `{"key":"Alice"}`))
}
