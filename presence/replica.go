package presence

import (
	"rollcall/presence/crdt"
)

// Replica is the run of the node that the tracker belongs to.
func (t *Tracker) Replica() crdt.Replica { return t.config.Replica }

// Digest says what a shard has taken in.
func (t *Tracker) Digest(shard int) crdt.Digest {
	s := t.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.Digest()
}

// Repair returns what the shard of another node, whose digest is theirs, lacks of this one's.
func (t *Tracker) Repair(shard int, theirs crdt.Digest) *crdt.Repair[*Entry] {
	s := t.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.Repair(theirs)
}

// Upto returns the n for which a shard has taken in the first n adds of replica and not the next.
func (t *Tracker) Upto(shard int, replica crdt.Replica) uint64 {
	s := t.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.Upto(replica)
}

// Known returns how many changes of replica this node has taken in. That many of its own changes a replica has made.
func (t *Tracker) Known(replica crdt.Replica) uint64 {
	n := uint64(0)
	for _, s := range t.shards {
		s.mu.Lock()
		n += s.set.Known(replica)
		s.mu.Unlock()
	}
	return n
}

// Merge takes in what another node has of a shard. It takes time in proportion to the delta.
func (t *Tracker) Merge(shard int, delta Delta) {
	for _, id := range t.shards[shard].merge(delta) {
		t.reconcile(id)
	}
}

// Hide keeps the presences of a replica out of sight: in one diff for each topic they leave.
func (t *Tracker) Hide(r crdt.Replica) {
	for _, s := range t.shards {
		s.hide(r, true)
	}
}

// Recall takes in again what is heard about a replica that was forgotten, and keeps it out of sight until Show.
func (t *Tracker) Recall(r crdt.Replica) {
	for _, s := range t.shards {
		s.mu.Lock()
		s.hidden[r] = struct{}{}
		s.set.Recall(r)
		s.mu.Unlock()
	}
}

// Show undoes Hide and Forget, as far as the presences are still known.
func (t *Tracker) Show(r crdt.Replica) {
	for _, s := range t.shards {
		s.hide(r, false)
	}
}

// Forget drops the presences of a replica until it is shown again. Other nodes keep them.
func (t *Tracker) Forget(r crdt.Replica) {
	for _, s := range t.shards {
		s.drop(func() []crdt.Item[*Entry] { return s.set.Forget(r) })
	}
}

// Retire drops what one shard has of a replica that never comes back, and of its node's earlier ones.
func (t *Tracker) Retire(shard int, r crdt.Replica) {
	s := t.shards[shard]
	s.drop(func() []crdt.Item[*Entry] {
		delete(s.hidden, r)
		return s.set.Retire(r)
	})
}

// merge takes delta in and returns the sessions that it may have moved, in the order of the delta.
func (s *shard) merge(delta Delta) []SessionID {
	s.mu.Lock()
	defer s.mu.Unlock()
	added, removed := s.set.Merge(delta)
	changed := newTouched(len(added) + len(removed))
	for _, item := range added {
		s.refs.observe(item.Value.Ref, item.Value.Claim)
		id := tripleOf(item.Value.Presence)
		s.putDotLocked(s.recordLocked(id), id, item.Dot)
		changed.add(id)
	}
	for _, item := range removed {
		id := tripleOf(item.Value.Presence)
		s.dropDotLocked(s.records[id], id, item.Dot)
		changed.add(id)
	}
	return s.settleAllLocked(changed)
}

// drop takes out of the records what forget drops from the set.
func (s *shard) drop(forget func() []crdt.Item[*Entry]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	removed := forget()
	changed := newTouched(len(removed))
	for _, item := range removed {
		id := tripleOf(item.Value.Presence)
		s.dropDotLocked(s.records[id], id, item.Dot)
		changed.add(id)
	}
	s.settleAllLocked(changed)
}

func (s *shard) hide(r crdt.Replica, hide bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, hidden := s.hidden[r]; hidden != hide && hide {
		s.hidden[r] = struct{}{}
	} else if !hide {
		delete(s.hidden, r)
		s.set.Recall(r)
	}
	items := s.set.ItemsOf(r)
	changed := newTouched(len(items))
	for _, item := range items {
		changed.add(tripleOf(item.Value.Presence))
	}
	s.settleAllLocked(changed)
}

// settleAllLocked settles what was touched and returns the sessions.
func (s *shard) settleAllLocked(changed *touched) []SessionID {
	var sessions []SessionID
	for _, id := range changed.list {
		s.settleLocked(id, s.records[id])
		if n := len(sessions); n == 0 || sessions[n-1] != id.session {
			sessions = append(sessions, id.session)
		}
	}
	return sessions
}

// touched are triples, each once, in the order in which they were first added.
type touched struct {
	list []triple
	seen map[triple]struct{}
}

func newTouched(size int) *touched { return &touched{seen: make(map[triple]struct{}, size)} }

func (t *touched) add(id triple) {
	if _, ok := t.seen[id]; !ok {
		t.seen[id] = struct{}{}
		t.list = append(t.list, id)
	}
}
