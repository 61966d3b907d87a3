//go:build linux

package netns

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/netns/lab"
	"rollcall/tests/program"
)

const (
	topic      = "lobby"
	perNode    = 20                     // people at each node
	journalled = 500 * time.Millisecond // what was said earlier than this is on disk; promised is --journal-interval, 100 ms
)

var (
	downAfter    = slowly(2 * time.Second)
	hiddenWithin = downAfter + slowly(2*time.Second) // a beat and a tick after down-after; the rest is for timers that are late
	healedWithin = slowly(2 * time.Second)           // what rollcall promises
)

// slowly returns what d is to a program that the race detector slows down.
func slowly(d time.Duration) time.Duration {
	if program.RaceDetector() {
		return 3 * d
	}
	return d
}

// room is a cluster with people and watchers at each node.
type room struct {
	*lab.Cluster
	t        *testing.T
	watchers []*lab.Watcher
	refs     map[string]string // of each key
}

// openRoom starts three nodes and lets perNode people be at each: a1, a2 … at node a. A key's session is named like it.
func openRoom(t *testing.T, config lab.Config) *room {
	t.Helper()
	if config.DownAfter == 0 {
		config.DownAfter = downAfter
	}
	r := &room{Cluster: lab.NewCluster(t, binary, config), t: t, refs: map[string]string{}}
	r.Start()
	r.watchers = r.Watch(topic)
	for _, w := range r.watchers {
		w.AwaitOpen(1)
	}
	for _, n := range r.Nodes {
		for i := range perNode {
			r.track(n, fmt.Sprint(n.Name, i+1))
		}
	}
	r.AgreeWithin(program.Patience, topic, r.keys()...)
	return r
}

func sessionOf(key string) string { return "session-of-" + key + "-000000" }

// track lets a key be at a node.
func (r *room) track(n *lab.Node, key string) {
	r.t.Helper()
	p, err := n.Track(topic, key, sessionOf(key), 0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.refs[key] = p.Ref
}

// trackNew is track with a session that the node makes, which spares it the question whether another node knows the session.
func (r *room) trackNew(n *lab.Node, key string) {
	r.t.Helper()
	p, err := n.Track(topic, key, "", 0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.refs[key] = p.Ref
}

// crash kills a node that has had the time to write down what it knows.
func (r *room) crash(nodes ...*lab.Node) {
	r.t.Helper()
	time.Sleep(journalled)
	for _, n := range nodes {
		n.Kill()
	}
}

// leave ends a key's session at a node.
func (r *room) leave(n *lab.Node, key string) {
	r.t.Helper()
	if err := n.Leave(sessionOf(key)); err != nil {
		r.t.Fatal(err)
	}
	delete(r.refs, key)
}

// heartbeat renews a key's session at a node.
func (r *room) heartbeat(n *lab.Node, key string) {
	r.t.Helper()
	status, err := n.Heartbeat(sessionOf(key))
	if err != nil || status != 200 {
		r.t.Fatalf("heartbeat of %s at node %s: %d, %v", key, n.Name, status, err)
	}
}

// keys are all who are there.
func (r *room) keys() []string {
	var keys []string
	for key := range r.refs {
		keys = append(keys, key)
	}
	return keys
}

// keysAt are those of the keys that were tracked at a node.
func (r *room) keysAt(n *lab.Node) []string {
	return slices.DeleteFunc(r.keys(), func(key string) bool { return !strings.HasPrefix(key, n.Name) })
}

// marks are where the watchers are now.
func (r *room) marks() []int {
	var marks []int
	for _, w := range r.watchers {
		marks = append(marks, w.Mark())
	}
	return marks
}

// sawNothing checks that a watcher has seen no change since the mark.
func (r *room) sawNothing(at, mark int) {
	r.t.Helper()
	if changes := r.watchers[at].Since(mark); len(changes) > 0 {
		r.t.Errorf("the watcher at node %s saw %s, want nothing", r.Nodes[at].Name, describe(changes))
	}
}

// sawNoLeave checks that a watcher has seen nobody leave since the mark.
func (r *room) sawNoLeave(at, mark int) {
	r.t.Helper()
	for _, change := range r.watchers[at].Since(mark) {
		if len(change.Leaves) > 0 {
			r.t.Errorf("the watcher at node %s saw %s, want no leaves", r.Nodes[at].Name, describe([]lab.Change{change}))
		}
	}
}

// hidden waits until a watcher has seen the keys leave, and checks that it was one diff that held them all. It returns how long after the given time that was.
func (r *room) hidden(at, mark int, keys []string, since time.Time) time.Duration {
	r.t.Helper()
	change := r.watchers[at].AwaitLeave(mark, r.refs[keys[0]], hiddenWithin)
	r.inOne(at, change.Leaves, keys)
	return change.At.Sub(since)
}

// shown is hidden for those that come back.
func (r *room) shown(at, mark int, keys []string, since time.Time) time.Duration {
	r.t.Helper()
	change := r.watchers[at].AwaitJoin(mark, r.refs[keys[0]], program.Patience)
	r.inOne(at, change.Joins, keys)
	return change.At.Sub(since)
}

func (r *room) inOne(at int, part rollcallclient.PresenceState, keys []string) {
	r.t.Helper()
	for _, key := range keys {
		if _, ok := part[key]; !ok {
			r.t.Errorf("the watcher at node %s saw %d keys in one diff, %s not among them; want all %d", r.Nodes[at].Name, len(part), key, len(keys))
			return
		}
	}
}

func describe(changes []lab.Change) string {
	var lines []string
	for _, c := range changes {
		lines = append(lines, fmt.Sprintf("+%d -%d (%v, -%v)", len(c.Joins), len(c.Leaves), names(c.Joins), names(c.Leaves)))
	}
	return strings.Join(lines, "; ")
}

func names(state rollcallclient.PresenceState) []string {
	var keys []string
	for key := range state {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// percentile returns the value that so many percent are not above.
func percentile(sorted []time.Duration, percent int) time.Duration {
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}
