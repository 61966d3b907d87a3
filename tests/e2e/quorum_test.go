package e2e

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

func TestWithoutAQuorumPresenceGoesOnAndOnlyMembershipWaits(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 3, "--down-after=5s")
	last, victims := c.nodes[2], c.nodes[:2]
	id := victims[1].id()
	lobby := watchAt([]*node{last}, "room:lobby")
	alice := victims[0].track("room:lobby", `{"key":"Alice","session":"alice-phone-00001"}`)
	lobby.seeJoin(alice)
	for _, n := range victims {
		n.Kill()
	}
	last.call(http.StatusOK, "POST", "/v1/sessions/alice-phone-00001/heartbeat", "")
	program.Eventually(t, func() bool { return !get[rollcallclient.ClusterStatus](last, "/v1/cluster").Quorum }, "the quorum is lost")

	bob := last.track("room:lobby", `{"key":"Bob","session":"bobs-phone-000001"}`)
	lobby.seeJoin(bob)
	away := decode[rollcallclient.Presence](t, last.call(http.StatusOK, "PUT", presenceOf("room:lobby", "Alice"), `{"session":"alice-phone-00001","meta":{"status":"away"}}`).body)
	lobby.seeUpdate(alice, away)
	tab := last.watch(lobbyEvents + "?key=Carol&linger=0")
	carol := rollcallclient.Presence{Key: "Carol", Ref: tab.nextState()["Carol"].Metas[0].PhxRef}
	lobby.seeJoin(carol)
	tab.close()
	lobby.seeLeave(carol)
	if got := refs(last.list("room:lobby")); !reflect.DeepEqual(got, map[string][]string{"Alice": {away.Ref}, "Bob": {bob.Ref}}) {
		t.Errorf("in the lobby are %v", got)
	}
	if after := last.call(http.StatusServiceUnavailable, "DELETE", "/v1/cluster/nodes/"+id, "").header.Get("Retry-After"); after == "" {
		t.Error("no Retry-After")
	}
	last.refused(http.StatusServiceUnavailable, "no_quorum", "DELETE", "/v1/cluster/nodes/"+id, "")
	last.awaitState(id, rollcallclient.Down)
	for args, says := range map[string]string{
		"cluster": "The quorum is lost: nodes can neither join nor be removed", "cluster list --json": `"quorum":false`,
	} {
		if code, stdout, stderr := last.command(args); code != 0 || !strings.Contains(stdout, says) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q; want 0 and %q", args, code, stdout, stderr, says)
		}
	}

	c.start(victims[0]) // two of three are enough
	program.Eventually(t, func() bool { return get[rollcallclient.ClusterStatus](last, "/v1/cluster").Quorum }, "a quorum")
	last.remove(id)
	c.awaitAgreement(victims[0], last)
	if last.incomplete(presences("room:lobby")) {
		t.Error("the list is still incomplete")
	}
	if got := refs(c.agree("room:lobby", lobby)); !reflect.DeepEqual(got, map[string][]string{"Alice": {away.Ref}, "Bob": {bob.Ref}}) {
		t.Errorf("in the lobby are %v", got)
	}
}
