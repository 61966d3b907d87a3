package crdt

// Delta is a part of a set: the dots that it speaks of, and those among them that are live. The others were removed.
type Delta[V any] struct {
	Seen     Context   // what it speaks of
	Items    []Item[V] // live; their dots are in Seen
	Live     Context   // also live, but their items are not here: the receiver has seen them, or gets them otherwise
	Removals []Removal // acts of removing that are wholly within this delta; their dots need not be in Seen
	Applied  Context   // events of more removals whose dots are all in Seen
}

// Delta returns the part of the set that dots and removals make. For each dot it says whether it is live and with which value, or was removed. Dots that the
// set has not seen are left out.
func (s *Set[V]) Delta(dots []Dot, removals []Removal) Delta[V] {
	delta := Delta[V]{Removals: removals}
	for _, dot := range dots {
		if !s.seen.Has(dot) || delta.Seen.Has(dot) {
			continue
		}
		delta.Seen.Add(dot)
		if value, live := s.Get(dot); live {
			delta.Items = append(delta.Items, Item[V]{dot, value})
		}
	}
	sortItems(delta.Items)
	return delta
}

// Merge takes delta in and returns what it added and what it removed, each in the order of the dots. Merging what the set already knows changes nothing.
// What is said about forgotten replicas is left out.
func (s *Set[V]) Merge(delta Delta[V]) (added, removed []Item[V]) {
	kept := map[Dot]struct{}{}
	for _, item := range delta.Items {
		kept[item.Dot] = struct{}{}
	}
	for replica, theirs := range delta.Seen.replicas {
		if s.forgets(replica) {
			continue
		}
		for _, rng := range theirs {
			removed = append(removed, s.dropRange(replica, rng, func(dot Dot) bool {
				_, ok := kept[dot]
				return ok || delta.Live.Has(dot)
			})...)
		}
	}
	for _, item := range delta.Items {
		if s.forgets(item.Dot.Replica) || s.seen.Has(item.Dot) {
			continue
		}
		s.seen.Add(item.Dot)
		s.put(item.Dot, item.Value)
		added = append(added, item)
	}
	for replica, theirs := range delta.Seen.replicas {
		for _, rng := range theirs {
			if !s.forgets(replica) {
				s.see(replica, rng, delta.Live)
			}
		}
	}
	removed = append(removed, s.apply(delta.Removals)...)
	for replica, events := range delta.Applied.replicas {
		for _, rng := range events {
			if !s.forgets(replica) {
				s.applied.AddRange(replica, rng)
			}
		}
	}
	sortItems(added)
	sortItems(removed)
	return added, removed
}

// see takes a range of dots into the context, without those that are live elsewhere and whose items are not here yet.
func (s *Set[V]) see(replica Replica, rng Range, live Context) {
	for _, part := range (ranges{rng}).minus(live.replicas[replica]) {
		s.seen.AddRange(replica, part)
	}
}

// dropRange drops the live dots of replica in a range, but for those to keep.
func (s *Set[V]) dropRange(replica Replica, rng Range, keep func(Dot) bool) (removed []Item[V]) {
	values := s.live[replica]
	if values == nil {
		return nil
	}
	var gone []uint64
	values.values.Ascend(rng.From, func(counter uint64, _ V) bool {
		if counter > rng.To {
			return false
		}
		if !keep(Dot{replica, counter}) {
			gone = append(gone, counter)
		}
		return true
	})
	for _, counter := range gone {
		dot := Dot{replica, counter}
		value, _ := s.drop(dot)
		removed = append(removed, Item[V]{dot, value})
	}
	return removed
}

// apply takes in acts of removing, and remembers them for others.
func (s *Set[V]) apply(removals []Removal) (removed []Item[V]) {
	for _, r := range removals {
		if s.forgets(r.Event.Replica) || s.applied.Has(r.Event) {
			continue
		}
		for _, dot := range r.Dots {
			if s.hasRetired(dot.Replica) {
				continue
			}
			s.seen.Add(dot) // also of a replica that is forgotten, and may be recalled
			if value, wasLive := s.drop(dot); wasLive {
				removed = append(removed, Item[V]{dot, value})
			}
		}
		s.applied.Add(r.Event)
		s.log.add(r)
	}
	return removed
}
