package crdt

import (
	"iter"
	"maps"
	"slices"
)

// Range is the counters From to To of one replica, both included.
type Range struct{ From, To uint64 }

// Context is a set of dots: those that a replica has seen, or those that a delta speaks of. The zero value is empty and ready to use.
//
// It holds each replica's counters as ranges. Without gaps that is one range from 1: the entry of a version vector.
type Context struct {
	replicas map[Replica]ranges
}

// ContextOf returns the context of exactly these dots.
func ContextOf(dots ...Dot) Context {
	var c Context
	for _, dot := range dots {
		c.Add(dot)
	}
	return c
}

// Has tells whether dot is in the context.
func (c Context) Has(dot Dot) bool { return c.replicas[dot.Replica].has(dot.Counter) }

// Upto returns the highest n for which the dots 1 to n of replica are all in the context.
func (c Context) Upto(replica Replica) uint64 {
	if r := c.replicas[replica]; len(r) > 0 && r[0].From == 1 {
		return r[0].To
	}
	return 0
}

// Max returns the highest counter of replica in the context, 0 when there is none.
func (c Context) Max(replica Replica) uint64 {
	if r := c.replicas[replica]; len(r) > 0 {
		return r[len(r)-1].To
	}
	return 0
}

// Gaps returns how many ranges of counters are missing below those that are there: none when history is compact.
func (c Context) Gaps() int {
	n := 0
	for _, r := range c.replicas {
		n += len(r)
		if r[0].From == 1 {
			n--
		}
	}
	return n
}

// Len returns how many dots the context has.
func (c Context) Len() uint64 {
	n := uint64(0)
	for replica := range c.replicas {
		n += c.of(replica)
	}
	return n
}

// of returns how many dots of replica the context has.
func (c Context) of(replica Replica) uint64 {
	n := uint64(0)
	for _, rng := range c.replicas[replica] {
		n += rng.To - rng.From + 1
	}
	return n
}

// Empty tells whether the context has no dot.
func (c Context) Empty() bool { return len(c.replicas) == 0 }

// Replicas returns the replicas that the context has dots of, in order.
func (c Context) Replicas() []Replica {
	return slices.SortedFunc(maps.Keys(c.replicas), Replica.Compare)
}

// Ranges returns replica's counters as ranges, ascending, with gaps between them. They are not to be changed.
func (c Context) Ranges(replica Replica) []Range { return c.replicas[replica] }

// All returns the dots in order, which may be very many.
func (c Context) All() iter.Seq[Dot] {
	return func(yield func(Dot) bool) {
		for _, replica := range c.Replicas() {
			for _, rng := range c.replicas[replica] {
				for counter := rng.From; counter <= rng.To; counter++ {
					if !yield(Dot{replica, counter}) {
						return
					}
				}
			}
		}
	}
}

// Add puts dot into the context.
func (c *Context) Add(dot Dot) { c.AddRange(dot.Replica, Range{dot.Counter, dot.Counter}) }

// AddRange puts a range of replica's dots into the context. An empty range, whose To is below From, changes nothing, as does counter 0, which
// no dot has.
func (c *Context) AddRange(replica Replica, rng Range) {
	rng.From = max(rng.From, 1)
	if rng.To < rng.From {
		return
	}
	if c.replicas == nil {
		c.replicas = map[Replica]ranges{}
	}
	c.replicas[replica] = c.replicas[replica].with(rng)
}

// Union puts all dots of other into the context.
func (c *Context) Union(other Context) {
	for replica, theirs := range other.replicas {
		for _, rng := range theirs {
			c.AddRange(replica, rng)
		}
	}
}

// Minus returns the dots of c that are not in other.
func (c Context) Minus(other Context) Context {
	var rest Context
	for replica, ours := range c.replicas {
		if left := ours.minus(other.replicas[replica]); len(left) > 0 {
			if rest.replicas == nil {
				rest.replicas = map[Replica]ranges{}
			}
			rest.replicas[replica] = left
		}
	}
	return rest
}

// Clone returns a copy that shares nothing with c.
func (c Context) Clone() Context {
	clone := Context{replicas: make(map[Replica]ranges, len(c.replicas))}
	for replica, r := range c.replicas {
		clone.replicas[replica] = slices.Clone(r)
	}
	return clone
}

// Equal tells whether both contexts have the same dots.
func (c Context) Equal(other Context) bool {
	return maps.EqualFunc(c.replicas, other.replicas, func(a, b ranges) bool { return slices.Equal(a, b) })
}

// ranges are counters, ascending, with gaps between them.
type ranges []Range

// find returns the index of the first range that does not end before counter.
func (r ranges) find(counter uint64) int {
	if n := len(r); n == 0 || r[n-1].To < counter { // new dots come in order, so most often it is the end
		return n
	}
	i, _ := slices.BinarySearchFunc(r, counter, func(rng Range, counter uint64) int {
		if rng.To < counter {
			return -1
		}
		return 1
	})
	return i
}

func (r ranges) has(counter uint64) bool {
	i := r.find(counter)
	return i < len(r) && r[i].From <= counter
}

// with returns r and rng, and may use r's memory.
func (r ranges) with(rng Range) ranges {
	first := r.find(rng.From - 1) // that overlaps or touches rng, or comes after it
	last := first
	for ; last < len(r) && r[last].From <= rng.To+1; last++ {
		rng.From, rng.To = min(rng.From, r[last].From), max(rng.To, r[last].To)
	}
	if last == first+1 {
		r[first] = rng
		return r
	}
	return slices.Replace(r, first, last, rng)
}

// minus returns the counters of r that are not in other.
func (r ranges) minus(other ranges) ranges {
	var left ranges
	for _, rng := range r {
		for i := other.find(rng.From); i < len(other) && other[i].From <= rng.To; i++ {
			if other[i].From > rng.From {
				left = append(left, Range{rng.From, other[i].From - 1})
			}
			rng.From = other[i].To + 1
		}
		if rng.From <= rng.To {
			left = append(left, rng)
		}
	}
	return left
}
