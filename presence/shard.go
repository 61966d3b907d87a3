package presence

import (
	"bytes"
	"slices"
	"sync"

	"github.com/tidwall/btree"

	"rollcall/presence/crdt"
)

// shard holds the topics whose names hash to it: the replicated set of their presences, and what is visible of it.
type shard struct {
	self     crdt.Replica
	refs     *refClock
	keys     *keyIndex
	sessions *sessionIndex

	mu      sync.Mutex
	set     *crdt.Set[*Entry]
	hidden  map[crdt.Replica]struct{} // whose entries are kept and not shown
	changes *changes                  // nil while nobody wants them
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

func tripleOf(p *Presence) triple { return triple{p.Topic, p.Key, p.Session} }

// record is what a shard knows of one triple.
type record struct {
	dots    []crdt.Dot // live in the set; more than one only while replicas disagree
	visible *Presence  // the one that lists show
}

func newShard(replica crdt.Replica, refs *refClock, keys *keyIndex, sessions *sessionIndex) *shard {
	return &shard{
		self: replica, refs: refs, keys: keys, sessions: sessions,
		set:     crdt.NewSet[*Entry](replica),
		hidden:  map[crdt.Replica]struct{}{},
		records: map[triple]*record{},
		subs:    map[Topic]map[*Subscription]struct{}{},
	}
}

// add makes a presence of a triple, in place of what others may have there.
func (s *shard) add(id triple, meta Meta, terms terms) *Presence {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &Presence{Topic: id.topic, Key: id.key, Session: id.session, Ref: s.refs.next(), Meta: meta}
	s.replaceLocked(id, &Entry{p, terms})
	return p
}

// update gives a presence the meta that change makes of its present one. An equal meta changes nothing. It returns [ErrNotPresent] when another node
// has just ended it.
func (s *shard) update(id triple, terms terms, change func(Meta) (Meta, error)) (*Presence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	latest := s.latestLocked(s.records[id])
	if latest == nil {
		return nil, ErrNotPresent
	}
	now := latest.Presence
	meta, err := change(now.Meta)
	if err != nil || bytes.Equal(meta, now.Meta) {
		return now, err
	}
	p := &Presence{Topic: id.topic, Key: id.key, Session: id.session, Ref: s.refs.next(), PrevRef: now.Ref, Meta: meta}
	terms.ByStream = latest.ByStream
	s.replaceLocked(id, &Entry{p, terms})
	return p, nil
}

// adopt makes a presence ours: the latest version of it that is known and not obsolete, or that is given. It returns nil when there is none, and then sees to it that
// there is none.
func (s *shard) adopt(id triple, given *HeldPresence, terms terms, earlier succession) *Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.recordLocked(id)
	var latest *Entry
	if given != nil {
		latest = given.Entry
	}
	for _, dot := range r.dots {
		entry, _ := s.set.Get(dot)
		if !earlier.obsolete(dot.Replica, entry) && (latest == nil || entry.Ref > latest.Ref) {
			latest = entry
		}
	}
	if latest == nil {
		s.removeDotsLocked(r, id, slices.Clone(r.dots))
		s.settleLocked(id, r)
		return nil
	}
	terms.ByStream = latest.ByStream
	entry := &Entry{latest.Presence, terms}
	var unseen []crdt.Dot
	if given != nil {
		unseen = given.Dots
	}
	s.replaceLocked(id, entry, unseen...)
	return entry
}

// replaceLocked makes entry the only one of its triple. Nothing is seen of it but a change of refs.
func (s *shard) replaceLocked(id triple, entry *Entry, unseen ...crdt.Dot) {
	r := s.recordLocked(id)
	old := slices.Clone(r.dots)
	for _, dot := range unseen {
		if !slices.Contains(old, dot) {
			old = append(old, dot)
		}
	}
	dot := s.set.Add(entry)
	s.changes.added(id, dot)
	s.putDotLocked(r, id, dot)
	s.removeDotsLocked(r, id, old)
	s.settleLocked(id, r)
}

// remove ends the presence of a triple, if there is one: ours, or anybody's.
func (s *shard) remove(id triple, onlyOurs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if r == nil {
		return
	}
	dots := slices.Clone(r.dots)
	if onlyOurs {
		dots = slices.DeleteFunc(dots, func(dot crdt.Dot) bool { return dot.Replica != s.self })
	}
	s.removeDotsLocked(r, id, dots)
	s.settleLocked(id, r)
}

// removeObsolete removes the entries of a triple that ended says have ended.
func (s *shard) removeObsolete(id triple, ended succession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if r == nil {
		return
	}
	var obsolete []crdt.Dot
	for _, dot := range r.dots {
		if entry, _ := s.set.Get(dot); ended.obsolete(dot.Replica, entry) {
			obsolete = append(obsolete, dot)
		}
	}
	if len(obsolete) > 0 {
		s.removeDotsLocked(r, id, obsolete)
		s.settleLocked(id, r)
	}
}

// restore puts in an entry of an earlier run of this node.
func (s *shard) restore(entry *Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs.observe(entry.Ref, entry.Claim)
	s.replaceLocked(tripleOf(entry.Presence), entry)
}

// get returns the latest version of a triple's presence, and what we hold of it ourselves.
func (s *shard) get(id triple) (latest *Entry, ours []crdt.Dot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if r == nil {
		return nil, nil
	}
	for _, dot := range r.dots {
		if dot.Replica == s.self {
			ours = append(ours, dot)
		}
	}
	return s.latestLocked(r), ours
}

// owner returns who, of the other replicas, has the best claim to a triple, among those that are up or among all.
func (s *shard) owner(id triple, onlyUp bool) (best ownership) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if r == nil {
		return best
	}
	for _, dot := range r.dots {
		if _, down := s.hidden[dot.Replica]; dot.Replica == s.self || onlyUp && down {
			continue
		}
		entry, _ := s.set.Get(dot)
		if o := (ownership{dot.Replica, entry.Claim}); o.beats(best) {
			best = o
		}
	}
	return best
}

func (s *shard) recordLocked(id triple) *record {
	r := s.records[id]
	if r == nil {
		r = &record{}
		s.records[id] = r
	}
	return r
}

// latestLocked returns a record's latest version, also one that is hidden; nil when there is none.
func (s *shard) latestLocked(r *record) *Entry {
	if r == nil {
		return nil
	}
	var latest *Entry
	for _, dot := range r.dots {
		if entry, _ := s.set.Get(dot); latest == nil || entry.Ref > latest.Ref {
			latest = entry
		}
	}
	return latest
}

// removeDotsLocked removes dots from the set in one act.
func (s *shard) removeDotsLocked(r *record, id triple, dots []crdt.Dot) {
	if len(dots) == 0 {
		return
	}
	s.changes.removed(id, s.set.Remove(dots...))
	for _, dot := range dots {
		s.dropDotLocked(r, id, dot)
	}
}

// putDotLocked and dropDotLocked keep a record in step with the set, and the index of sessions with the record.
func (s *shard) putDotLocked(r *record, id triple, dot crdt.Dot) {
	if dot.Replica != s.self && !s.foreignLocked(r) {
		s.sessions.add(id)
	}
	r.dots = append(r.dots, dot)
}

func (s *shard) dropDotLocked(r *record, id triple, dot crdt.Dot) {
	i := slices.Index(r.dots, dot)
	if i < 0 {
		return
	}
	r.dots = slices.Delete(r.dots, i, i+1)
	if dot.Replica != s.self && !s.foreignLocked(r) {
		s.sessions.remove(id)
	}
}

// foreignLocked tells whether another replica has an entry for r.
func (s *shard) foreignLocked(r *record) bool {
	return slices.ContainsFunc(r.dots, func(dot crdt.Dot) bool { return dot.Replica != s.self })
}

// settleLocked makes the latest version among a record's dots, of replicas that are up, the visible one. What subscribers hear of is a change of what is
// visible, never one of dots.
func (s *shard) settleLocked(id triple, r *record) {
	var latest *Presence
	for _, dot := range r.dots {
		if _, hidden := s.hidden[dot.Replica]; hidden {
			continue
		}
		if entry, _ := s.set.Get(dot); latest == nil || entry.Ref > latest.Ref {
			latest = entry.Presence
		}
	}
	if len(r.dots) == 0 {
		delete(s.records, id)
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
