package restart

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

// TestAPodComesBackElsewhere: a node is killed and started with its disk at another address, as Kubernetes does it. Its people are known by nobody
// else, and their clients say nothing until it is back.
func TestAPodComesBackElsewhere(t *testing.T) {
	t.Parallel()
	c := openPods(t)
	pod := c.Nodes[0]
	before := c.id(pod)
	const people = 50
	for i := range people {
		c.arrive(pod.URL, &person{topic: roomOf(0), key: fmt.Sprintf("person-%d", i), session: fmt.Sprintf("session-of-person-%d", i)})
	}
	c.settle(nobody, urls(c.Nodes)...)
	c.awaitJournal(pod.URL)
	c.begin()
	pod.Kill()
	began := time.Now()
	c.Move(pod)
	c.Start(pod)
	c.AwaitAgreement()
	t.Logf("all agree %v after the kill", time.Since(began).Round(time.Millisecond))
	if after := c.id(pod); after != before {
		t.Errorf("the node is %s, was %s", after, before)
	}
	if restored := c.metric(pod.URL, "rollcall_sessions"); restored != people {
		t.Errorf("%d sessions live at the node again, want %d", restored, people)
	}
	for _, p := range c.present {
		c.renew(pod.URL, p)
	}
	c.settle(nobody, urls(c.Nodes)...)
	c.sawNothing()
}

// TestAPodGetsANewDisk: it is another node then. The old one's people are hidden like those of any that is gone, and what is left of it can be removed.
func TestAPodGetsANewDisk(t *testing.T) {
	t.Parallel()
	c := openPods(t, "--down-after=4s")
	pod, others := c.Nodes[0], c.Nodes[1:]
	old := c.id(pod)
	lost := &person{topic: roomOf(0), key: "lost", session: "session-of-one-who-is-lost"}
	if err := c.track(pod.URL, lost, "{}"); err != nil {
		t.Fatal(err)
	}
	c.arrive(others[0].URL, &person{topic: roomOf(0), key: "stays", session: "session-of-one-who-stays"})
	c.settle(func(key string) bool { return key == lost.key }, urls(c.Nodes)...)
	program.Eventually(t, func() bool { return c.count(lost) == len(c.Nodes) }, "all know who will be lost")
	c.begin()
	pod.Kill()
	if err := os.RemoveAll(pod.DataDir); err != nil {
		t.Fatal(err)
	}
	c.Move(pod)
	fresh := c.Add("--join=" + others[0].ClusterAddr) // at another address, with a disk of its own
	c.Nodes = append(others, fresh)
	id := c.id(fresh)
	if id == old {
		t.Fatalf("the node with a new disk is %s, as before", id)
	}
	for _, n := range c.Nodes {
		program.Eventually(t, func() bool { return c.state(n, old) == rollcallclient.Down }, "%s takes the old node for down", n.URL)
	}
	program.Eventually(t, func() bool { return c.count(lost) == 0 }, "who was only there is hidden")
	listing := c.run(fresh, "cluster")
	if !strings.Contains(listing, old) || !strings.Contains(listing, "The view is incomplete") {
		t.Errorf("rollcall cluster says\n%s\nwant it to name %s, and say that the view is incomplete", listing, old)
	}
	c.run(fresh, "cluster", "remove", old)
	c.AwaitAgreement()
	for _, n := range c.Nodes {
		if listing := c.run(n, "cluster"); strings.Contains(listing, old) || strings.Contains(listing, "incomplete") {
			t.Errorf("after the removal rollcall cluster says\n%s", listing)
		}
	}
	c.settle(nobody, urls(c.Nodes)...)
	c.sawNothing()
}

// openPods is a town whose people the test brings, with a watcher at each of the last two nodes.
func openPods(t *testing.T, flags ...string) *town {
	t.Helper()
	c := &town{Cluster: binary.ServeCluster(t, 3, append([]string{"--log-level=warn", "--drain=1s"}, flags...)...)}
	c.crowd = newCrowd(t, 30*time.Second)
	for _, n := range c.Nodes[1:] {
		w := watching("the watcher of "+n.URL, rooms(1))
		w.choose = func(string) string { return n.URL }
		c.follow(w)
	}
	return c
}

// id is a node's.
func (c *town) id(n *program.Node) string {
	c.t.Helper()
	status, err := c.Status(n)
	if err != nil {
		c.t.Fatal(err)
	}
	return status.Node
}

// state is what a node says of another one.
func (c *town) state(n *program.Node, id string) rollcallclient.ClusterMemberState {
	c.t.Helper()
	status, err := c.Status(n)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range status.Members {
		if m.Id == id {
			return m.State
		}
	}
	return ""
}

// run runs a command against a node and returns what it says.
func (c *town) run(n *program.Node, args ...string) string {
	c.t.Helper()
	p := binary.Start(c.t, append(args, "--url="+n.URL)...)
	if code := p.Wait(); code != 0 {
		c.t.Fatalf("%s: exit code %d\n%s", p, code, p.Stderr())
	}
	return p.Stdout()
}

// ready returns what /readyz answers.
func (c *crowd) ready(node string) (status int, body string) {
	c.t.Helper()
	status, content, err := c.send(c.ctx, http.MethodGet, node+"/readyz", "")
	if err != nil {
		c.t.Fatal(err)
	}
	return status, string(content)
}
