package protocol

import (
	"maps"
	"slices"
	"time"

	"rollcall/presence/crdt"
)

// node is what a view knows of a node: its present incarnation, the others, and how direct requests to it go.
type node struct {
	id      string
	member  bool
	present *record            // the highest incarnation of which a beat was heard; a member that was not heard of has one of incarnation 0
	others  map[uint64]*record // by incarnation: earlier ones, and later ones of which there is data, but no beat yet
	done    uint64             // of the superseded ones up to this, none is spoken of again, however late a message comes
	contact contact
}

// record is what a view knows of a replica.
type record struct {
	replica crdt.Replica
	count   uint64 // of its latest beat; 0: none was heard
	status  Status
	madeAt  time.Duration // when that beat was made, on the caller's clock, for its age
	heardAt time.Duration // the same on the clock that stands still, for judging. Neither ever moves back
	state   State
	endedAt time.Duration // when it became PermDown, on the caller's clock
	retired []bool        // by shard, once superseded; nil: none
}

// gone tells whether all shards are retired.
func (r *record) gone() bool { return r.retired != nil && !slices.Contains(r.retired, false) }

// hear takes in a beat with a higher count than the record's.
func (r *record) hear(beat Beat, now, running time.Duration) {
	age := min(max(beat.Age, 0), maxAge)
	if r.count == 0 { // what was known came from data, which has no age
		r.madeAt, r.heardAt = now-age, running-age
	}
	r.count, r.status = beat.Count, beat.Status
	r.madeAt, r.heardAt = max(r.madeAt, now-age), max(r.heardAt, running-age)
}

// maxAge keeps sums of times far from overflow.
const maxAge = 100 * 365 * 24 * time.Hour

// of returns the record of an incarnation, or nil.
func (n *node) of(incarnation uint64) *record {
	if n.present != nil && n.present.replica.Incarnation == incarnation {
		return n.present
	}
	return n.others[incarnation]
}

// records returns all incarnations in their order.
func (n *node) records() []*record {
	all := slices.Collect(maps.Values(n.others))
	if n.present != nil {
		all = append(all, n.present)
	}
	slices.SortFunc(all, func(a, b *record) int { return a.replica.Compare(b.replica) })
	return all
}

// superseded tells whether the node is known to have a later incarnation than r.
func (n *node) superseded(r *record) bool {
	return n.present != nil && r.replica.Incarnation < n.present.replica.Incarnation
}

// add makes a record for an incarnation that has none.
func (n *node) add(incarnation uint64, now, running time.Duration) *record {
	r := &record{replica: crdt.Replica{Name: n.id, Incarnation: incarnation}, madeAt: now, heardAt: running}
	if n.others == nil {
		n.others = map[uint64]*record{}
	}
	n.others[incarnation] = r
	return r
}

func (n *node) drop(r *record) {
	if n.present == r {
		n.present = nil
	}
	delete(n.others, r.replica.Incarnation)
}

// join begins the time that a new member has to be heard of.
func (n *node) join(now, running time.Duration) {
	if n.present == nil {
		n.present = &record{replica: crdt.Replica{Name: n.id}}
	}
	if n.present.replica.Incarnation == 0 {
		n.present.madeAt, n.present.heardAt = now, running
	}
}

// promote makes r the present incarnation and returns the one that it supersedes, nil if none was ever heard of.
func (n *node) promote(r *record) *record {
	old := n.present
	delete(n.others, r.replica.Incarnation)
	n.present = r
	if old == nil || old.replica.Incarnation == 0 {
		return nil
	}
	n.others[old.replica.Incarnation] = old
	return old
}
