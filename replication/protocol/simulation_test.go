package protocol

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rollcall/presence/crdt"
)

// check holds what the view says, right after its tick, against the referee's account.
func (n *simNode) check() {
	w := n.world
	for replica, said := range n.heard {
		if replica.Name == n.id {
			continue
		}
		state := n.view.StateOf(replica)
		if state == Unknown && w.now-said.at > 2*forgetAfter {
			delete(n.heard, replica) // nobody speaks of it any more
			delete(n.states, replica)
			continue
		}
		if state != n.states[replica] {
			w.t.Fatalf("%s: %v is %v, but the events said %v", n.id, replica, state, n.states[replica])
		}
		made := w.made[replica][said.count-1]
		if said.at < made {
			w.t.Fatalf("%s: beat %d of %v counts as heard %v before it was made", n.id, said.count, replica, made-said.at)
		}
		if n.supersededFor(replica) {
			continue
		}
		_, member := n.members[replica.Name]
		left := w.leftAt[replica] != 0 && said.count == w.leftAt[replica]
		want := Up
		switch silent := w.now - said.at; {
		case !member, left, silent >= forgetAfter:
			want = PermDown
		case silent >= downAfter:
			want = Down
		}
		// One that was stopped itself may be lenient, since nobody could be heard, but never hasty.
		if state != want && !(n.wasPaused && state < want) {
			w.t.Fatalf("%s says that %v is %v, want %v: its beat %d was made %v ago, and is known as %v old",
				n.id, replica, state, want, said.count, w.now-made, w.now-said.at)
		}
	}
	n.checkMembers()
}

func (n *simNode) checkMembers() {
	w := n.world
	complete := true
	told := map[crdt.Replica]bool{}
	for _, b := range n.view.Beats(n.clock()) {
		told[b.Replica] = true
		if _, ok := n.members[b.Replica.Name]; !ok {
			w.t.Fatalf("%s tells of %v, which is no member", n.id, b.Replica)
		}
	}
	members := n.view.Members(n.clock())
	if len(members) != len(n.members) {
		w.t.Fatalf("%s: %d members, want %d", n.id, len(members), len(n.members))
	}
	for _, m := range members {
		if (m.State == Up || m.Leaving) && m.Silent < forgetAfter && !told[m.Replica] {
			w.t.Fatalf("%s does not tell of %+v", n.id, m)
		}
		complete = complete && m.State != Down && m.State != Unknown
		if m.Replica.Incarnation > 0 {
			continue
		}
		silent := w.now - n.members[m.Replica.Name]
		want := Unknown
		switch {
		case silent >= forgetAfter:
			want = PermDown
		case silent >= downAfter:
			want = Down
		}
		if m.State != want && !(n.wasPaused && m.State < want) {
			w.t.Fatalf("%s says that %s, never heard of for %v, is %v, want %v", n.id, m.Replica.Name, silent, m.State, want)
		}
	}
	if n.view.Complete() != complete {
		w.t.Fatalf("%s: Complete = %v with %+v", n.id, n.view.Complete(), members)
	}
}

// up returns the nodes that run.
func (w *world) up() []*simNode {
	return slices.DeleteFunc(slices.Clone(w.nodes), func(n *simNode) bool { return !n.running })
}

func (w *world) heal() {
	clear(w.cut)
	w.loss, w.double, w.maxDelay = 0, 0, 100*time.Millisecond
	for _, n := range w.up() {
		n.setMembers(w.ids())
	}
}

// partition cuts the links by a pattern.
func (w *world) partition(kind string) {
	clear(w.cut)
	n := len(w.nodes)
	a, b := w.rng.IntN(n), w.rng.IntN(n)
	side := make([]bool, n)
	for i := range side {
		side[i] = w.rng.IntN(2) == 0
	}
	for from := range n {
		for to := range n {
			switch kind {
			case "in two":
				w.cut[[2]int{from, to}] = side[from] != side[to]
			case "one way":
				w.cut[[2]int{from, to}] = side[from] && !side[to]
			case "one link":
				w.cut[[2]int{from, to}] = from == a && to == b || from == b && to == a
			case "deaf":
				w.cut[[2]int{from, to}] = to == a
			case "mute":
				w.cut[[2]int{from, to}] = from == a
			}
		}
	}
}

// TestSimulation runs whole clusters through everything that can happen to them. After every tick of every node, what its view says must be exactly what follows from
// what it was told; in the end, with the network healed, all that run must agree.
func TestSimulation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"), rapid.IntRange(3, 7).Draw(t, "nodes"))
		node := rapid.IntRange(0, len(w.nodes)-1)
		seconds := func(t *rapid.T, most int) time.Duration {
			return time.Duration(rapid.IntRange(1, most*10).Draw(t, "tenths")) * time.Second / 10
		}
		t.Repeat(map[string]func(*rapid.T){
			"run":  func(t *rapid.T) { w.run(seconds(t, 6)) },
			"wait": func(t *rapid.T) { w.run(seconds(t, 20)) },
			"network": func(t *rapid.T) {
				w.loss = rapid.SampledFrom([]float64{0, 0.05, 0.3, 0.8}).Draw(t, "loss")
				w.double = rapid.SampledFrom([]float64{0, 0.5}).Draw(t, "double")
				w.maxDelay = rapid.SampledFrom([]time.Duration{time.Millisecond, 200 * time.Millisecond, 2 * time.Second, 15 * time.Second}).Draw(t, "delay")
			},
			"partition": func(t *rapid.T) {
				w.partition(rapid.SampledFrom([]string{"none", "in two", "one way", "one link", "deaf", "mute"}).Draw(t, "kind"))
			},
			"pause": func(t *rapid.T) {
				n := w.nodes[node.Draw(t, "node")]
				n.pausedUntil = max(n.pausedUntil, w.now+seconds(t, 30))
				n.wasPaused = true
			},
			"crash": func(t *rapid.T) { w.nodes[node.Draw(t, "node")].running = false },
			"start": func(t *rapid.T) {
				n := w.nodes[node.Draw(t, "node")]
				n.running = false
				n.start()
			},
			"leave": func(t *rapid.T) {
				n := w.nodes[node.Draw(t, "node")]
				if n.running && w.now >= n.pausedUntil {
					n.leave()
				}
			},
			"members": func(t *rapid.T) { // some node learns late that one is out, or in again
				n, other := w.nodes[node.Draw(t, "at")], w.nodes[node.Draw(t, "other")]
				if !n.running || n == other || w.now < n.pausedUntil {
					return
				}
				if _, ok := n.members[other.id]; ok {
					n.setMembers(slices.DeleteFunc(slices.Collect(maps.Keys(n.members)), func(id string) bool { return id == other.id }))
				} else {
					n.setMembers(append(slices.Collect(maps.Keys(n.members)), other.id))
				}
			},
		})
		w.heal()
		w.run(50 * time.Second) // the paused wake, the delayed arrives
		w.run(forgetAfter + 5*time.Second)
		for _, n := range w.up() {
			n.checkAgrees()
		}
	})
}

// leave makes a last beat, tells everybody, and is gone.
func (n *simNode) leave() {
	w := n.world
	n.status.Leaving = true
	n.beat()
	w.leftAt[n.replica()] = uint64(len(w.made[n.replica()]))
	for _, other := range w.nodes {
		if other != n {
			w.send(other.index, n.message())
		}
	}
	n.running = false
}

// checkAgrees checks that, long after healing, the node knows exactly who runs, holds the data of nobody else, and reaches all who run.
func (n *simNode) checkAgrees() {
	w := n.world
	for _, other := range w.nodes {
		want := PermDown
		if other.running {
			want = Up
		}
		present, heard := n.view.Present(other.id)
		if heard && other.running && present != other.replica() {
			w.t.Fatalf("%s knows %v, want %v", n.id, present, other.replica())
		}
		if got := n.view.StateOf(present); got != want {
			w.t.Fatalf("%s says that %v is %v, want %v", n.id, present, got, want)
		}
		if other.running && !n.view.Reachable(other.id, n.clock()) {
			w.t.Fatalf("%s thinks that it does not reach %s", n.id, other.id)
		}
	}
	for replica := range n.data {
		if !w.nodes[slices.Index(w.ids(), replica.Name)].running {
			w.t.Fatalf("%s holds data of %v, which is dead", n.id, replica)
		}
		if present, _ := n.view.Present(replica.Name); present != replica {
			w.t.Fatalf("%s holds data of %v, which was superseded by %v", n.id, replica, present)
		}
	}
	if !n.view.Complete() {
		w.t.Fatalf("%s is not complete: %+v", n.id, n.view.Members(n.clock()))
	}
}

// TestDeadStaysDead kills a node while the others go on talking about it over a bad network. Everywhere it must be down as soon as its last beat can have grown old on the
// longest way, and never be up again.
func TestDeadStaysDead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"), rapid.IntRange(3, 7).Draw(t, "nodes"))
		w.maxDelay = rapid.SampledFrom([]time.Duration{time.Millisecond, 500 * time.Millisecond, 3 * time.Second}).Draw(t, "delay")
		w.double = rapid.SampledFrom([]float64{0, 0.5, 0.9}).Draw(t, "double")
		w.loss = rapid.SampledFrom([]float64{0, 0.3}).Draw(t, "loss")
		if rapid.Bool().Draw(t, "cut") {
			w.partition("one link")
		}
		w.run(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "life")) * time.Millisecond)
		victim := w.nodes[0]
		victim.running = false
		hops := time.Duration(len(w.nodes) - 1)
		bound := w.now + downAfter + hops*w.maxDelay + 2*interval
		w.run(bound - w.now)
		for _, n := range w.nodes[1:] {
			if present, heard := n.view.Present(victim.id); heard && n.view.StateOf(present) == Up {
				t.Fatalf("%s says that %v is up %v after its death", n.id, present, bound-w.now)
			}
			n.upEvents = map[string]time.Duration{}
		}
		w.run(4 * downAfter)
		for _, n := range w.nodes[1:] {
			if at, ok := n.upEvents[victim.id]; ok {
				t.Fatalf("%s saw the dead rise, %v before the end", n.id, w.now-at)
			}
		}
	})
}

// TestNobodyIsBlamedForBeingUnreachableDirectly cuts one link while everybody sees a third: no view may change its mind.
func TestNobodyIsBlamedForBeingUnreachableDirectly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"), rapid.IntRange(3, 7).Draw(t, "nodes"))
		w.run(10 * time.Second)
		w.partition("one link")
		w.loss = 0.05
		w.run(3 * downAfter)
		for _, n := range w.nodes {
			for _, other := range w.nodes {
				if state := n.view.StateOf(other.replica()); state != Up {
					t.Fatalf("%s says that %v is %v", n.id, other, state)
				}
			}
			if len(n.upEvents) != len(w.nodes)-1 {
				t.Fatalf("%s heard of %d others", n.id, len(n.upEvents))
			}
			for id, at := range n.upEvents {
				if at > n.startedAt+10*time.Second {
					t.Fatalf("%s lost %s and found it again", n.id, id)
				}
			}
		}
	})
}

// TestStoppedBlamesNobody stops one node for some time in a cluster that is well. The others miss it; it misses nobody.
func TestStoppedBlamesNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"), rapid.IntRange(3, 7).Draw(t, "nodes"))
		w.run(10 * time.Second)
		stopped := w.nodes[0]
		stopped.pausedUntil, stopped.wasPaused = w.now+time.Duration(rapid.IntRange(1, 100).Draw(t, "seconds"))*time.Second, true
		w.run(stopped.pausedUntil - w.now + 5*time.Second)
		for _, n := range w.nodes {
			for _, other := range w.nodes {
				if state := n.view.StateOf(other.replica()); state != Up {
					t.Fatalf("%s says after all that %v is %v", n.id, other, state)
				}
			}
		}
		for id, at := range stopped.upEvents {
			if at > stopped.startedAt+10*time.Second {
				t.Fatalf("%s, which was stopped, lost %s and found it again", stopped.id, id)
			}
		}
	})
}
