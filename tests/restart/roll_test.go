package restart

import (
	"bufio"
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

// town is a cluster of three with a balancer before it, a watcher at each node, and many people.
type town struct {
	*crowd
	*program.Cluster
	balancer *balancer
	earlier  []string // logs of nodes that were started again
}

func openTown(t *testing.T, people int, ttl time.Duration, flags ...string) *town {
	t.Helper()
	cluster := binary.ServeCluster(t, 3, append([]string{"--log-level=info"}, flags...)...)
	c := &town{Cluster: cluster, balancer: balance(t, urls(cluster.Nodes)...)}
	c.crowd = newCrowd(t, ttl)
	for _, n := range cluster.Nodes {
		c.watch(c.balancer, n.URL, rooms(people))
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, log := range c.earlier {
			t.Logf("a node that was started again:\n%s", eventful(log))
		}
		for i, n := range cluster.Nodes {
			t.Logf("node %d:\n%s", i, eventful(n.Stderr()))
		}
	})
	began := time.Now()
	c.fill(people, func(int) string { return c.balancer.URL })
	c.settle(nobody, urls(cluster.Nodes)...)
	t.Logf("%d people are there within %v", people, time.Since(began).Round(time.Millisecond))
	return c
}

// eventful returns a log without what happens all the time.
func eventful(log string) string {
	var lines strings.Builder
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "msg=request ") && lines.Len() < 20_000 {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

func urls(nodes []*program.Node) (all []string) {
	for _, n := range nodes {
		all = append(all, n.URL)
	}
	return all
}

// start starts a node again.
func (c *town) start(n *program.Node) {
	c.t.Helper()
	c.earlier = append(c.earlier, n.Stderr())
	c.Start(n)
	c.balancer.set(urls(c.Nodes)...)
}

func TestRollingRestart(t *testing.T) {
	t.Parallel()
	people := scaled(150, 2000)
	c := openTown(t, people, 10*time.Second, "--drain="+scaled("2s", "10s"), "--default-ttl=10s")
	progress := binary.Start(t, "cluster", "--watch", "--json", "--interval=100ms", "--url="+c.balancer.URL)
	for _, roll := range []struct {
		name string
		move bool
	}{{"at the same addresses", false}, {"at other addresses", true}} {
		var stops []func()
		for i := range 4 {
			stops = append(stops, c.churn(c.balancer.URL, roomOf(0), i))
		}
		began := c.begin()
		for i, n := range c.Nodes {
			stopped := time.Now()
			n.Signal(syscall.SIGTERM)
			if code := n.Wait(); code != 0 {
				t.Fatalf("exit code %d, want 0", code)
			}
			ended := time.Now()
			if roll.move {
				c.Move(n)
			}
			c.start(n)
			t.Logf("%s: node %d has stopped within %v and is ready again %v later; %s", roll.name, i,
				ended.Sub(stopped).Round(time.Millisecond), time.Since(ended).Round(time.Millisecond), describe(c.gaps(stopped)))
		}
		took := time.Since(began)
		for _, stop := range stops {
			stop()
		}
		c.settle(nobody, urls(c.Nodes)...)
		c.AwaitAgreement()
		c.outlive(c.Nodes[1].URL)
		c.settle(nobody, urls(c.Nodes)...)
		c.sawNothing()
		t.Logf("%s: the roll took %v; %d heartbeats, %d requests sent again; %s", roll.name, took.Round(time.Millisecond),
			c.beats.Load(), c.repeated.Load(), describe(c.gaps(began)))
	}
	progress.Signal(syscall.SIGTERM)
	if code := progress.Wait(); code != 0 {
		t.Errorf("rollcall cluster --watch: exit code %d, want 0", code)
	}
	checkProgress(t, progress.Stdout(), people)
}

// checkProgress checks what rollcall cluster has shown of a rolling restart: each node leaves with no session left, and comes back.
func checkProgress(t *testing.T, text string, people int) {
	t.Helper()
	left, back, most := map[string]bool{}, map[string]bool{}, 0
	var last rollcallclient.ClusterStatus
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		last = rollcallclient.ClusterStatus{}
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		sessions := 0
		for _, m := range last.Members {
			sessions += m.Sessions
			switch {
			case m.State == rollcallclient.Leaving && m.Sessions == 0:
				left[m.Id] = true
			case m.State == rollcallclient.Up && left[m.Id]:
				back[m.Id] = true
			}
		}
		most = max(most, sessions)
	}
	if len(left) != 3 || len(back) != 3 || len(last.Members) != 3 {
		t.Errorf("rollcall cluster has shown %v leave and %v come back, want each of %d nodes", left, back, len(last.Members))
	}
	if most < people {
		t.Errorf("rollcall cluster has shown at most %d sessions, want %d", most, people)
	}
}

func TestOneNodeOfThreeIsKilled(t *testing.T) {
	t.Parallel()
	people := scaled(150, 2000)
	downAfter := scaled(8*time.Second, 10*time.Second)
	c := openTown(t, people, 10*time.Second, "--down-after="+downAfter.String(), "--default-ttl=10s", "--drain=1s")
	silent := &person{topic: roomOf(0), key: "silent-1", session: "session-of-who-is-silent"}
	victim, others := c.Nodes[0], c.Nodes[1:]
	if err := c.track(victim.URL, silent, "{}"); err != nil { // it is not among those who are to stay
		t.Fatal(err)
	}
	program.Eventually(t, func() bool { return c.count(silent) == len(c.Nodes) }, "all nodes know who will be silent")
	isSilent := func(key string) bool { return key == silent.key }

	streams := c.metric(victim.URL, "rollcall_streams")
	began := c.begin()
	victim.Kill()
	program.Eventually(t, func() bool { return c.ended(began) >= streams }, "the end of its %d streams", streams)
	c.settle(isSilent, urls(others)...)
	t.Logf("all are back after %v: %s; %d requests sent again", time.Since(began).Round(time.Millisecond), describe(c.gaps(began)), c.repeated.Load())
	for _, n := range others {
		program.Eventually(t, func() bool { return c.down(n) == 1 }, "the node is taken for down")
	}
	program.Eventually(t, func() bool { return c.count(silent) == 0 }, "who did not come back is hidden")
	t.Logf("it was taken for down within %v", time.Since(began).Round(time.Millisecond))
	c.sawNothing()

	c.start(victim) // its journal has everybody who was there
	c.AwaitAgreement()
	c.settle(isSilent, urls(c.Nodes)...)
	c.outlive(c.Nodes[1].URL)
	program.Eventually(t, func() bool { return c.count(silent) == 0 }, "who does not come back has no lease any more")
	c.settle(nobody, urls(c.Nodes)...)
	c.sawNothing()
}

// count returns at how many nodes that run somebody is present.
func (c *town) count(p *person) (n int) {
	c.t.Helper()
	for _, node := range c.Nodes {
		if !node.Running() {
			continue
		}
		list, err := c.list(node.URL, p.topic)
		if err != nil {
			c.t.Fatal(err)
		}
		if list[p.ref] == p.key {
			n++
		}
	}
	return n
}

// down returns how many members a node takes for down.
func (c *town) down(n *program.Node) (down int) {
	c.t.Helper()
	status, err := c.Status(n)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range status.Members {
		if m.State == rollcallclient.Down {
			down++
		}
	}
	return down
}
