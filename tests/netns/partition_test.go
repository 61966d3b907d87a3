//go:build linux

package netns

import (
	"fmt"
	"slices"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/netns/lab"
	"rollcall/tests/program"
)

// Both sides go on, and what they did comes together.
func TestPartition(t *testing.T) {
	t.Parallel()
	r := openRoom(t, lab.Config{})
	a, b := r.Nodes[0], r.Nodes[1]
	ofA, marks := r.keysAt(a), r.marks()
	r.Split(a.Host)
	cutAt := time.Now()
	t.Logf("hidden after %v at b, %v at c; promised %v", r.hidden(1, marks[1], ofA, cutAt), r.hidden(2, marks[2], ofA, cutAt), hiddenWithin)
	t.Logf("at a: the others' after %v and %v",
		r.hidden(0, marks[0], r.keysAt(b), cutAt), r.hidden(0, marks[0], r.keysAt(r.Nodes[2]), cutAt))
	for _, n := range r.Nodes {
		if status, err := n.Status(); err != nil || status.Complete {
			t.Errorf("node %s says that its view is complete (error %v)", n.Name, err)
		}
	}

	r.track(a, "new-at-a")
	r.track(b, "new-at-b")
	r.leave(a, "a1") // b and c do not see it before the network heals
	r.leave(b, "b1")
	r.heartbeat(b, "a2") // has moved to b, which adopts it
	r.watchers[2].AwaitJoin(marks[2], r.refs["a2"], program.Patience)

	marks = r.marks()
	healedAt := time.Now()
	r.Heal()
	r.AgreeWithin(healedWithin, topic, r.keys()...)
	t.Logf("converged %v after healing", time.Since(healedAt))
	for i, w := range r.watchers {
		t.Logf("the watcher at %s saw %s", r.Nodes[i].Name, describe(w.Since(marks[i])))
		for _, change := range w.Since(marks[i]) {
			if _, left := change.Leaves["a2"]; left {
				t.Errorf("the watcher at node %s saw a2 leave, who was adopted", r.Nodes[i].Name)
			}
		}
	}
	r.heartbeat(a, "a2")
	r.leave(r.Nodes[2], "a3")
	r.AgreeWithin(healedWithin, topic, r.keys()...)
}

// A link that is cut between two nodes which both see a third changes nothing for anybody.
func TestOneLinkIsCut(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(r *room){
		"both ways": func(r *room) { r.Cut(r.Hosts[0], r.Hosts[1]) },
		"one way":   func(r *room) { r.CutOneWay(r.Hosts[0], r.Hosts[1]) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := openRoom(t, lab.Config{})
			a, b := r.Nodes[0], r.Nodes[1]
			marks := r.marks()
			cut(r)
			for end := time.Now().Add(3 * downAfter); time.Now().Before(end); { // what is to be seen is that nothing happens
				r.AgreeWithin(program.Patience, topic, r.keys()...)
			}
			for i := range r.watchers {
				r.sawNothing(i, marks[i])
			}
			began := time.Now()
			r.track(a, "new-at-a")
			r.watchers[1].AwaitJoin(marks[1], r.refs["new-at-a"], program.Patience)
			t.Logf("from a to b by way of c: %v", time.Since(began))
			began = time.Now()
			r.heartbeat(b, "a1") // cannot be forwarded
			t.Logf("heartbeat at b of a's session: %v", time.Since(began))
			r.leave(b, "a2")
			r.AgreeWithin(program.Patience, topic, r.keys()...)
			healedAt := time.Now()
			r.Heal()
			r.track(b, "new-at-b")
			r.AgreeWithin(healedWithin, topic, r.keys()...)
			t.Logf("converged %v after healing", time.Since(healedAt))
			for i := range r.watchers {
				for _, change := range r.watchers[i].Since(marks[i]) {
					if _, left := change.Leaves["a1"]; left {
						t.Errorf("the watcher at node %s saw a1 leave, whom b adopted or renewed", r.Nodes[i].Name)
					}
				}
			}
		})
	}
}

// A node that hears all and is heard by nobody is dead to the others, and they to it: TCP goes both ways or not at all.
func TestNodeThatCannotSend(t *testing.T) {
	t.Parallel()
	r := openRoom(t, lab.Config{})
	a := r.Nodes[0]
	marks := r.marks()
	r.CutOneWay(a.Host, r.Hosts[1])
	r.CutOneWay(a.Host, r.Hosts[2])
	cutAt := time.Now()
	t.Logf("hidden after %v at b", r.hidden(1, marks[1], r.keysAt(a), cutAt))
	healedAt := time.Now()
	r.Heal()
	r.AgreeWithin(healedWithin, topic, r.keys()...)
	t.Logf("converged %v after healing", time.Since(healedAt))
}

// What one side has forgotten comes back whole.
func TestNodeIsForgotten(t *testing.T) {
	t.Parallel()
	r := openRoom(t, lab.Config{ForgetAfter: downAfter + time.Second})
	a, b := r.Nodes[0], r.Nodes[1]
	marks := r.marks()
	r.Split(a.Host)
	cutAt := time.Now()
	r.hidden(1, marks[1], r.keysAt(a), cutAt)
	program.Eventually(t, func() bool {
		status, err := b.Status()
		return err == nil && status.Complete && slices.ContainsFunc(status.Members, func(m rollcallclient.ClusterMember) bool {
			return m.State == rollcallclient.Permdown
		})
	}, "node b forgets node a")
	t.Logf("forgotten %v after the cut", time.Since(cutAt))
	r.track(a, "new-at-a")
	r.leave(a, "a1")
	healedAt := time.Now()
	r.Heal()
	r.AgreeWithin(healedWithin, topic, r.keys()...)
	t.Logf("converged %v after healing", time.Since(healedAt))
}

// A session that one side ended and the other adopted lives on until its lease runs out, and no longer.
func TestNoGhosts(t *testing.T) {
	t.Parallel()
	ttl := 2 * downAfter // it has not run out when b adopts
	r := openRoom(t, lab.Config{})
	a, b := r.Nodes[0], r.Nodes[1]
	for _, key := range []string{"ended-at-a", "forgotten-by-its-client"} {
		p, err := a.Track(topic, key, sessionOf(key), int(ttl.Seconds()))
		if err != nil {
			t.Fatal(err)
		}
		r.refs[key] = p.Ref
	}
	r.AgreeWithin(program.Patience, topic, r.keys()...)
	marks := r.marks()
	r.Split(a.Host)
	r.hidden(1, marks[1], r.keysAt(a)[:1], time.Now())
	r.heartbeat(b, "ended-at-a")
	r.heartbeat(b, "forgotten-by-its-client")
	adoptedAt := time.Now()
	r.leave(a, "ended-at-a")
	delete(r.refs, "forgotten-by-its-client")
	r.Heal()
	r.AgreeWithin(ttl+healedWithin, topic, r.keys()...)
	t.Logf("gone %v after their last heartbeat, with a lease of %v", time.Since(adoptedAt), ttl)
}

// Late and lost packets make changes late, and nobody is taken for dead.
func TestBadNetwork(t *testing.T) {
	t.Parallel()
	r := openRoom(t, lab.Config{DownAfter: 10 * time.Second})
	marks := r.marks()
	r.Impair(200*time.Millisecond, 0.05)
	var latencies []time.Duration
	for i := range 30 {
		n := r.Nodes[i%3]
		key := fmt.Sprint(n.Name, "-new-", i)
		began := time.Now()
		r.trackNew(n, key)
		for j, w := range r.watchers {
			if change := w.AwaitJoin(marks[j], r.refs[key], program.Patience); j != i%3 {
				latencies = append(latencies, change.At.Sub(began))
			}
		}
	}
	t.Log(latencyFigures(latencies))
	r.AgreeWithin(program.Patience, topic, r.keys()...)

	startedAt := time.Now()
	r.crash(r.Nodes[2])
	r.Cluster.Start(r.Nodes[2])
	r.AgreeWithin(program.Patience, topic, r.keys()...)
	t.Logf("a restart took %v", time.Since(startedAt))
	for i := range r.watchers {
		r.sawNoLeave(i, marks[i])
	}
	for _, key := range []string{"a1", "b1", "c1"} { // by way of a node that does not have it
		r.leave(r.Nodes[('b'-key[0]+4)%3], key)
	}
	r.AgreeWithin(program.Patience, topic, r.keys()...)
	r.Impair(0, 0)
	r.track(r.Nodes[0], "after")
	began := time.Now()
	r.AgreeWithin(healedWithin, topic, r.keys()...)
	t.Logf("converged %v after the network got well", time.Since(began))
}
