package presence

import "rollcall/presence/crdt"

// maxChanges bounds how much of a shard is kept for [Tracker.TakeChanges]. What is beyond is left to repair.
const maxChanges = 1 << 16

// changes are what happened in a shard here, on this node, and was not taken yet. Nil is a recorder that records nothing. The shard's lock guards it.
type changes struct {
	notify   func()
	dots     []crdt.Dot
	removals []crdt.Removal
	triples  map[triple]struct{} // that were touched
}

func (c *changes) added(id triple, dot crdt.Dot) {
	if c != nil && len(c.dots) < maxChanges {
		c.dots = append(c.dots, dot)
		c.touch(id)
	}
}

func (c *changes) removed(id triple, r crdt.Removal) {
	if c != nil && len(c.removals) < maxChanges {
		c.removals = append(c.removals, r)
		c.touch(id)
	}
}

func (c *changes) touch(id triple) {
	if c.triples == nil {
		c.triples = map[triple]struct{}{}
	}
	c.triples[id] = struct{}{}
	c.notify()
}

// ShardDelta is a delta of one shard.
type ShardDelta struct {
	Shard int // 0 to Shards-1
	Delta Delta
}

// RecordChanges keeps, from now on, what changes on this node for [Tracker.TakeChanges]. notify is called with each change, under a lock: it must not block, nor call
// the tracker.
func (t *Tracker) RecordChanges(notify func()) {
	t.replicated.Store(true)
	for _, s := range t.shards {
		s.mu.Lock()
		s.changes = &changes{notify: notify}
		s.mu.Unlock()
	}
}

// TakeChanges returns what has changed on this node since the last call, as it is now: not what others have changed.
func (t *Tracker) TakeChanges() []ShardDelta {
	var deltas []ShardDelta
	for i, s := range t.shards {
		if delta, any := s.takeChanges(); any {
			deltas = append(deltas, ShardDelta{Shard: i, Delta: delta})
		}
	}
	return deltas
}

func (s *shard) takeChanges() (delta Delta, any bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes == nil || len(s.changes.dots)+len(s.changes.removals) == 0 {
		return Delta{}, false
	}
	// With what else there is of the same presences: another node may have replaced what changed here, and who hears of the change alone would see a leave.
	for id := range s.changes.triples {
		if r := s.records[id]; r != nil {
			s.changes.dots = append(s.changes.dots, r.dots...)
		}
	}
	delta = s.set.Delta(s.changes.dots, s.changes.removals)
	*s.changes = changes{notify: s.changes.notify}
	return delta, true
}
