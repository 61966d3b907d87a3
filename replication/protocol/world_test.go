package protocol

import (
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"pgregory.net/rapid"

	"rollcall/presence/crdt"
)

// The world of the simulation: some nodes, a network between them, and a clock that moves from one event to the next. One seed decides everything.

const (
	shards      = 2
	downAfter   = 8 * time.Second
	forgetAfter = 40 * time.Second
	interval    = time.Second
	timeout     = 1500 * time.Millisecond // of a request
)

type world struct {
	t     *rapid.T
	rng   *rand.Rand
	now   time.Duration
	queue queue
	order uint64
	nodes []*simNode

	maxDelay time.Duration // of a message; those to a node that is stopped wait for it
	loss     float64
	double   float64
	cut      map[[2]int]bool // from, to

	made     map[crdt.Replica][]time.Duration // when each beat was made
	leftAt   map[crdt.Replica]uint64          // the count of a last beat
	restored map[crdt.Replica][]uint64
}

// simNode is one node: its present run, and what the referee knows of it.
type simNode struct {
	world       *world
	index       int
	id          string
	incarnation uint64
	running     bool
	pausedUntil time.Duration
	wasPaused   bool
	startedAt   time.Duration
	offset      time.Duration // of its clock
	view        *View
	members     map[string]time.Duration // since when
	status      Status
	waiting     map[uint64]string // requests without an answer

	data      map[crdt.Replica]*[shards]uint64 // merged dots, all of them without gaps
	forgotten map[crdt.Replica]*[shards]bool
	states    map[crdt.Replica]State    // by the events
	heard     map[crdt.Replica]*hearsay // the referee's own account
	upEvents  map[string]time.Duration  // the last StateChanged to Up, by node id
}

// hearsay is what a node has been told of a replica: the highest beat, and when it was made plus the time that it spent on the way.
type hearsay struct {
	count uint64
	at    time.Duration
}

type message struct {
	from    int
	replica crdt.Replica
	request uint64 // answered with the same number; 0 for a push
	answer  bool
	beats   []Beat
	hearsay map[crdt.Replica]hearsay
	sentAt  time.Duration
	data    map[crdt.Replica]*[shards]uint64
}

func newWorld(t *rapid.T, seed uint64, n int) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), now: time.Hour, maxDelay: 300 * time.Millisecond,
		cut: map[[2]int]bool{}, made: map[crdt.Replica][]time.Duration{}, leftAt: map[crdt.Replica]uint64{}, restored: map[crdt.Replica][]uint64{},
	}
	for i := range n {
		w.nodes = append(w.nodes, &simNode{world: w, index: i, id: string(rune('a' + i))})
	}
	for _, n := range w.nodes {
		n.start()
	}
	return w
}

func (w *world) ids() []string {
	var ids []string
	for _, n := range w.nodes {
		ids = append(ids, n.id)
	}
	return ids
}

// run lets d pass.
func (w *world) run(d time.Duration) {
	until := w.now + d
	for len(w.queue) > 0 && w.queue[0].at <= until {
		next := heap.Pop(&w.queue).(event)
		w.now = next.at
		next.do()
	}
	w.now = until
}

func (w *world) after(d time.Duration, do func()) {
	w.order++
	heap.Push(&w.queue, event{w.now + d, w.order, do})
}

func (w *world) delay() time.Duration { return time.Duration(w.rng.Int64N(int64(w.maxDelay) + 1)) }

func (w *world) send(to int, m message) {
	m.sentAt = w.now
	copies := 1
	if w.rng.Float64() < w.double {
		copies = 1 + w.rng.IntN(3)
	}
	for range copies {
		if w.cut[[2]int{m.from, to}] || w.rng.Float64() < w.loss {
			continue
		}
		w.after(w.delay(), func() { w.nodes[to].deliver(m) })
	}
}

func (n *simNode) clock() time.Duration { return n.world.now - n.offset }

func (n *simNode) replica() crdt.Replica { return crdt.Replica{Name: n.id, Incarnation: n.incarnation} }

// start begins a new run, with what the last one's journal kept of its dots.
func (n *simNode) start() {
	w := n.world
	n.incarnation++
	n.running, n.wasPaused, n.pausedUntil, n.startedAt = true, false, 0, w.now
	n.offset = time.Duration(w.rng.Int64N(int64(time.Hour)))
	n.view = New(Config{Self: n.replica(), Shards: shards, DownAfter: downAfter, ForgetAfter: forgetAfter, Interval: interval}, n.clock())
	n.members, n.waiting = map[string]time.Duration{}, map[uint64]string{}
	n.data, n.forgotten = map[crdt.Replica]*[shards]uint64{}, map[crdt.Replica]*[shards]bool{}
	n.states, n.heard, n.upEvents = map[crdt.Replica]State{}, map[crdt.Replica]*hearsay{}, map[string]time.Duration{}
	n.status = Status{Version: "1"}
	if w.rng.IntN(4) > 0 {
		n.status.Restored = make([]uint64, shards)
		for shard := range n.status.Restored {
			n.status.Restored[shard] = w.rng.Uint64N(4)
		}
	}
	w.restored[n.replica()] = n.status.Restored
	n.data[n.replica()] = &[shards]uint64{}
	copy(n.data[n.replica()][:], n.status.Restored)
	n.setMembers(w.ids())
	run := n.incarnation
	w.after(time.Duration(w.rng.Int64N(int64(interval))), func() { n.tick(run) })
}

func (n *simNode) setMembers(ids []string) {
	for id := range n.members {
		if !slices.Contains(ids, id) {
			delete(n.members, id)
		}
	}
	for _, id := range ids {
		if _, ok := n.members[id]; !ok {
			n.members[id] = n.world.now
		}
	}
	n.apply(n.view.SetMembers(ids, n.clock()))
}

func (n *simNode) tick(run uint64) {
	w := n.world
	if !n.running || n.incarnation != run {
		return
	}
	if w.now < n.pausedUntil {
		w.after(n.pausedUntil-w.now, func() { n.tick(run) })
		return
	}
	w.after(interval+time.Duration(w.rng.Int64N(int64(interval/10))), func() { n.tick(run) })
	n.beat()
	for _, id := range n.view.Targets(n.clock(), w.rng) {
		n.exchange(id)
	}
	if w.rng.IntN(2) == 0 {
		n.push()
	}
}

// beat ticks the view and compares it with the referee's account.
func (n *simNode) beat() {
	w := n.world
	n.apply(n.view.Tick(n.clock(), n.status))
	w.made[n.replica()] = append(w.made[n.replica()], w.now)
	n.heard[n.replica()] = &hearsay{uint64(len(w.made[n.replica()])), w.now}
	n.check()
}

func (n *simNode) exchange(id string) {
	w := n.world
	w.order++
	request := w.order
	to := slices.Index(w.ids(), id)
	n.waiting[request] = id
	m := n.message()
	m.request = request
	w.send(to, m)
	run := n.incarnation
	w.after(timeout, func() {
		if n.running && n.incarnation == run && n.waiting[request] != "" && w.now >= n.pausedUntil {
			delete(n.waiting, request)
			n.view.Failed(id)
		}
	})
}

// push makes a dot and sends it to everybody, with nobody's beat but the own.
func (n *simNode) push() {
	w := n.world
	own := n.data[n.replica()]
	own[w.rng.IntN(shards)]++
	dots := *own
	m := n.message()
	m.beats = slices.DeleteFunc(m.beats, func(b Beat) bool { return b.Replica != n.replica() })
	m.hearsay = map[crdt.Replica]hearsay{n.replica(): *n.heard[n.replica()]}
	m.data = map[crdt.Replica]*[shards]uint64{n.replica(): &dots}
	for _, other := range w.nodes {
		if other != n {
			w.send(other.index, m)
		}
	}
}

// message says all that the node knows; its data is now and then cut short.
func (n *simNode) message() message {
	w := n.world
	m := message{from: n.index, replica: n.replica(), beats: n.view.Beats(n.clock()), hearsay: map[crdt.Replica]hearsay{}, data: map[crdt.Replica]*[shards]uint64{}}
	for _, b := range m.beats {
		m.hearsay[b.Replica] = *n.heard[b.Replica]
	}
	for _, replica := range slices.SortedFunc(maps.Keys(n.data), crdt.Replica.Compare) {
		dots := [shards]uint64{}
		for shard := range dots {
			if !n.forgot(replica)[shard] && w.rng.IntN(4) > 0 {
				dots[shard] = n.data[replica][shard]
			}
		}
		m.data[replica] = &dots
	}
	return m
}

func (n *simNode) deliver(m message) {
	w := n.world
	if !n.running {
		return
	}
	if w.now < n.pausedUntil {
		w.after(n.pausedUntil-w.now+w.delay(), func() { n.deliver(m) })
		return
	}
	if _, ok := n.members[w.nodes[m.from].id]; !ok {
		return // not from a member
	}
	n.listen(m)
	n.apply(n.view.Receive(m.beats, n.clock()))
	n.apply(n.view.Learn(slices.SortedFunc(maps.Keys(m.data), crdt.Replica.Compare), n.clock()))
	n.retire()
	n.merge(m.data)
	n.retire()
	switch {
	case m.answer:
		if n.waiting[m.request] != "" && m.replica.Incarnation == w.nodes[m.from].incarnation {
			delete(n.waiting, m.request)
			n.view.Answered(w.nodes[m.from].id)
		}
	case m.request != 0:
		answer := n.message()
		answer.request, answer.answer = m.request, true
		w.send(m.from, answer)
	}
}

// listen keeps the referee's account: a higher count is news, as old as it was at its sender plus the way.
func (n *simNode) listen(m message) {
	latestFirst := func(a, b crdt.Replica) int { return b.Compare(a) }
	for _, replica := range slices.SortedFunc(maps.Keys(m.hearsay), latestFirst) {
		theirs := m.hearsay[replica]
		if replica == n.replica() {
			continue
		}
		at := theirs.at + n.world.now - m.sentAt
		ours := n.heard[replica]
		switch {
		case ours == nil:
			n.heard[replica] = &hearsay{theirs.count, at}
		case theirs.count > ours.count && !n.supersededFor(replica):
			ours.count, ours.at = theirs.count, max(ours.at, at)
		}
	}
}

// supersededFor tells whether the node has heard of, or is, a later incarnation.
func (n *simNode) supersededFor(replica crdt.Replica) bool {
	if replica.Name == n.id {
		return replica.Incarnation < n.incarnation
	}
	for other := range n.heard {
		if other.Name == replica.Name && other.Incarnation > replica.Incarnation {
			return true
		}
	}
	return false
}

func (n *simNode) merge(data map[crdt.Replica]*[shards]uint64) {
	for replica, dots := range data {
		for shard, upto := range dots {
			if n.forgot(replica)[shard] {
				continue
			}
			if n.data[replica] == nil {
				n.data[replica] = &[shards]uint64{}
			}
			n.data[replica][shard] = max(n.data[replica][shard], upto)
		}
	}
}

func (n *simNode) forgot(replica crdt.Replica) *[shards]bool {
	if n.forgotten[replica] == nil {
		n.forgotten[replica] = &[shards]bool{}
	}
	return n.forgotten[replica]
}

func (n *simNode) upto(shard int, replica crdt.Replica) uint64 {
	if dots := n.data[replica]; dots != nil {
		return dots[shard]
	}
	return 0
}

func (n *simNode) retire() { n.apply(n.view.Retire(n.upto, n.clock())) }

// apply does what a tracker would, and holds each event against the last about the same replica.
func (n *simNode) apply(events []Event) {
	t := n.world.t
	for _, e := range events {
		switch e := e.(type) {
		case StateChanged:
			if _, member := n.members[e.Replica.Name]; e.From == Unknown && (e.Replica.Incarnation == 0 || !member) {
				delete(n.states, e.Replica) // the node was no member, dropped with all that was known of it, and is spoken of again
			}
			if e.From == e.To || e.From != n.states[e.Replica] {
				t.Fatalf("%s: %v goes from %v to %v, but was %v", n.id, e.Replica, e.From, e.To, n.states[e.Replica])
			}
			if e.To == Up && e.From != Unknown && n.supersededFor(e.Replica) {
				t.Fatalf("%s: %v goes from %v to %v although it is superseded", n.id, e.Replica, e.From, e.To)
			}
			n.states[e.Replica] = e.To
			if e.From == PermDown {
				*n.forgot(e.Replica) = [shards]bool{}
			}
			switch e.To {
			case PermDown:
				*n.forgot(e.Replica) = [shards]bool{true, true}
				delete(n.data, e.Replica)
			case Up:
				n.upEvents[e.Replica.Name] = n.world.now
			}
		case Retired:
			n.checkRetired(e)
			n.forgot(e.Old)[e.Shard] = true
		case NewIncarnation:
			if e.Old.Name != e.New.Name || e.Old.Incarnation >= e.New.Incarnation {
				t.Fatalf("%s: %v superseded by %v", n.id, e.Old, e.New)
			}
		case SelfSuperseded:
			t.Fatalf("%s: superseded by %v", n.id, e.By)
		}
	}
}

func (n *simNode) checkRetired(e Retired) {
	t := n.world.t
	switch {
	case n.forgot(e.Old)[e.Shard]:
		t.Fatalf("%s: shard %d of %v retired twice", n.id, e.Shard, e.Old)
	case n.heard[e.New] == nil:
		t.Fatalf("%s: %v retired before a beat of %v", n.id, e.Old, e.New)
	}
	if restored := n.world.restored[e.New]; restored != nil && n.upto(e.Shard, e.New) < restored[e.Shard] {
		t.Fatalf("%s: shard %d of %v retired with %d of the %d dots that %v restored", n.id, e.Shard, e.Old, n.upto(e.Shard, e.New), restored[e.Shard], e.New)
	}
}

type event struct {
	at    time.Duration
	order uint64
	do    func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	*q = (*q)[:last]
	return e
}

func (n *simNode) String() string { return fmt.Sprintf("%v", n.replica()) }
