package presence

import (
	"bytes"
	"sync"

	"github.com/tidwall/btree"

	"rollcall/presence/crdt"
)

// shard holds the topics whose names hash to it: the replicated set of their presences, and what is visible of it.
type shard struct {
	refs *refClock
	keys *keyIndex

	mu      sync.Mutex
	set     *crdt.Set[*Presence]
	records map[triple]*record
	topics  btree.Map[Topic, *topic]
	subs    map[Topic]map[*Subscription]struct{} // also for topics that nobody is in
	version uint64
}

// triple is what a presence is unique by.
type triple struct {
	topic   Topic
	key     Key
	session SessionID
}

// record is what a shard knows of one triple.
type record struct {
	dots    []crdt.Dot // live in the set; more than one only while replicas disagree
	visible *Presence  // the one that lists show
}

func newShard(replica crdt.Replica, refs *refClock, keys *keyIndex) *shard {
	return &shard{
		refs: refs, keys: keys,
		set:     crdt.NewSet[*Presence](replica),
		records: map[triple]*record{},
		subs:    map[Topic]map[*Subscription]struct{}{},
	}
}

// add makes a presence of a triple that has none.
func (s *shard) add(id triple, meta Meta) *Presence {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &record{}
	s.records[id] = r
	s.putLocked(r, &Presence{Topic: id.topic, Key: id.key, Session: id.session, Ref: s.refs.next(), Meta: meta})
	s.settleLocked(r)
	return r.visible
}

// update gives a presence the meta that change makes of its present one. An equal meta changes nothing.
func (s *shard) update(id triple, change func(Meta) (Meta, error)) (*Presence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	now := r.visible
	meta, err := change(now.Meta)
	if err != nil || bytes.Equal(meta, now.Meta) {
		return now, err
	}
	s.dropLocked(r)
	s.putLocked(r, &Presence{Topic: id.topic, Key: id.key, Session: id.session, Ref: s.refs.next(), PrevRef: now.Ref, Meta: meta})
	s.settleLocked(r)
	return r.visible, nil
}

// remove ends the presence of a triple.
func (s *shard) remove(id triple) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	delete(s.records, id)
	s.dropLocked(r)
	s.settleLocked(r)
}

// get returns the presence of a triple that has one.
func (s *shard) get(id triple) *Presence {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records[id].visible
}

func (s *shard) putLocked(r *record, p *Presence) {
	r.dots = append(r.dots, s.set.Add(p))
}

func (s *shard) dropLocked(r *record) {
	for _, dot := range r.dots {
		s.set.Remove(dot)
	}
	r.dots = r.dots[:0]
}

// settleLocked makes the latest version among a record's dots the visible one. What subscribers hear of is a change of what is visible, never one of dots.
func (s *shard) settleLocked(r *record) {
	var latest *Presence
	for _, dot := range r.dots {
		if p, _ := s.set.Get(dot); latest == nil || p.Ref > latest.Ref {
			latest = p
		}
	}
	before := r.visible
	r.visible = latest
	switch {
	case before == nil && latest == nil:
	case before == nil:
		s.changeLocked(latest.Topic, nil, latest)
	case latest == nil:
		s.changeLocked(before.Topic, before, nil)
	case before.Ref != latest.Ref:
		s.changeLocked(latest.Topic, before, latest)
	}
}

// changeLocked takes left out of a topic's visible members and puts joined in; either may be nil.
func (s *shard) changeLocked(name Topic, left, joined *Presence) {
	t, ok := s.topics.Get(name)
	if !ok {
		t = &topic{name: name}
		s.topics.Set(name, t)
	}
	s.version++
	t.version = s.version
	t.listing = nil
	if joined != nil && t.join(joined) {
		s.keys.add(joined.Key, name)
	}
	if left != nil && t.leave(left) {
		s.keys.remove(left.Key, name)
	}
	if t.metas == 0 {
		s.topics.Delete(name)
	}
	for sub := range s.subs[name] {
		sub.changeLocked(left, joined)
	}
}
