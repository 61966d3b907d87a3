package e2e

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/contract"
	"rollcall/tests/program"
)

// cluster is nodes that share presence, with a client of each.
type cluster struct {
	*program.Cluster
	t     *testing.T
	nodes []*node
}

// clusters bounds how many run at the same time: a node that gets no processor is taken for one that is down.
var clusters = make(chan struct{}, 3)

// serveCluster starts so many nodes that live as long as the test. Unless a flag says otherwise, they give each other all the time that a busy machine may take.
func serveCluster(t *testing.T, nodes int, flags ...string) *cluster {
	t.Helper()
	clusters <- struct{}{}
	t.Cleanup(func() { <-clusters })
	c := &cluster{t: t, Cluster: binary.ServeCluster(t, nodes, append([]string{"--drain=1s", "--down-after=1m"}, flags...)...)}
	for _, run := range c.Nodes {
		c.nodes = append(c.nodes, c.client(run))
	}
	return c
}

func (c *cluster) client(run *program.Node) *node {
	return &node{Node: run, t: c.t, http: checkedClient(c.t)}
}

// add starts one node more.
func (c *cluster) add(flags ...string) *node {
	c.t.Helper()
	n := c.client(c.Add(flags...))
	c.nodes = append(c.nodes, n)
	return n
}

// start runs nodes again that have ended.
func (c *cluster) start(nodes ...*node) {
	c.t.Helper()
	c.Start(runs(nodes)...)
}

// awaitAgreement waits until these nodes, all if none is named, are the cluster.
func (c *cluster) awaitAgreement(nodes ...*node) {
	c.t.Helper()
	c.AwaitAgreement(runs(nodes)...)
}

func runs(nodes []*node) (of []*program.Node) {
	for _, n := range nodes {
		of = append(of, n.Node)
	}
	return of
}

// balanced is a client whose every request goes to another of some nodes, all if none is named, one after the other.
func (c *cluster) balanced(nodes ...*node) *node {
	if len(nodes) == 0 {
		nodes = c.nodes
	}
	base := &http.Transport{MaxIdleConnsPerHost: 32}
	c.t.Cleanup(base.CloseIdleConnections)
	return &node{
		Node: &program.Node{URL: "http://any"}, t: c.t,
		http: &http.Client{Transport: &contract.Transport{TB: c.t, Base: &balancer{nodes: nodes, base: base}, Requests: true}},
	}
}

// balancer sends each request to the next node.
type balancer struct {
	nodes []*node
	next  atomic.Int64
	base  http.RoundTripper
}

func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	n := b.nodes[int(b.next.Add(1)-1)%len(b.nodes)]
	r = r.Clone(r.Context())
	r.URL.Host = n.Addr()
	return b.base.RoundTrip(r)
}

// leader waits until one of the nodes leads the cluster, and returns it and the rest of them.
func (c *cluster) leader() (leader *node, others []*node) {
	c.t.Helper()
	program.Eventually(c.t, func() bool {
		leader, others = nil, nil
		for _, n := range c.nodes {
			if c.nodes[0].member(n.id()).Role == rollcallclient.Leader {
				leader = n
			} else {
				others = append(others, n)
			}
		}
		return leader != nil
	}, "a leader")
	return leader, others
}

// remove has a node remove another one, however long there is no leader.
func (n *node) remove(id string) {
	n.t.Helper()
	tried := false
	program.Eventually(n.t, func() bool {
		code, stdout, stderr := n.command("cluster remove " + id)
		done := code == 0 && stdout == id+" is no longer a member.\n" && stderr == "" || tried && strings.Contains(stderr, "No member")
		if tried = true; !done && !strings.Contains(stderr, "Try again") {
			n.t.Fatalf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
		}
		return done
	}, "the removal of %s", id)
}

// id is the node's.
func (n *node) id() string {
	n.t.Helper()
	return get[rollcallclient.ClusterStatus](n, "/v1/cluster").Node
}

// member is what a node says of another one, nil if it does not know it.
func (n *node) member(id string) *rollcallclient.ClusterMember {
	n.t.Helper()
	for _, m := range get[rollcallclient.ClusterStatus](n, "/v1/cluster").Members {
		if m.Id == id {
			return &m
		}
	}
	return nil
}

// awaitState waits until a node says of another one that it is up, or whatever else.
func (n *node) awaitState(id string, state rollcallclient.ClusterMemberState) {
	n.t.Helper()
	program.Eventually(n.t, func() bool { m := n.member(id); return m != nil && m.State == state }, "%s says that %s is %s", n.URL, id, state)
}

// incomplete tells whether an answer to a GET says that it may lack somebody.
func (n *node) incomplete(path string) bool {
	n.t.Helper()
	if strings.Contains(path, "/events") {
		response := n.openStream(n.t.Context(), n.http, path, nil)
		defer response.Body.Close()
		return response.Header.Get("Rollcall-View") == "incomplete"
	}
	return n.call(http.StatusOK, "GET", path, "").header.Get("Rollcall-View") == "incomplete"
}

// has tells whether somebody is in a topic.
func (n *node) has(topic, key string) bool {
	n.t.Helper()
	got, err := n.send("GET", presenceOf(topic, key), "", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return got.status == http.StatusOK
}

// command runs a command of the program that talks to the node, given as one would type it.
func (n *node) command(line string) (code int, stdout, stderr string) {
	n.t.Helper()
	return run(n.t, append(strings.Fields(line), "--url="+n.proxy())...)
}
