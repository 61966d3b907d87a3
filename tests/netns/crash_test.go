//go:build linux

package netns

import (
	"net/http"
	"testing"
	"time"

	"rollcall/tests/netns/lab"
	"rollcall/tests/program"
)

func TestNodeIsKilled(t *testing.T) {
	t.Parallel()
	r := openRoom(t, lab.Config{})
	a, b := r.Nodes[0], r.Nodes[1]
	ofA, marks := r.keysAt(a), r.marks()
	r.crash(a)
	killedAt := time.Now()
	t.Logf("hidden after %v at b, %v at c", r.hidden(1, marks[1], ofA, killedAt), r.hidden(2, marks[2], ofA, killedAt))
	r.heartbeat(b, "a1") // its client has found another node
	r.watchers[2].AwaitJoin(marks[2], r.refs["a1"], program.Patience)
	marks = r.marks()
	startedAt := time.Now()
	r.Cluster.Start(a)
	r.AgreeWithin(program.Patience, topic, r.keys()...)
	t.Logf("its sessions are back %v after it was started", time.Since(startedAt))
	for i := range r.watchers[1:] {
		r.sawNoLeave(i+1, marks[i+1])
	}
}

// A crash from which a node comes back before anybody takes it for dead is seen by nobody.
func TestNodeIsKilledAndComesBackAtOnce(t *testing.T) {
	t.Parallel()
	r := openRoom(t, lab.Config{DownAfter: 10 * time.Second})
	marks := r.marks()
	began := time.Now()
	for _, n := range r.Nodes {
		r.crash(n)
		r.Cluster.Start(n)
	}
	t.Logf("three restarts took %v", time.Since(began))
	r.AgreeWithin(program.Patience, topic, r.keys()...)
	for i := range r.watchers {
		r.sawNothing(i, marks[i])
	}
}

func TestNodeIsPaused(t *testing.T) {
	t.Parallel()
	r := openRoom(t, lab.Config{})
	a := r.Nodes[0]
	ofA, marks := r.keysAt(a), r.marks()
	a.Pause()
	pausedAt := time.Now()
	t.Logf("hidden after %v at b, %v at c", r.hidden(1, marks[1], ofA, pausedAt), r.hidden(2, marks[2], ofA, pausedAt))
	r.track(r.Nodes[1], "new-at-b")
	resumed := r.marks()
	a.Resume()
	resumedAt := time.Now()
	r.AgreeWithin(healedWithin, topic, r.keys()...)
	t.Logf("converged %v after it went on", time.Since(resumedAt))
	t.Logf("shown again after %v at b, %v at c", r.shown(1, resumed[1], ofA, resumedAt), r.shown(2, resumed[2], ofA, resumedAt))
	r.sawNoLeave(0, marks[0]) // it was a that stood still, not the world
}

// Presence does not need the quorum.
func TestQuorumIsLost(t *testing.T) {
	t.Parallel()
	r := openRoom(t, lab.Config{})
	a, b, c := r.Nodes[0], r.Nodes[1], r.Nodes[2]
	ofB, ofC, marks := r.keysAt(b), r.keysAt(c), r.marks()
	status, err := a.Status()
	if err != nil {
		t.Fatal(err)
	}
	r.crash(b, c)
	killedAt := time.Now()
	r.track(a, "new-at-once") // before anybody knows
	t.Logf("hidden after %v and %v", r.hidden(0, marks[0], ofB, killedAt), r.hidden(0, marks[0], ofC, killedAt))
	program.Eventually(t, func() bool {
		status, err := a.Status()
		return err == nil && !status.Quorum && !status.Complete
	}, "node a says that the quorum is lost and its view incomplete")
	r.track(a, "new-at-a")
	r.leave(a, "a1")
	r.heartbeat(a, "a2")
	r.heartbeat(a, "b2") // adopted
	left := append(r.keysAt(a), "new-at-a", "new-at-once", "b2")
	r.AgreeWithin(program.Patience, topic, left...)
	for _, m := range status.Members {
		if m.Id == status.Node {
			continue
		}
		response, err := a.API().RemoveNodeWithResponse(t.Context(), m.Id)
		if err != nil || response.StatusCode() != http.StatusServiceUnavailable {
			t.Errorf("removing a member: %v, %v, want 503", response.Status(), err)
		}
	}
	startedAt := time.Now()
	r.Cluster.Start(b)
	t.Logf("b is back %v after it was started", time.Since(startedAt))
	program.Eventually(t, func() bool {
		status, err := a.Status()
		return err == nil && status.Quorum
	}, "node a says that there is a quorum")
	t.Logf("the quorum is back %v after b was started", time.Since(startedAt))
	r.Cluster.Start(c)
	r.AgreeWithin(program.Patience, topic, r.keys()...)
}

func TestAllNodesGoDownAndUp(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*room){
		"killed": func(r *room) { r.crash(r.Nodes...) },
		"stopped": func(r *room) {
			for _, n := range r.Nodes {
				n.Shutdown()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := openRoom(t, lab.Config{})
			end(r)
			startedAt := time.Now()
			r.Cluster.Start(r.Nodes[2], r.Nodes[1], r.Nodes[0])
			r.AgreeWithin(program.Patience, topic, r.keys()...)
			t.Logf("all agree %v after the first was started", time.Since(startedAt))
			r.track(r.Nodes[0], "new-at-a")
			r.AgreeWithin(healedWithin, topic, r.keys()...)
		})
	}
}

// As in Kubernetes, where a pod keeps its disk and changes its address.
func TestNodesChangeTheirAddresses(t *testing.T) {
	t.Parallel()
	r := openRoom(t, lab.Config{})
	for _, n := range r.Nodes {
		r.crash(n)
		n.Move()
		startedAt := time.Now()
		r.Cluster.Start(n)
		t.Logf("node %s is back %v after it was started at another address", n.Name, time.Since(startedAt))
		r.AgreeWithin(program.Patience, topic, r.keys()...)
	}
	r.crash(r.Nodes...)
	for _, n := range r.Nodes {
		n.Move()
	}
	startedAt := time.Now()
	for _, n := range r.Nodes {
		n.Start()
	}
	r.AwaitUp(program.Patience)
	r.AgreeWithin(program.Patience, topic, r.keys()...)
	t.Logf("all are back %v after the first was started, each at another address", time.Since(startedAt))
}
