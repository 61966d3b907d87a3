package e2e

import (
	"net/http"
	"testing"

	rollcallclient "rollcall/clients/go"
)

func TestANodeThatStoodStillIsHiddenAndComesBackAsItWas(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 3, "--down-after=8s") // longer than a node waits for the answer of another one
	victim, others := c.leader()
	id, client := victim.id(), c.balanced(others...)
	crew := c.newCrew(victim, "follows", "follows by stream", "stays", "rests")
	gallery, own := watchCrew(others), watchCrew([]*node{victim})

	victim.Suspend()
	others[0].watch(lobbyEvents + "?session=" + sessionOf("follows by stream")).nextState()
	others[0].call(http.StatusOK, "POST", "/v1/sessions/"+sessionOf("follows")+"/heartbeat", "")
	gallery.see(crew, nil, []string{"stays", "rests"}) // in one diff a topic; those who moved were never away
	for _, n := range others {
		n.awaitState(id, rollcallclient.Down)
	}
	checkViews(true, others...)
	newcomer := client.track("room:lobby", `{"key":"newcomer"}`)
	gallery.lobby.seeJoin(newcomer)

	victim.Resume()
	gallery.see(crew, []string{"stays", "rests"}, nil)
	own.lobby.seeJoin(newcomer) // and nothing else: those whom the node had itself were always there
	c.awaitAgreement()
	checkViews(false, c.nodes...)
	all := gallery
	all.lobby, all.attic = append(all.lobby, own.lobby...), append(all.attic, own.attic...)
	for _, key := range []string{"follows", "follows by stream", "stays"} { // one more change shows that there was no other diff before it
		victim.leave(sessionOf(key))
		all.see(crew, nil, []string{key})
	}
	c.agree("room:lobby", all.lobby)
	c.agree("room:attic", all.attic)
}
