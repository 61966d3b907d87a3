package crdt

import (
	"fmt"
	"slices"
)

// Set is one replica's copy of the replicated set. It is not safe for use by several goroutines at once.
type Set[V any] struct {
	self    Replica
	context Context
	live    map[Replica]map[uint64]V
	len     int
}

// Item is a live value with the dot that names its add.
type Item[V any] struct {
	Dot   Dot
	Value V
}

// NewSet returns an empty set that names its adds as self. No other set may ever have added as self.
func NewSet[V any](self Replica) *Set[V] {
	return &Set[V]{self: self, live: map[Replica]map[uint64]V{}}
}

// Add adds value and returns the dot that names the add.
func (s *Set[V]) Add(value V) Dot {
	dot := Dot{Replica: s.self, Counter: s.context.Upto(s.self) + 1}
	s.context.Add(dot)
	s.put(dot, value)
	return dot
}

// Remove removes dot, whichever replica made it, and returns the value that was live under it. A dot that was not yet seen counts as seen from
// now on, so that its add, should it still arrive, changes nothing.
func (s *Set[V]) Remove(dot Dot) (value V, wasLive bool) {
	s.context.Add(dot)
	return s.drop(dot)
}

// Get returns the value that is live under dot.
func (s *Set[V]) Get(dot Dot) (value V, live bool) {
	value, live = s.live[dot.Replica][dot.Counter]
	return value, live
}

// Len returns the number of live dots.
func (s *Set[V]) Len() int { return s.len }

// Items returns the live values in the order of their dots.
func (s *Set[V]) Items() []Item[V] {
	items := make([]Item[V], 0, s.len)
	for replica, values := range s.live {
		for counter, value := range values {
			items = append(items, Item[V]{Dot{replica, counter}, value})
		}
	}
	sortItems(items)
	return items
}

// Context returns a copy of the set's context: its digest.
func (s *Set[V]) Context() Context { return s.context.Clone() }

func (s *Set[V]) put(dot Dot, value V) {
	values := s.live[dot.Replica]
	if values == nil {
		values = map[uint64]V{}
		s.live[dot.Replica] = values
	}
	if _, ok := values[dot.Counter]; ok {
		panic(fmt.Sprintf("crdt: dot %v added twice", dot))
	}
	values[dot.Counter] = value
	s.len++
}

func (s *Set[V]) drop(dot Dot) (value V, wasLive bool) {
	values := s.live[dot.Replica]
	value, wasLive = values[dot.Counter]
	if !wasLive {
		return value, false
	}
	delete(values, dot.Counter)
	if len(values) == 0 {
		delete(s.live, dot.Replica)
	}
	s.len--
	return value, true
}

func sortItems[V any](items []Item[V]) {
	slices.SortFunc(items, func(a, b Item[V]) int { return a.Dot.Compare(b.Dot) })
}
