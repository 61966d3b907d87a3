package crdt

import (
	"fmt"
	"maps"
	"slices"
)

// Set is one replica's copy of the replicated set. It is not safe for use by several goroutines at once.
type Set[V any] struct {
	self      Replica
	seen      Context
	applied   Context // events of removals
	log       removalLog
	forgotten map[string]uint64 // by name, an incarnation
	retired   map[string]uint64 // by name, the highest incarnation that has ended
	live      map[Replica]*liveValues[V]
	len       int
}

// Item is a live value with the dot that names its add.
type Item[V any] struct {
	Dot   Dot
	Value V
}

// NewSet returns an empty set that names its adds as self, and forgets earlier incarnations of it. No other set may ever have added as self.
func NewSet[V any](self Replica) *Set[V] {
	s := &Set[V]{self: self, live: map[Replica]*liveValues[V]{}, forgotten: map[string]uint64{}, retired: map[string]uint64{}}
	s.log.most = defaultLogged
	if self.Incarnation > 1 {
		s.retired[self.Name] = self.Incarnation - 1
	}
	return s
}

// Add adds value and returns the dot that names the add.
func (s *Set[V]) Add(value V) Dot {
	dot := Dot{Replica: s.self, Counter: s.seen.Max(s.self) + 1}
	s.seen.Add(dot)
	s.put(dot, value)
	return dot
}

// Remove removes dots in one act, whichever replicas made them, and returns the act. A dot that was not yet seen counts as seen from now on, so that its
// add, should it still arrive, changes nothing.
func (s *Set[V]) Remove(dots ...Dot) Removal {
	r := Removal{Event: Dot{s.self, s.applied.Max(s.self) + 1}, Dots: dots}
	s.apply([]Removal{r})
	return r
}

// Get returns the value that is live under dot.
func (s *Set[V]) Get(dot Dot) (value V, live bool) {
	if values := s.live[dot.Replica]; values != nil {
		return values.values.Get(dot.Counter)
	}
	return value, false
}

// Len returns the number of live dots.
func (s *Set[V]) Len() int { return s.len }

// LenOf returns the number of live dots that replica added.
func (s *Set[V]) LenOf(replica Replica) int {
	if values := s.live[replica]; values != nil {
		return values.values.Len()
	}
	return 0
}

// Items returns the live values in the order of their dots.
func (s *Set[V]) Items() []Item[V] {
	items := make([]Item[V], 0, s.len)
	for _, replica := range slices.SortedFunc(maps.Keys(s.live), Replica.Compare) {
		items = append(items, s.ItemsOf(replica)...)
	}
	return items
}

// ItemsOf returns the live values that replica added, in order.
func (s *Set[V]) ItemsOf(replica Replica) []Item[V] {
	values := s.live[replica]
	if values == nil {
		return nil
	}
	items := make([]Item[V], 0, values.values.Len())
	values.values.Scan(func(counter uint64, value V) bool {
		items = append(items, Item[V]{Dot{replica, counter}, value})
		return true
	})
	return items
}

// Digest returns what the set has taken in.
func (s *Set[V]) Digest() Digest {
	prints := make(map[Replica]uint64, len(s.live))
	for replica, values := range s.live {
		prints[replica] = values.print
	}
	forgotten := maps.Clone(s.retired)
	for name, incarnation := range s.forgotten {
		forgotten[name] = max(forgotten[name], incarnation)
	}
	return Digest{Seen: s.seen.Clone(), Removals: s.applied.Clone(), Prints: prints, Forgotten: forgotten}
}

// Upto returns the n for which the set has seen the first n adds of replica and not the next.
func (s *Set[V]) Upto(replica Replica) uint64 { return s.seen.Upto(replica) }

// Known returns how much of what replica did, adds and removals, the set has taken in.
func (s *Set[V]) Known(replica Replica) uint64 {
	return s.seen.of(replica) + s.applied.of(replica)
}

// Gaps returns how many ranges of history are missing: none when it is compact.
func (s *Set[V]) Gaps() int { return s.seen.Gaps() + s.applied.Gaps() }

// Forget drops what replica added, and takes in no more of it until [Set.Recall]. It returns what was live, in order. Others keep it: this is no removal. What was removed
// stays so.
func (s *Set[V]) Forget(replica Replica) (removed []Item[V]) {
	if s.forgets(replica) {
		return nil
	}
	s.forgotten[replica.Name] = replica.Incarnation
	removed = s.ItemsOf(replica)
	var gone Context
	for _, item := range removed {
		gone.Add(item.Dot)
	}
	s.seen = s.seen.Minus(gone)
	s.len -= len(removed)
	delete(s.live, replica)
	return removed
}

// Recall takes in again what it hears about replica, if it was forgotten.
func (s *Set[V]) Recall(replica Replica) {
	if s.forgotten[replica.Name] == replica.Incarnation {
		delete(s.forgotten, replica.Name)
	}
}

// Retire is Forget for good, for a replica that never comes back and for its earlier incarnations: nothing of their history is kept.
func (s *Set[V]) Retire(replica Replica) (removed []Item[V]) {
	s.retired[replica.Name] = max(s.retired[replica.Name], replica.Incarnation)
	for r := range s.live {
		if s.hasRetired(r) {
			removed = append(removed, s.ItemsOf(r)...)
			delete(s.live, r)
		}
	}
	s.len -= len(removed)
	for _, context := range []Context{s.seen, s.applied} {
		maps.DeleteFunc(context.replicas, func(r Replica, _ ranges) bool { return s.hasRetired(r) })
	}
	sortItems(removed)
	return removed
}

func (s *Set[V]) forgets(replica Replica) bool {
	return replica.Incarnation == s.forgotten[replica.Name] || s.hasRetired(replica)
}

func (s *Set[V]) hasRetired(replica Replica) bool {
	return replica.Incarnation <= s.retired[replica.Name]
}

func (s *Set[V]) put(dot Dot, value V) {
	values := s.live[dot.Replica]
	if values == nil {
		values = &liveValues[V]{}
		s.live[dot.Replica] = values
	}
	if values.put(dot.Counter, value) {
		panic(fmt.Sprintf("crdt: dot %v added twice", dot))
	}
	s.len++
}

func (s *Set[V]) drop(dot Dot) (value V, wasLive bool) {
	values := s.live[dot.Replica]
	if values == nil {
		return value, false
	}
	value, wasLive = values.drop(dot.Counter)
	if !wasLive {
		return value, false
	}
	if values.values.Len() == 0 {
		delete(s.live, dot.Replica)
	}
	s.len--
	return value, true
}

func sortItems[V any](items []Item[V]) {
	slices.SortFunc(items, func(a, b Item[V]) int { return a.Dot.Compare(b.Dot) })
}
