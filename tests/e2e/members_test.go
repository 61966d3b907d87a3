package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

func TestClusterListsTheNodes(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 3)
	c.nodes[1].track("room:lobby", `{"key":"Alice"}`)
	for _, n := range c.nodes {
		program.Eventually(t, func() bool { // hears of the session, and of a leader
			code, stdout, stderr := n.command("cluster")
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d, stderr %q", code, stderr)
			}
			return n.lists(stdout, c)
		}, "the three nodes, of which the second has a session, are listed")
		code, stdout, stderr := n.command("cluster --json")
		status := decode[rollcallclient.ClusterStatus](t, []byte(stdout))
		if code != 0 || stderr != "" || status.Node != n.id() || !status.Complete || len(status.Members) != 3 {
			t.Errorf("--json: exit code %d, stderr %q, stdout %s", code, stderr, stdout)
		}
	}
}

// lists tells whether this is what rollcall cluster prints at a node, in a cluster whose second node has one session.
func (n *node) lists(table string, c *cluster) bool {
	lines := strings.Split(table, "\n")
	if len(lines) != 5 || lines[4] != "" || !slices.IsSorted(lines[1:4]) ||
		!regexp.MustCompile(`^ID +ROLE +STATE +ADDRESS +VERSION +HEARD +LAG +SESSIONS +PRESENCES$`).MatchString(lines[0]) {
		return false
	}
	for i, each := range c.nodes {
		heard, held := `\d+\.\ds`, "0 +0"
		if each == n {
			heard = "itself"
		}
		if i == 1 {
			held = "1 +1"
		}
		row := `(?m)^\w{16} +(leader|voter) +up +` + regexp.QuoteMeta(each.Addr()) + ` +\S+ +` + heard + ` +0 +` + held + `$`
		if !regexp.MustCompile(row).MatchString(table) {
			return false
		}
	}
	return true
}

func TestRemovingNodes(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 4, "--down-after=5s")
	leader, others := c.leader()
	down, up, last := others[0], others[1], others[2]
	leaderID, downID, upID := leader.id(), down.id(), up.id()
	refuse := func(by *node, id, says string) {
		t.Helper()
		if code, stdout, stderr := by.command("cluster remove " + id); code != 1 || stdout != "" || !strings.Contains(stderr, says) {
			t.Errorf("exit code %d, stdout %q, stderr %q; want 1 and %q", code, stdout, stderr, says)
		}
	}
	refuse(last, "nobody", "No member of the cluster has this id")
	last.refused(http.StatusNotFound, "unknown_node", "DELETE", "/v1/cluster/nodes/nobody", "")

	lobby := watchAt([]*node{leader, last}, "room:lobby")
	alice := up.track("room:lobby", `{"key":"Alice"}`)
	lobby.seeJoin(alice)
	down.Kill()
	last.awaitState(downID, rollcallclient.Down)
	up.remove(downID)
	c.awaitAgreement(leader, up, last)
	refuse(up, downID, "No member of the cluster has this id")

	last.remove(upID) // goes on by itself, with its own sessions
	lobby.seeLeave(alice)
	c.awaitAgreement(leader, last)
	alone := lonely(up, "removed")
	if got := refs(up.list("room:lobby")); len(got) != 1 || got["Alice"][0] != alice.Ref {
		t.Errorf("the node that was removed has %v, want Alice", got)
	}
	if alone.Members[0].Sessions != 1 {
		t.Errorf("it says %+v, want one session", alone.Members[0])
	}

	lobby = watchAt([]*node{last}, "room:lobby")
	leader.remove(leaderID) // by itself
	c.awaitAgreement(last)
	lonely(leader, "removed")
	lobby.seeJoin(last.track("room:lobby", `{"key":"Bob"}`))
	leader.track("room:lobby", `{"key":"Mallory"}`)
	for i := range 3 { // in all that time nothing of it has come
		carol := last.track("room:lobby", `{"key":"Carol"}`)
		if lobby.seeJoin(carol); i == 2 {
			break
		}
		last.leave(carol.Session)
		lobby.seeLeave(carol)
	}
	last.refused(http.StatusConflict, "no_cluster", "DELETE", "/v1/cluster/nodes/"+last.id(), "")

	up.stop() // it may come back, if it is told so
	code, _, stderr := run(t, "serve", "--addr=127.0.0.1:0", "--cluster-addr=127.0.0.1:0", "--data-dir="+up.DataDir)
	if code == 0 || !strings.Contains(stderr, "--join") {
		t.Errorf("started without --join: exit code %d, stderr %q; want a failure that says what to do", code, stderr)
	}
	c.Join(up.Node, last.Node)
	c.start(up)
	c.awaitAgreement(last, up)
}

// lonely checks that a node knows nobody but itself, and says why, and returns what it says of the cluster.
func lonely(n *node, why string) rollcallclient.ClusterStatus {
	n.t.Helper()
	var status rollcallclient.ClusterStatus
	program.Eventually(n.t, func() bool {
		status = get[rollcallclient.ClusterStatus](n, "/v1/cluster")
		return len(status.Members) == 1 && status.Members[0].Id == status.Node
	}, "%s knows nobody but itself", n.URL)
	if problem := n.refused(http.StatusServiceUnavailable, "not_ready", "GET", "/readyz", ""); !strings.Contains(problem.Detail, why) {
		n.t.Errorf("it is not ready because %q, want something with %q", problem.Detail, why)
	}
	return status
}

func TestANodeJoinsThroughOneThatDoesNotLead(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 2)
	_, others := c.leader()
	lobby := watchAt(c.nodes, "room:lobby")
	alice := c.nodes[0].track("room:lobby", `{"key":"Alice"}`)
	lobby.seeJoin(alice)
	third := c.add("--join=127.0.0.1:1," + others[0].ClusterAddr) // of several addresses one must answer
	if got := refs(third.list("room:lobby")); len(got) != 1 || got["Alice"][0] != alice.Ref {
		t.Errorf("as soon as it is ready the list is %v, want Alice", got)
	}
	c.awaitAgreement()
	bob := third.track("room:lobby", `{"key":"Bob"}`)
	lobby.seeJoin(bob)
}

func TestTheSixthNodeVotesWhenOneOfFiveIsRemoved(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 6)
	leader, others := c.leader()
	var spare, voter *node
	for _, n := range others {
		if leader.member(n.id()).Role == rollcallclient.NonVoter {
			spare = n
		} else {
			voter = n
		}
	}
	lobby := watchAt(c.nodes, "room:lobby")
	lobby.seeJoin(spare.track("room:lobby", `{"key":"Alice"}`)) // presence knows no roles
	id := voter.id()
	voter.stop()
	spare.remove(id)
	rest := slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return n == voter })
	c.awaitAgreement(rest...)
	if role := leader.member(spare.id()).Role; role != rollcallclient.Voter {
		t.Errorf("the sixth node is a %s, want a voter", role)
	}
}

func TestNodesComeBackAtOtherAddresses(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 3)
	for _, moved := range [][]*node{c.nodes[1:], c.nodes[:1]} { // two of three at once, and then the one that all had joined through
		for _, n := range moved {
			n.stop()
			c.Move(n.Node)
		}
		c.start(moved...)
		c.awaitAgreement()
		lobby := watchAt(c.nodes, "room:lobby")
		for _, n := range c.nodes {
			p := n.track("room:lobby", `{"key":"Alice"}`)
			lobby.seeJoin(p)
			n.leave(p.Session)
			lobby.seeLeave(p)
		}
	}
}

func TestANodeWithAnotherSecretGetsNothingAndChangesNothing(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 2)
	lobby := watchAt(c.nodes, "room:lobby")
	alice := c.nodes[0].track("room:lobby", `{"key":"Alice"}`)
	lobby.seeJoin(alice)
	members := slices.Clone(c.nodes)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a secret that only strangers share\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := c.add("--cluster-secret-file=" + secret)
	if problem := stranger.refused(http.StatusServiceUnavailable, "not_ready", "GET", "/readyz", ""); !strings.Contains(problem.Detail, "not joined") {
		t.Errorf("it is not ready because %q", problem.Detail)
	}
	stranger.track("room:lobby", `{"key":"Mallory"}`)
	if got := refs(stranger.list("room:lobby")); len(got) != 1 || got["Mallory"] == nil {
		t.Errorf("the stranger sees %v, want Mallory alone", got)
	}
	if status := get[rollcallclient.ClusterStatus](stranger, "/v1/cluster"); len(status.Members) != 0 || status.Complete || status.Quorum {
		t.Errorf("the stranger says %+v, want no members", status)
	}
	if code, stdout, _ := stranger.command("cluster"); code != 0 || !strings.Contains(stdout, "has not joined") {
		t.Errorf("exit code %d, stdout %q; want that it has not joined", code, stdout)
	}
	const sentence = "give all nodes of a cluster the same secret"
	if log := stranger.Stderr(); strings.Count(log, sentence) != 1 {
		t.Errorf("the stranger's log must say %q once, and is:\n%s", sentence, log)
	}
	program.Eventually(t, func() bool { return strings.Contains(c.nodes[0].Stderr(), sentence) }, "the log of the node that refused says %q", sentence)
	c.awaitAgreement(members...)
	bob := c.nodes[1].track("room:lobby", `{"key":"Bob"}`)
	lobby.seeJoin(bob) // and there was no diff before

	response, err := http.Get("http://" + c.nodes[0].ClusterAddr + "/cluster/v1/members")
	if err == nil {
		response.Body.Close()
		t.Errorf("without any secret the answer is %s, want none", response.Status)
	}
}
