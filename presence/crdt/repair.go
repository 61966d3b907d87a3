package crdt

import "iter"

// Repair is what another set lacks, as it was when [Set.Repair] was called. The set may change meanwhile.
type Repair[V any] struct {
	live    map[Replica]*liveValues[V]
	missing Context  // the adds that the other has not seen
	last    Delta[V] // what comes after their items
	empty   bool
}

// Repair returns what the set with that digest lacks of this one. It takes time in proportion to the number of replicas, and to the number of live dots only where the other lacks
// removals that the log no longer holds.
func (s *Set[V]) Repair(theirs Digest) *Repair[V] {
	if s.matches(theirs) {
		return &Repair[V]{empty: true} // as most often
	}
	ours := s.Digest()
	r := &Repair[V]{live: map[Replica]*liveValues[V]{}}
	r.missing = ours.Seen.without(ours, theirs).Minus(theirs.Seen)
	events := ours.Removals.without(ours, theirs).Minus(theirs.Removals)
	removals, logged := s.log.since(events)
	contradiction := ours.contradicts(theirs)
	r.empty = r.missing.Empty() && events.Empty() && !contradiction
	if r.empty {
		return r
	}
	for replica, values := range s.live {
		r.live[replica] = &liveValues[V]{values: *values.values.Copy()}
	}
	r.last = Delta[V]{Seen: r.missing, Removals: removals}
	if !logged || contradiction {
		r.last = Delta[V]{Seen: ours.Seen.without(ours, theirs), Applied: ours.Removals.without(ours, theirs)}
	}
	return r
}

// matches tells whether the set's digest is d.
func (s *Set[V]) matches(d Digest) bool {
	if !s.seen.Equal(d.Seen) || !s.applied.Equal(d.Removals) || len(s.live) != len(d.Prints) {
		return false
	}
	for replica, values := range s.live {
		if d.Prints[replica] != values.print {
			return false
		}
	}
	return true
}

// Empty tells whether the other set lacks nothing.
func (r *Repair[V]) Empty() bool { return r.empty }

// Parts returns the repair as deltas of at most a number of items each, to be merged in this order: values that were replaced are removed after those that replace them are
// added. A receiver that gets only the first few has taken in those. Nothing is held but the part at hand, and the dots of those that went before.
func (r *Repair[V]) Parts(most int) iter.Seq[Delta[V]] {
	return func(yield func(Delta[V]) bool) {
		if r.empty {
			return
		}
		var part Delta[V]
		for item := range r.items() {
			if len(part.Items) == most {
				if !yield(part) {
					return
				}
				part = Delta[V]{}
			}
			part.Seen.Add(item.Dot)
			part.Items = append(part.Items, item)
		}
		last := r.last
		last.Items = part.Items
		last.Live = r.liveIn(last.Seen)
		yield(last)
	}
}

// items returns the live ones among what the other has not seen, in order.
func (r *Repair[V]) items() iter.Seq[Item[V]] {
	return func(yield func(Item[V]) bool) {
		for _, replica := range r.missing.Replicas() {
			values := r.live[replica]
			if values == nil {
				continue
			}
			for _, rng := range r.missing.Ranges(replica) {
				more := true
				values.values.Ascend(rng.From, func(counter uint64, value V) bool {
					if counter > rng.To {
						return false
					}
					more = yield(Item[V]{Dot{replica, counter}, value})
					return more
				})
				if !more {
					return
				}
			}
		}
	}
}

// liveIn returns the live dots within a context.
func (r *Repair[V]) liveIn(context Context) Context {
	var live Context
	for replica, values := range r.live {
		for _, rng := range context.Ranges(replica) {
			values.values.Ascend(rng.From, func(counter uint64, _ V) bool {
				if counter > rng.To {
					return false
				}
				live.Add(Dot{replica, counter})
				return true
			})
		}
	}
	return live
}
