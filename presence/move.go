package presence

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"rollcall/presence/crdt"
)

// MovedError is returned for a session that another node has taken over, or is about to.
type MovedError struct {
	Owner crdt.Replica
}

func (e *MovedError) Error() string { return fmt.Sprintf("the session has moved to %v", e.Owner) }

// Location says where a session lives.
type Location struct {
	Here  bool
	Moved bool         // it was here, and was given to Owner
	Owner crdt.Replica // when it is not here; zero when nothing is known of the session
}

// SessionState is what one node tells another of a session that it hands over.
type SessionState struct {
	ID        SessionID
	TTL       time.Duration
	Remaining time.Duration // of the lease
	Claim     uint64
	Earlier   map[crdt.Replica]uint64 // who has handed it over before, with the claims that they had
	Presences []HeldPresence
}

// HeldPresence is a presence of a session, with the dots under which its owner holds it.
type HeldPresence struct {
	Entry *Entry
	Dots  []crdt.Dot
}

// Locate tells where a session lives, as far as this node knows.
func (t *Tracker) Locate(id SessionID) Location {
	st := t.stripe(id)
	st.mu.Lock()
	s := st.sessions[id]
	if s != nil {
		defer st.mu.Unlock()
		return Location{Here: !s.hasMoved(), Moved: s.hasMoved(), Owner: s.movedTo}
	}
	st.mu.Unlock()
	return Location{Owner: t.rival(id, false).replica}
}

// rival returns who, of the other replicas, has the best claim to a session, among those that are up or among all.
func (t *Tracker) rival(id SessionID, onlyUp bool) (best ownership) {
	for _, p := range t.sessions.of(id) {
		if o := t.shard(p.topic).owner(triple{p.topic, p.key, id}, onlyUp); o.beats(best) {
			best = o
		}
	}
	return best
}

// HandOver gives a session to another replica, which is to adopt it. Until that is heard of, the session ends here with its lease. It returns [ErrUnknownSession], or a
// [*MovedError] when somebody else has it already.
func (t *Tracker) HandOver(id SessionID, to crdt.Replica) (SessionState, error) {
	now := t.clock.now()
	st := t.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.sessions[id]
	if s == nil {
		return SessionState{}, ErrUnknownSession
	}
	if s.hasMoved() && s.movedTo != to {
		return SessionState{}, &MovedError{s.movedTo}
	}
	state := t.stateLocked(s, now)
	st.moveLocked(s, to, now)
	return state, nil
}

func (t *Tracker) stateLocked(s *session, now time.Duration) SessionState {
	state := SessionState{ID: s.id, TTL: s.ttl, Remaining: max(s.deadline-now, 0), Claim: s.claim, Earlier: s.earlier}
	if s.streams > 0 {
		state.Remaining = s.ttl
	}
	for _, h := range s.holdings.list {
		if entry, dots := t.shard(h.topic).get(triple{h.topic, h.key, s.id}); entry != nil && len(dots) > 0 {
			state.Presences = append(state.Presences, HeldPresence{entry, dots})
		}
	}
	slices.SortFunc(state.Presences, func(a, b HeldPresence) int {
		return cmp.Or(cmp.Compare(a.Entry.Topic, b.Entry.Topic), cmp.Compare(a.Entry.Key, b.Entry.Key))
	})
	return state
}

// Adopt takes over a session that from has handed to us. Nobody sees a diff. Its lease goes on with what remains of it.
func (t *Tracker) Adopt(from crdt.Replica, state SessionState) {
	st := t.stripe(state.ID)
	st.mu.Lock()
	defer st.mu.Unlock()
	deadline := t.clock.now() + state.Remaining
	if s := st.sessions[state.ID]; s != nil && !s.hasMoved() {
		deadline = max(deadline, s.deadline) // it was handed to us twice, or has come by itself
	}
	s := st.openLocked(state.ID, state.TTL, t.refs.tick)
	s.earlier = s.earlier.with(state.Earlier).with(succession{from: state.Claim})
	t.adoptLocked(st, s, state.TTL, state.Presences)
	s.deadline = deadline
	st.wheel.schedule(s, s.deadline)
}

// AdoptKnown takes over a session whose owner cannot be asked, with all that is known of it, and renews its lease. It tells whether anything was.
func (t *Tracker) AdoptKnown(id SessionID) bool {
	now := t.clock.now()
	st := t.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.sessions[id]
	if s != nil && !s.hasMoved() {
		return true
	}
	if s == nil && len(t.sessions.of(id)) == 0 {
		return false
	}
	owner := t.rival(id, false)
	s = st.openLocked(id, t.config.DefaultTTL, t.refs.tick)
	if owner != (ownership{}) {
		s.earlier = s.earlier.with(owner.lapsed())
	}
	t.adoptLocked(st, s, 0, nil)
	st.renewLocked(s, now)
	return true
}

// Abandon drops what is still here of a session that was given to another node, which says that it has ended.
func (t *Tracker) Abandon(id SessionID) {
	st := t.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	if s := st.sessions[id]; s != nil && s.hasMoved() {
		st.endLocked(s, t.untrack)
	}
}

// adoptLocked makes a session ours with all its presences: those that are known here and those that are given. ttl 0 is the one that is known.
func (t *Tracker) adoptLocked(st *stripe, s *session, ttl time.Duration, given []HeldPresence) {
	id := s.id
	st.stayLocked(s)
	s.claim = t.refs.tick()
	s.ttl = cmp.Or(ttl, t.knownTTL(id), s.ttl)
	places := t.sessions.of(id)
	for _, h := range s.holdings.list {
		places = append(places, h.place)
	}
	byPlace := map[place]*HeldPresence{}
	for i := range given {
		p := place{given[i].Entry.Key, given[i].Entry.Topic}
		places, byPlace[p] = append(places, p), &given[i]
	}
	done := map[place]bool{}
	for _, p := range places {
		if done[p] {
			continue
		}
		done[p] = true
		entry := t.shard(p.topic).adopt(triple{p.topic, p.key, id}, byPlace[p], s.terms(), s.earlier)
		switch held := s.holdings.get(p); {
		case entry == nil:
			s.holdings.remove(p)
		case held == nil:
			s.holdings.add(p).byStream = entry.ByStream
		case !entry.ByStream: // elsewhere it was tracked for good
			held.byStream, held.until = false, 0
		}
	}
	t.adopted.Add(1)
	st.unwritten.change(id)
}

// knownTTL returns the ttl that the owner of a session elsewhere has given it.
func (t *Tracker) knownTTL(id SessionID) time.Duration {
	var latest *Entry
	for _, p := range t.sessions.of(id) {
		if entry, _ := t.shard(p.topic).get(triple{p.topic, p.key, id}); entry != nil && (latest == nil || entry.Ref > latest.Ref) {
			latest = entry
		}
	}
	if latest == nil {
		return 0
	}
	return latest.TTL
}

// reconcile brings a session that lives here in step with what was merged: another node may have taken it over, hold another part of it, or have ended it.
func (t *Tracker) reconcile(id SessionID) {
	now := t.clock.now()
	st := t.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.sessions[id]
	if s == nil {
		if ended := st.obituaries.of[id].ended; len(ended) > 0 {
			t.removeObsolete(id, ended)
		}
		return
	}
	if !s.hasMoved() {
		rival := t.rival(id, true)
		switch {
		case rival.beats(ownership{t.config.Replica, s.claim}):
			st.moveLocked(s, rival.replica, now)
		case t.rival(id, false) != ownership{}: // who is behind, or down
			t.adoptLocked(st, s, s.ttl, nil)
			return
		}
	}
	if lost := t.releaseLocked(st, s); lost && len(s.holdings.list) == 0 {
		st.dissolveLocked(s)
	}
}

// removeObsolete removes what others still have of a session that has ended.
func (t *Tracker) removeObsolete(id SessionID, ended succession) {
	for _, p := range t.sessions.of(id) {
		t.shard(p.topic).removeObsolete(triple{p.topic, p.key, id}, ended)
	}
}

// releaseLocked lets go of the presences that another node has made its own, or has ended, and tells whether there were any.
func (t *Tracker) releaseLocked(st *stripe, s *session) (lost bool) {
	for _, h := range slices.Clone(s.holdings.list) {
		if _, ours := t.shard(h.topic).get(triple{h.topic, h.key, s.id}); len(ours) == 0 {
			s.holdings.remove(h.place)
			st.unwritten.change(s.id)
			lost = true
		}
	}
	return lost
}

// Away returns the sessions that live elsewhere and that a stream is bound to here: somebody must renew their leases.
func (t *Tracker) Away() []SessionID {
	var ids []SessionID
	for i := range t.stripes {
		st := &t.stripes[i]
		st.mu.Lock()
		for id := range st.away {
			ids = append(ids, id)
		}
		st.mu.Unlock()
	}
	return ids
}

// MayBeFrom tells whether the session's id looks as if that node had made it.
func (id SessionID) MayBeFrom(node string) bool {
	return strings.HasPrefix(string(id), hintOf(node)) && len(id) == len(hintOf(node))+len(rand.Text())
}
