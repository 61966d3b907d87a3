package protocol

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"rollcall/presence/crdt"
)

// Config configures a [View]. Self and Shards must be set.
type Config struct {
	Self   crdt.Replica
	Shards int // how many parts the replicated data is in
	// DownAfter is how long a replica may be silent before it is down. Default 10 s.
	DownAfter time.Duration
	// ForgetAfter is how long it may be silent before it is forgotten. Default 20 min.
	ForgetAfter time.Duration
	// Interval is the time between ticks. Default 1 s, or an eighth of DownAfter if that is less.
	Interval time.Duration
}

func (c *Config) setDefaults() {
	if c.DownAfter == 0 {
		c.DownAfter = 10 * time.Second
	}
	if c.ForgetAfter == 0 {
		c.ForgetAfter = 20 * time.Minute
	}
	if c.Interval == 0 {
		c.Interval = min(time.Second, c.DownAfter/8)
	}
}

// silence is the number of intervals without a sign from which on something is wrong: two that were missed, and some slack.
const silence = 2.5

func (c *Config) patience() time.Duration { return time.Duration(silence * float64(c.Interval)) }

// View is what one replica thinks of all others. It is not safe for use by several goroutines at once. All its times are readings of one monotonic clock of the
// caller's, with any start.
type View struct {
	config       Config
	clock        clock
	nodes        map[string]*node
	self         *record
	supersededBy crdt.Replica // the last that was told; zero: none
}

// New returns a view of a cluster of which nothing is known yet. Its replica has no beat, and so is not announced, before the first Tick.
func New(config Config, now time.Duration) *View {
	config.setDefaults()
	v := &View{
		config: config,
		clock:  clock{stall: config.patience(), step: config.Interval, last: now},
		nodes:  map[string]*node{},
		self:   &record{replica: config.Self, madeAt: now, heardAt: now, state: Up},
	}
	v.nodes[config.Self.Name] = &node{id: config.Self.Name, member: true, present: v.self}
	return v
}

// SetMembers tells the view the ids of all members. What is no member is permdown. A new member is unknown for Config.DownAfter, then down, until it is
// heard of. The view's own node always counts as a member.
func (v *View) SetMembers(ids []string, now time.Duration) []Event {
	running := v.clock.read(now)
	for _, id := range ids {
		if n := v.node(id); !n.member {
			n.join(now, running)
		}
	}
	for id, n := range v.nodes {
		n.member = id == v.config.Self.Name || slices.Contains(ids, id)
	}
	return v.settleAll(running)
}

// Receive takes in what another replica says of itself and others.
func (v *View) Receive(beats []Beat, now time.Duration) []Event {
	var events []Event
	running := v.clock.read(now)
	for _, beat := range slices.SortedFunc(slices.Values(beats), byNameLatestFirst) {
		events = v.receive(events, beat, now, running)
	}
	return events
}

// byNameLatestFirst sees to it that a replica which is about to be superseded is not shown before.
func byNameLatestFirst(a, b Beat) int {
	return cmp.Or(strings.Compare(a.Replica.Name, b.Replica.Name), cmp.Compare(b.Replica.Incarnation, a.Replica.Incarnation))
}

func (v *View) receive(events []Event, beat Beat, now, running time.Duration) []Event {
	if beat.Count == 0 || beat.Replica.Incarnation == 0 {
		return events // nobody's
	}
	n := v.node(beat.Replica.Name)
	if n.present == v.self && beat.Replica.Incarnation >= v.self.replica.Incarnation {
		return v.receiveOfSelf(events, beat)
	}
	r := n.of(beat.Replica.Incarnation)
	switch {
	case r == nil && beat.Replica.Incarnation <= n.done:
		return events
	case r == nil:
		r = n.add(beat.Replica.Incarnation, now, running)
	case beat.Count <= r.count, n.superseded(r) && r.count > 0:
		return events
	}
	r.hear(beat, now, running)
	if n.present == nil || r.replica.Incarnation > n.present.replica.Incarnation {
		if old := n.promote(r); old != nil {
			events = append(events, NewIncarnation{old.replica, r.replica})
		}
	}
	return v.settle(events, n, r, running)
}

func (v *View) receiveOfSelf(events []Event, beat Beat) []Event {
	if beat.Replica == v.self.replica && beat.Count <= v.self.count {
		return events
	}
	return v.supersede(events, beat.Replica)
}

// supersede tells once that a replica with this node's id exists which is not this one.
func (v *View) supersede(events []Event, by crdt.Replica) []Event {
	if by.Incarnation <= v.supersededBy.Incarnation {
		return events
	}
	v.supersededBy = by
	return append(events, SelfSuperseded{by})
}

// Learn tells the view that the replicated data has entries of these replicas. One that the view has not heard of counts as heard of now, so that it, too,
// is judged, should there never be a beat.
func (v *View) Learn(replicas []crdt.Replica, now time.Duration) []Event {
	var events []Event
	running := v.clock.read(now)
	for _, replica := range replicas {
		n := v.node(replica.Name)
		switch {
		case n.of(replica.Incarnation) != nil || replica.Incarnation <= n.done:
		case n.present == v.self && replica.Incarnation > v.self.replica.Incarnation:
			events = v.supersede(events, replica)
		default:
			events = v.settle(events, n, n.add(replica.Incarnation, now, running), running)
		}
	}
	return events
}

// Tick makes this replica's next beat, with the given status, and notices who has been silent for too long. It is called every Config.Interval.
func (v *View) Tick(now time.Duration, status Status) []Event {
	running := v.clock.read(now)
	v.self.hear(Beat{Count: v.self.count + 1, Status: status}, v.clock.last, running)
	return v.prune(v.settleAll(running))
}

// Beats returns the latest beat of every member that is not forgotten, and the last one of those who left, as long as others may not have forgotten them
// either: what every message to another member carries.
func (v *View) Beats(now time.Duration) []Beat {
	var beats []Beat
	v.clock.read(now)
	for _, n := range v.sorted() {
		for _, r := range n.records() {
			if age := max(now-r.madeAt, 0); v.tells(n, r, age) {
				beats = append(beats, Beat{Replica: r.replica, Count: r.count, Age: age, Status: r.status})
			}
		}
	}
	return beats
}

func (v *View) tells(n *node, r *record, age time.Duration) bool {
	if r.count == 0 || !n.member || age >= v.config.ForgetAfter {
		return false
	}
	return r.state != PermDown || r.status.Leaving
}

// settleAll brings all states up to the time.
func (v *View) settleAll(running time.Duration) []Event {
	var events []Event
	for _, n := range v.sorted() {
		for _, r := range n.records() {
			events = v.settle(events, n, r, running)
		}
	}
	return events
}

// settle brings the state of r up to the time.
func (v *View) settle(events []Event, n *node, r *record, running time.Duration) []Event {
	state := v.judge(n, r, running)
	if state == r.state {
		return events
	}
	from := r.state
	r.state = state
	if state == PermDown {
		r.endedAt = v.clock.last
	}
	return append(events, StateChanged{r.replica, from, state})
}

func (v *View) judge(n *node, r *record, running time.Duration) State {
	if r == v.self {
		return Up
	}
	state := Up
	switch silent := running - r.heardAt; {
	case !n.member, r.status.Leaving, r.gone(), silent >= v.config.ForgetAfter:
		state = PermDown
	case silent >= v.config.DownAfter:
		state = Down
	case r.replica.Incarnation == 0:
		state = Unknown
	}
	if n.superseded(r) { // it will not get better
		return max(state, r.state)
	}
	return state
}

// prune drops what is so long forgotten that nobody speaks of it any more: superseded replicas, and those of nodes that are no members.
func (v *View) prune(events []Event) []Event {
	for _, n := range v.sorted() {
		for _, r := range n.records() {
			switch {
			case r.state != PermDown || v.clock.last-max(r.madeAt, r.endedAt) <= 2*v.config.ForgetAfter:
			case n.superseded(r):
				n.drop(r)
				n.done = max(n.done, r.replica.Incarnation)
			case !n.member:
				n.drop(r)
				events = append(events, StateChanged{r.replica, PermDown, Unknown})
			}
		}
		if !n.member && n.present == nil && len(n.others) == 0 {
			delete(v.nodes, n.id)
		}
	}
	return events
}

func (v *View) node(id string) *node {
	n := v.nodes[id]
	if n == nil {
		n = &node{id: id}
		v.nodes[id] = n
	}
	return n
}

func (v *View) sorted() []*node {
	return slices.SortedFunc(maps.Values(v.nodes), func(a, b *node) int { return strings.Compare(a.id, b.id) })
}
