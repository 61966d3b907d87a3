package crdt

import "maps"

// Context is a set of dots: those that a replica has seen, or those that a delta speaks of. The zero value is empty and ready to use.
type Context struct {
	replicas map[Replica]*seen
}

// seen holds the dots of one replica: 1 to upto, and the cloud, whose counters are all above upto+1.
type seen struct {
	upto  uint64
	cloud map[uint64]struct{}
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
func (c Context) Has(dot Dot) bool {
	s := c.replicas[dot.Replica]
	if s == nil {
		return false
	}
	if dot.Counter <= s.upto {
		return true
	}
	_, ok := s.cloud[dot.Counter]
	return ok
}

// Upto returns the highest n for which the dots 1 to n of replica are all in the context: the version vector's entry.
func (c Context) Upto(replica Replica) uint64 {
	if s := c.replicas[replica]; s != nil {
		return s.upto
	}
	return 0
}

// CloudLen returns how many dots lie beyond a gap: none when history is compact.
func (c Context) CloudLen() int {
	n := 0
	for _, s := range c.replicas {
		n += len(s.cloud)
	}
	return n
}

// Add puts dot into the context.
func (c *Context) Add(dot Dot) {
	s := c.of(dot.Replica)
	s.add(dot.Counter)
	s.compact()
}

// Union puts all dots of other into the context.
func (c *Context) Union(other Context) {
	for replica, theirs := range other.replicas {
		ours := c.of(replica)
		if theirs.upto > ours.upto {
			ours.upto = theirs.upto
			maps.DeleteFunc(ours.cloud, func(counter uint64, _ struct{}) bool { return counter <= ours.upto })
		}
		for counter := range theirs.cloud {
			ours.add(counter)
		}
		ours.compact()
	}
}

// Clone returns a copy that shares nothing with c.
func (c Context) Clone() Context {
	clone := Context{replicas: make(map[Replica]*seen, len(c.replicas))}
	for replica, s := range c.replicas {
		clone.replicas[replica] = &seen{upto: s.upto, cloud: maps.Clone(s.cloud)}
	}
	return clone
}

// Equal tells whether both contexts have the same dots.
func (c Context) Equal(other Context) bool {
	return maps.EqualFunc(c.replicas, other.replicas, func(a, b *seen) bool {
		return a.upto == b.upto && maps.Equal(a.cloud, b.cloud)
	})
}

func (c *Context) of(replica Replica) *seen {
	s := c.replicas[replica]
	if s == nil {
		if c.replicas == nil {
			c.replicas = map[Replica]*seen{}
		}
		s = &seen{}
		c.replicas[replica] = s
	}
	return s
}

// add leaves the cloud uncompacted, so that a run of adds is compacted once.
func (s *seen) add(counter uint64) {
	switch {
	case counter <= s.upto:
	case counter == s.upto+1:
		s.upto++
		delete(s.cloud, counter)
	default:
		if s.cloud == nil {
			s.cloud = map[uint64]struct{}{}
		}
		s.cloud[counter] = struct{}{}
	}
}

// compact moves into upto what the cloud has right above it.
func (s *seen) compact() {
	for len(s.cloud) > 0 {
		if _, ok := s.cloud[s.upto+1]; !ok {
			return
		}
		s.upto++
		delete(s.cloud, s.upto)
	}
	s.cloud = nil
}
