package presence

import (
	"sync"
	"time"
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
}

// renew starts the lease anew.
func (s *session) renew(now time.Duration) { s.deadline = now + s.ttl }

// expired tells whether the session has run out.
func (s *session) expired(now time.Duration) bool { return s.streams == 0 && s.deadline <= now }

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
	wheel    wheel
}

// openLocked returns the session called id, made now if it is unknown.
func (st *stripe) openLocked(id SessionID, ttl time.Duration) *session {
	s := st.sessions[id]
	if s == nil {
		s = &session{id: id, ttl: ttl}
		st.sessions[id] = s
	}
	return s
}

// renewLocked renews the lease and sees to it that its end is looked at.
func (st *stripe) renewLocked(s *session, now time.Duration) {
	s.renew(now)
	st.wheel.schedule(s, s.deadline)
}

// endLocked ends the session and hands its presences to untrack.
func (st *stripe) endLocked(s *session, untrack func(triple)) {
	s.ended = true
	delete(st.sessions, s.id)
	for _, h := range s.holdings.list {
		untrack(triple{h.topic, h.key, s.id})
	}
	s.holdings = holdings{}
}

// sweepLocked looks at s: it ends what has run out, and asks to be called again for what has not.
func (st *stripe) sweepLocked(s *session, now time.Duration, untrack func(triple)) (expired bool) {
	if s.ended {
		return false
	}
	if s.expired(now) {
		st.endLocked(s, untrack)
		return true
	}
	if s.streams == 0 {
		st.wheel.schedule(s, s.deadline)
	}
	for _, place := range s.holdings.due(now) {
		s.holdings.remove(place)
		untrack(triple{place.topic, place.key, s.id})
	}
	if until, ok := s.holdings.nextEnd(); ok {
		st.wheel.schedule(s, until)
	}
	return false
}
