package presence

import (
	"sync"
	"time"

	"rollcall/presence/crdt"
)

// session is one client's life. Its stripe's lock guards it.
type session struct {
	id       SessionID
	ttl      time.Duration
	deadline time.Duration // on the tracker's clock; counts only while no stream is open
	streams  int           // open ones that are bound to it
	holdings holdings
	tick     int64 // when the wheel looks at it, 0 for never
	ended    bool
	claim    uint64 // when it became ours, as [Entry] says
	earlier  succession
	movedTo  crdt.Replica // zero, or who has it or is about to: then it is here until its last presence is there
}

// hasMoved tells whether another replica owns the session.
func (s *session) hasMoved() bool { return s.movedTo != crdt.Replica{} }

// terms are what other nodes hear of the session with each presence.
func (s *session) terms() terms { return terms{TTL: s.ttl, Claim: s.claim} }

// renew starts the lease anew.
func (s *session) renew(now time.Duration) { s.deadline = now + s.ttl }

// expired tells whether the session has run out.
func (s *session) expired(now time.Duration) bool {
	return s.deadline <= now && (s.streams == 0 || s.hasMoved())
}

// abandon gives what streams tracked, and no open one holds, until then to be held again.
func (s *session) abandon(until time.Duration) {
	for i := range s.holdings.list {
		if h := &s.holdings.list[i]; h.byStream && h.streams == 0 && h.until == 0 {
			h.until = until
		}
	}
}

// stripe holds the sessions whose ids hash to it.
type stripe struct {
	mu       sync.Mutex
	sessions map[SessionID]*session
	away     map[SessionID]*session // moved to other nodes, while a stream is bound to them here
	wheel    wheel
	obituaries
	unwritten
}

// openLocked returns the session called id, made now if it is unknown. claim tells the time of that.
func (st *stripe) openLocked(id SessionID, ttl time.Duration, claim func() uint64) *session {
	s := st.sessions[id]
	if s != nil {
		return s
	}
	if s = st.away[id]; s != nil {
		s.ended = false
		s.claim = claim()
		s.movedTo = crdt.Replica{}
		delete(st.away, id)
	} else {
		s = &session{id: id, ttl: ttl, claim: claim(), earlier: st.obituaries.of[id].ended}
	}
	st.sessions[id] = s
	return s
}

// moveLocked notes that the session is another replica's. What we still hold of it ends with its lease, unless the other takes that first.
func (st *stripe) moveLocked(s *session, to crdt.Replica, now time.Duration) {
	s.movedTo = to
	if s.streams > 0 {
		s.deadline = now + s.ttl
	}
	s.deadline = max(s.deadline, now+obituaryFor)
	st.wheel.schedule(s, s.deadline)
	st.unwritten.change(s.id)
	if s.streams > 0 {
		st.away[s.id] = s
	}
}

// stayLocked undoes moveLocked.
func (st *stripe) stayLocked(s *session) {
	s.movedTo = crdt.Replica{}
	delete(st.away, s.id)
}

// dissolveLocked ends a session of which nothing is left here.
func (st *stripe) dissolveLocked(s *session) {
	s.ended = true
	s.holdings = holdings{}
	delete(st.sessions, s.id)
	st.unwritten.change(s.id)
}

// streamEndedLocked notes that a stream has ended that was bound to a session that is elsewhere.
func (st *stripe) streamEndedLocked(s *session) {
	if s.streams--; s.streams == 0 && st.away[s.id] == s {
		delete(st.away, s.id)
	}
}

// renewLocked renews the lease and sees to it that its end is looked at.
func (st *stripe) renewLocked(s *session, now time.Duration) {
	s.renew(now)
	st.wheel.schedule(s, s.deadline)
	st.unwritten.renew(s.id)
}

// endLocked ends the session and hands its presences to untrack.
func (st *stripe) endLocked(s *session, untrack untrackFunc) {
	for _, h := range s.holdings.list {
		untrack(triple{h.topic, h.key, s.id}, s.hasMoved())
	}
	st.dissolveLocked(s)
}

// untrackFunc ends a presence: what this node holds of it, or whatever there is.
type untrackFunc func(id triple, onlyOurs bool)

// sweepLocked looks at s: it ends what has run out, and asks to be called again for what has not.
func (st *stripe) sweepLocked(s *session, now time.Duration, untrack untrackFunc) (expired bool) {
	if s.ended {
		return false
	}
	if s.expired(now) {
		st.endLocked(s, untrack)
		return true
	}
	if s.streams == 0 || s.hasMoved() {
		st.wheel.schedule(s, s.deadline)
	}
	for _, place := range s.holdings.due(now) {
		s.holdings.remove(place)
		st.unwritten.change(s.id)
		untrack(triple{place.topic, place.key, s.id}, s.hasMoved())
	}
	if until, ok := s.holdings.nextEnd(); ok {
		st.wheel.schedule(s, until)
	}
	return false
}
