package membership_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"rollcall/replication/membership"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is a number of nodes in one bubble.
type cluster struct {
	t       *testing.T
	network *network
	nodes   map[string]*node
}

// node is a disk with an id and, while it runs, what runs on it.
type node struct {
	id      string
	storage membership.Storage
	log     *logBuffer
	removed atomic.Int32

	m    *membership.Membership
	port *port

	mu   sync.Mutex
	told []membership.Member // by OnChange
}

// inBubble runs a test with a cluster on a clock of its own.
func inBubble(t *testing.T, test func(*testing.T, *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, network: newNetwork(), nodes: map[string]*node{}}
		defer func() {
			for _, n := range c.nodes {
				c.stop(n)
			}
		}()
		test(t, c)
	})
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// node returns the node with the id, which is not started.
func (c *cluster) node(id string) *node {
	if c.nodes[id] == nil {
		c.nodes[id] = &node{id: id, storage: raft.NewInmemStore(), log: &logBuffer{}}
	}
	return c.nodes[id]
}

func addrOf(number int) string { return fmt.Sprintf("10.0.0.%d:7946", number) }

// open starts the node at an address.
func (c *cluster) open(n *node, addr string, join ...string) error {
	c.t.Helper()
	p, err := c.network.listen(addr)
	if err != nil {
		c.t.Fatal(err)
	}
	m, err := membership.Open(membership.Config{
		ID: n.id, ClusterAddr: addr, PublicAddr: "public-" + addr, Version: "v1", Join: join,
		Storage: n.storage, Streams: p, Client: p, Logger: slog.New(slog.NewTextHandler(n.log, nil)),
		OnChange: func(members []membership.Member) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.told = members
		},
		OnRemoved: func() { n.removed.Add(1) },
	})
	if err != nil {
		c.network.unplug(p)
		return err
	}
	p.serve(m.Handler())
	n.m, n.port = m, p
	return nil
}

func (c *cluster) start(id, addr string, join ...string) *node {
	c.t.Helper()
	n := c.node(id)
	if err := c.open(n, addr, join...); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// startAll starts n1 and so on, which have joined through n1 when it returns.
func (c *cluster) startAll(count int) (nodes []*node) {
	c.t.Helper()
	for i := 1; i <= count; i++ {
		var join []string
		if i > 1 {
			join = []string{addrOf(1)}
		}
		nodes = append(nodes, c.start(fmt.Sprintf("n%d", i), addrOf(i), join...))
		c.awaitAgreement(nodes...)
	}
	return nodes
}

// stop ends the node's part in an orderly way.
func (c *cluster) stop(n *node) {
	if n.m == nil {
		return
	}
	if err := n.m.Close(); err != nil {
		c.t.Errorf("Close of %s = %v", n.id, err)
	}
	c.network.unplug(n.port)
	n.m = nil
}

// kill ends the node before it can say a word.
func (c *cluster) kill(n *node) {
	c.network.unplug(n.port)
	c.stop(n)
}

// await polls on the bubble's clock.
func (c *cluster) await(within time.Duration, what string, condition func() bool) {
	c.t.Helper()
	for end := time.Now().Add(within); !condition(); {
		if time.Now().After(end) {
			c.dump()
			c.t.Fatalf("after %v still not: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *cluster) dump() {
	for _, n := range c.nodes {
		if n.m != nil {
			c.t.Logf("%s: leader %q, members %v", n.id, n.m.Leader(), n.m.Members())
		}
		c.t.Logf("log of %s:\n%s", n.id, n.log)
	}
}

// awaitAgreement waits until these nodes are the members and know so, all that should be voters are, and one is the leader.
func (c *cluster) awaitAgreement(nodes ...*node) {
	c.t.Helper()
	c.await(20*time.Second, fmt.Sprintf("agreement among %d", len(nodes)), func() bool {
		first := nodes[0].m.Members()
		count := map[membership.Role]int{}
		for _, m := range first {
			count[m.Role]++
		}
		if len(first) != len(nodes) || count[membership.Leader] != 1 || count[membership.Voter] != min(len(nodes), 5)-1 {
			return false
		}
		for _, n := range nodes {
			if !slices.Equal(n.m.Members(), first) || !slices.Equal(n.toldMembers(), first) {
				return false
			}
			if !slices.ContainsFunc(first, func(m membership.Member) bool {
				return m.ID == n.id && m.ClusterAddr == n.port.addr && m.PublicAddr == "public-"+n.port.addr
			}) {
				return false
			}
		}
		return true
	})
}

func (n *node) toldMembers() []membership.Member {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told
}

// leader waits for the nodes to have one and returns it and the others.
func (c *cluster) leader(nodes ...*node) (leader *node, others []*node) {
	c.t.Helper()
	c.await(20*time.Second, "a leader", func() bool {
		leader = nil
		for _, n := range nodes {
			if n.m.Leader() == n.id {
				leader = n
			}
		}
		return leader != nil
	})
	for _, n := range nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	return leader, others
}

func (n *node) role(id string) membership.Role {
	for _, m := range n.m.Members() {
		if m.ID == id {
			return m.Role
		}
	}
	return ""
}

func (c *cluster) remove(at *node, id string) {
	c.t.Helper()
	if err := at.m.Remove(context.Background(), id); err != nil {
		c.dump()
		c.t.Fatalf("Remove(%s) at %s = %v", id, at.id, err)
	}
}

func TestFirstNodeFoundsACluster(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		n := c.start("n1", addrOf(1), addrOf(1)) // its own address is nobody to join
		c.awaitAgreement(n)
		want := []membership.Member{{ID: "n1", ClusterAddr: addrOf(1), PublicAddr: "public-" + addrOf(1), Version: "v1", Role: membership.Leader}}
		if got := n.m.Members(); !slices.Equal(got, want) {
			t.Errorf("Members = %v, want %v", got, want)
		}
		c.kill(n)
		c.start("n1", addrOf(1))
		c.awaitAgreement(n)
	})
}

func TestNodesJoinThroughAnyMember(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(2)
		_, followers := c.leader(nodes...)
		third := c.start("n3", addrOf(3), followers[0].port.addr)
		c.awaitAgreement(append(nodes, third)...)
		fourth := c.start("n4", addrOf(4), addrOf(99), third.port.addr) // the first of which is nobody's
		c.awaitAgreement(append(nodes, third, fourth)...)
	})
}

func TestMembersOutliveTheLeader(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(3)
		leader, others := c.leader(nodes...)
		c.kill(leader)
		c.leader(others...)
		added := c.start("n4", addrOf(4), others[0].port.addr)
		c.await(20*time.Second, "a fourth member", func() bool { return len(added.m.Members()) == 4 && len(others[1].m.Members()) == 4 })
		c.start(leader.id, leader.port.addr)
		c.awaitAgreement(append(nodes, added)...)
	})
}

func TestLeaderHandsOverBeforeItStops(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		leader, others := c.leader(c.startAll(3)...)
		before := time.Now()
		c.stop(leader)
		c.await(500*time.Millisecond, "another leader, without an election's timeout", func() bool {
			now := others[0].m.Leader()
			return now != "" && now != leader.id && now == others[1].m.Leader()
		})
		if took := time.Since(before); took > 500*time.Millisecond {
			t.Errorf("the hand-over took %v", took)
		}
	})
}

func TestVotersAreReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(7)
		leader, others := c.leader(nodes...)
		voters := slices.DeleteFunc(slices.Clone(others), func(n *node) bool { return leader.role(n.id) != membership.Voter })
		removed, dead := voters[0], voters[1]
		c.remove(others[5], removed.id)
		rest := slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n == removed })
		c.awaitAgreement(rest...)

		c.kill(dead)
		time.Sleep(20 * time.Second)
		if got := leader.role(dead.id); got != membership.Voter {
			t.Errorf("a voter that was gone for 20 s is a %s, want it to be a voter still", got)
		}
		c.await(20*time.Second, "another voter instead of the dead one", func() bool {
			voters := 0
			for _, m := range leader.m.Members() {
				if m.Role == membership.Voter {
					voters++
				}
			}
			return leader.role(dead.id) == membership.NonVoter && voters == 4
		})
		c.start(dead.id, dead.port.addr)
		c.awaitAgreement(rest...)
	})
}

func TestWithoutQuorumTheListStaysAndChangesFailFast(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(3)
		leader, others := c.leader(nodes...)
		c.kill(others[0])
		c.kill(others[1])
		for range 2 { // while it may still believe to be the leader, and later
			before := time.Now()
			err := leader.m.Remove(t.Context(), others[0].id)
			if !errors.Is(err, membership.ErrNoQuorum) {
				t.Fatalf("Remove without a quorum = %v, want ErrNoQuorum", err)
			}
			for _, part := range []string{others[0].id + " at " + others[0].port.addr, others[1].port.addr, "start them"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error %q does not contain %q", err, part)
				}
			}
			if took := time.Since(before); took > 6*time.Second {
				t.Errorf("Remove without a quorum took %v", took)
			}
			time.Sleep(10 * time.Second)
		}
		before := time.Now()
		if err := leader.m.Remove(t.Context(), others[0].id); !errors.Is(err, membership.ErrNoQuorum) || time.Since(before) > 100*time.Millisecond {
			t.Errorf("Remove long after the quorum was lost = %v after %v, want ErrNoQuorum at once", err, time.Since(before))
		}
		joining := c.start("n4", addrOf(4), leader.port.addr)
		time.Sleep(time.Minute)
		if got := len(leader.m.Members()); got != 3 {
			t.Errorf("%d members are known without a quorum, want 3", got)
		}
		if got := joining.m.Members(); len(got) != 0 {
			t.Errorf("a node that could not join knows the members %v", got)
		}
		if got := strings.Count(joining.log.String(), "cannot join a cluster yet"); got < 1 || got > 2 || !strings.Contains(joining.log.String(), "no quorum") {
			t.Errorf("a minute without a quorum was logged %d times:\n%s", got, joining.log)
		}
		c.kill(leader) // and after a restart the list is there again
		c.start(leader.id, leader.port.addr)
		if got := len(leader.m.Members()); got != 3 {
			t.Errorf("%d members are known after a restart without a quorum, want 3", got)
		}
		c.start(others[0].id, others[0].port.addr)
		c.start(others[1].id, others[1].port.addr)
		c.awaitAgreement(append(nodes, joining)...)
	})
}

func TestAMinorityComesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(5)
		leader, others := c.leader(nodes...)
		minority := []*node{leader, others[0]}
		cut := func(cut bool) {
			for _, a := range minority {
				for _, b := range others[1:] {
					c.network.cut(a.port, b.port, cut)
				}
			}
		}
		cut(true)
		if err := leader.m.Remove(t.Context(), others[3].id); !errors.Is(err, membership.ErrNoQuorum) {
			t.Errorf("Remove in a minority = %v, want ErrNoQuorum", err)
		}
		majority, _ := c.leader(others[1:]...)
		c.remove(majority, others[0].id)
		cut(false)
		c.await(10*time.Second, others[0].id+" to learn that it was removed", func() bool { return others[0].removed.Load() == 1 })
		c.awaitAgreement(append(others[1:], leader)...)
	})
}

func TestAllRestartWithOtherAddresses(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(5)
		for _, n := range nodes {
			c.kill(n)
		}
		for i, n := range nodes { // they find each other through one of the new addresses
			c.start(n.id, addrOf(20+i), addrOf(22))
		}
		c.awaitAgreement(nodes...)
		for _, n := range nodes {
			c.kill(n)
		}
		for i, n := range nodes { // each gets what was another's
			c.start(n.id, addrOf(20+(i+1)%5), addrOf(20), addrOf(21))
		}
		c.awaitAgreement(nodes...)
	})
}

func TestOneRestartsWithAnotherAddress(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(3)
		for i, n := range nodes {
			c.stop(n)
			c.start(n.id, addrOf(30+i)) // it knows the others
			c.awaitAgreement(nodes...)
		}
	})
}

func TestAddressesAreKnownWithoutAQuorum(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(5)
		for _, n := range nodes {
			c.kill(n)
		}
		c.start("n1", addrOf(1))
		c.start("n2", addrOf(42))
		c.await(10*time.Second, "n1 to hear of the new address of n2", func() bool {
			return slices.ContainsFunc(nodes[0].m.Members(), func(m membership.Member) bool { return m.ID == "n2" && m.ClusterAddr == addrOf(42) })
		})
	})
}

func TestANodeWithANewDiskJoinsUnderItsOldID(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(3)
		leader, others := c.leader(nodes...)
		c.kill(others[0])
		others[0].storage = raft.NewInmemStore()
		c.start(others[0].id, addrOf(50), leader.port.addr)
		c.awaitAgreement(nodes...)
		c.stop(others[0]) // and what it says later counts
		c.start(others[0].id, addrOf(51))
		c.awaitAgreement(nodes...)
	})
}

func TestRemove(t *testing.T) {
	for name, test := range map[string]func(c *cluster, leader *node, others []*node) (removed *node, at *node){
		"the leader, at a follower": func(_ *cluster, leader *node, others []*node) (*node, *node) { return leader, others[0] },
		"the leader, at itself":     func(_ *cluster, leader *node, others []*node) (*node, *node) { return leader, leader },
		"a follower, at the leader": func(_ *cluster, leader *node, others []*node) (*node, *node) { return others[0], leader },
		"a follower, at another":    func(_ *cluster, _ *node, others []*node) (*node, *node) { return others[0], others[1] },
		"a follower, at itself":     func(_ *cluster, _ *node, others []*node) (*node, *node) { return others[0], others[0] },
		"a dead one": func(c *cluster, _ *node, others []*node) (*node, *node) {
			c.kill(others[0])
			return others[0], others[1]
		},
		"a dead leader, at once": func(c *cluster, leader *node, others []*node) (*node, *node) {
			c.kill(leader)
			return leader, others[1]
		},
		"one that does not answer": func(c *cluster, leader *node, others []*node) (*node, *node) {
			silence(c, others[0])
			return others[0], leader
		},
		"a leader that is cut off": func(c *cluster, leader *node, others []*node) (*node, *node) {
			silence(c, leader)
			return leader, others[0]
		},
		"a follower that is cut off": func(c *cluster, leader *node, others []*node) (*node, *node) {
			silence(c, others[0])
			return others[0], others[1]
		},
		"a leader that hands over so": func(c *cluster, leader *node, others []*node) (*node, *node) {
			c.stop(leader)
			return leader, others[0]
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				nodes := c.startAll(4)
				leader, others := c.leader(nodes...)
				removed, at := test(c, leader, others)
				c.remove(at, removed.id)
				rest := slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n == removed })
				c.awaitAgreement(rest...)
				c.checkRemoved(removed, rest)
			})
		})
	}
}

// silence lets nothing from or to n pass.
func silence(c *cluster, n *node) {
	for _, other := range c.nodes {
		c.network.cut(n.port, other.port, true)
	}
}

// checkRemoved checks that a removed node learns so, stays out, and can join again.
func (c *cluster) checkRemoved(removed *node, rest []*node) {
	c.t.Helper()
	for _, other := range rest {
		c.network.cut(removed.port, other.port, false)
	}
	if removed.m == nil {
		c.start(removed.id, removed.port.addr)
	}
	c.await(10*time.Second, removed.id+" to learn that it was removed", func() bool { return removed.removed.Load() == 1 })
	if got := strings.Count(removed.log.String(), "was removed from its cluster"); got != 1 {
		c.t.Errorf("the removed node said so %d times:\n%s", got, removed.log)
	}
	if err := removed.m.Remove(context.Background(), rest[0].id); !errors.Is(err, membership.ErrRemoved) {
		c.t.Errorf("Remove at a removed node = %v, want ErrRemoved", err)
	}
	addr := removed.port.addr
	c.stop(removed)
	if err := c.open(removed, addr); !errors.Is(err, membership.ErrRemoved) || !strings.Contains(err.Error(), "--join") {
		c.t.Fatalf("Open of a removed node = %v, want ErrRemoved that says what to do", err)
	}
	c.awaitAgreement(rest...)
	c.start(removed.id, addr, rest[0].port.addr)
	c.awaitAgreement(append(rest, removed)...)
	c.stop(removed)
	c.start(removed.id, addr) // a member like any other
	c.awaitAgreement(append(rest, removed)...)
	if got := removed.removed.Load(); got != 1 {
		c.t.Errorf("OnRemoved was called %d times", got)
	}
}

func TestRemoveOfWhatCannotBeRemoved(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(2)
		for _, id := range []string{"n9", "", "no id", strings.Repeat("x", 100)} {
			for _, n := range nodes {
				if err := n.m.Remove(t.Context(), id); !errors.Is(err, membership.ErrUnknownMember) {
					t.Errorf("Remove(%q) at %s = %v, want ErrUnknownMember", id, n.id, err)
				}
			}
		}
		c.remove(nodes[1], "n1")
		c.awaitAgreement(nodes[1])
		if err := nodes[1].m.Remove(t.Context(), "n2"); !errors.Is(err, membership.ErrLastMember) {
			t.Errorf("Remove of the only member = %v, want ErrLastMember", err)
		}
		c.kill(nodes[1])
	})
}

func TestARemovedNodeCanBeKilledAtOnce(t *testing.T) {
	for removed := range 2 {
		inBubble(t, func(t *testing.T, c *cluster) {
			nodes := c.startAll(2)
			at := 1 - removed
			c.remove(nodes[at], nodes[removed].id)
			c.kill(nodes[removed])
			c.awaitAgreement(nodes[at])
			c.stop(nodes[at])
			c.start(nodes[at].id, nodes[at].port.addr)
			c.awaitAgreement(nodes[at])
		})
	}
}

func TestRemoveHeedsItsContextAndClose(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(3)
		leader, others := c.leader(nodes...)
		silence(c, leader)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := leader.m.Remove(ctx, others[0].id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Remove = %v, want DeadlineExceeded", err)
		}
		m := others[0].m
		c.stop(others[0])
		if err := m.Remove(t.Context(), leader.id); !errors.Is(err, membership.ErrClosed) {
			t.Errorf("Remove after Close = %v, want ErrClosed", err)
		}
		if got := len(m.Members()); got != 3 {
			t.Errorf("%d members after Close, want 3", got)
		}
	})
}

func TestJoinSaysWhyItWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		waiting := c.start("n2", addrOf(2), addrOf(1))
		said := func(cause string) {
			c.t.Helper()
			c.await(10*time.Second, cause, func() bool { return strings.Contains(waiting.log.String(), cause) })
		}
		said("connection refused")
		time.Sleep(time.Minute)
		other := c.start("n1", addrOf(1), addrOf(2))
		said("not a member itself yet")
		time.Sleep(time.Minute)
		c.stop(other)
		first := c.start("n3", addrOf(1))
		c.awaitAgreement(first, waiting)
		if got := strings.Count(waiting.log.String(), "cannot join a cluster yet"); got > 5 {
			t.Errorf("it said %d times why it waits:\n%s", got, waiting.log)
		}
		said("joined the cluster")
	})
}

func TestANodeAtAWrongAddressDoesNotJoin(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		first := c.startAll(1)[0]
		n := c.node("n2")
		p, err := c.network.listen(addrOf(2))
		if err != nil {
			t.Fatal(err)
		}
		n.port = p
		n.m, err = membership.Open(membership.Config{ID: n.id, ClusterAddr: addrOf(77), Join: []string{addrOf(1)},
			Storage: n.storage, Streams: p, Client: p, Logger: slog.New(slog.NewTextHandler(n.log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		p.serve(n.m.Handler())
		c.await(10*time.Second, "a reason", func() bool { return strings.Contains(n.log.String(), "cannot reach this node at "+addrOf(77)) })
		if got := len(first.m.Members()); got != 1 {
			t.Errorf("%d members, want 1", got)
		}
	})
}

func TestTwoClustersStayApart(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(2)
		other := c.start("m1", addrOf(11))
		c.awaitAgreement(other)
		c.stop(other)
		c.start("m1", addrOf(11), addrOf(1))
		time.Sleep(time.Minute)
		c.awaitAgreement(nodes...)
		c.awaitAgreement(other)
		// and an address that goes from one cluster to the other does no harm
		c.stop(nodes[1])
		c.stop(other)
		c.start("m1", addrOf(2))
		time.Sleep(time.Minute)
		c.awaitAgreement(other)
		c.start("n2", addrOf(3))
		c.awaitAgreement(nodes...)
	})
}

func TestStorageOfAnotherNode(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		first := c.startAll(1)[0]
		c.stop(first)
		thief := c.node("n2")
		thief.storage = first.storage
		if err := c.open(thief, addrOf(2)); !errors.Is(err, membership.ErrOtherNode) || !strings.Contains(err.Error(), "n1") {
			t.Errorf("Open with another node's storage = %v, want ErrOtherNode that names it", err)
		}
	})
}

func TestOpenSaysAllThatIsWrong(t *testing.T) {
	_, err := membership.Open(membership.Config{ID: "no id", ClusterAddr: "nowhere", Join: []string{"http://a:1"}, MaxVoters: -1})
	if err == nil {
		t.Fatal("Open = nil")
	}
	for _, part := range []string{"no id", "nowhere", "http://a:1", "Storage", "MaxVoters"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error %q does not contain %q", err, part)
		}
	}
}
