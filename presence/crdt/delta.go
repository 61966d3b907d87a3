package crdt

// Delta is a part of a set: the dots that it speaks of, and those among them that are live. The others were removed.
type Delta[V any] struct {
	Context Context
	Items   []Item[V] // their dots are in Context
}

// Delta returns the part of the set that dots make: for each, whether it is live and with which value, or was removed. Dots that the set has
// not seen are left out.
func (s *Set[V]) Delta(dots ...Dot) Delta[V] {
	var delta Delta[V]
	for _, dot := range dots {
		if !s.context.Has(dot) || delta.Context.Has(dot) {
			continue
		}
		delta.Context.Add(dot)
		if value, live := s.Get(dot); live {
			delta.Items = append(delta.Items, Item[V]{dot, value})
		}
	}
	sortItems(delta.Items)
	return delta
}

// Snapshot returns the whole set as a delta.
func (s *Set[V]) Snapshot() Delta[V] {
	return Delta[V]{Context: s.Context(), Items: s.Items()}
}

// Merge takes delta in and returns what it added and what it removed, each in the order of the dots. Merging what the set already knows changes nothing.
func (s *Set[V]) Merge(delta Delta[V]) (added, removed []Item[V]) {
	kept := make(map[Dot]struct{}, len(delta.Items))
	for _, item := range delta.Items {
		kept[item.Dot] = struct{}{}
	}
	for replica, theirs := range delta.Context.replicas {
		removed = append(removed, s.dropSeen(replica, theirs, kept)...)
	}
	for _, item := range delta.Items {
		if s.context.Has(item.Dot) {
			continue
		}
		s.context.Add(item.Dot)
		s.put(item.Dot, item.Value)
		added = append(added, item)
	}
	s.context.Union(delta.Context)
	sortItems(added)
	sortItems(removed)
	return added, removed
}

// dropSeen drops the live dots of replica that the sender of a delta has seen and not kept. It looks at the cloud's dots one by one, and at
// all of the replica's live ones only when the delta covers a version vector's worth of them.
func (s *Set[V]) dropSeen(replica Replica, theirs *seen, kept map[Dot]struct{}) (removed []Item[V]) {
	drop := func(counter uint64) {
		dot := Dot{replica, counter}
		if _, ok := kept[dot]; ok {
			return
		}
		if value, wasLive := s.drop(dot); wasLive {
			removed = append(removed, Item[V]{dot, value})
		}
	}
	for counter := range theirs.cloud {
		drop(counter)
	}
	live := s.live[replica]
	if theirs.upto <= uint64(len(live)) {
		for counter := uint64(1); counter <= theirs.upto; counter++ {
			drop(counter)
		}
		return removed
	}
	for counter := range live {
		if counter <= theirs.upto {
			drop(counter)
		}
	}
	return removed
}
