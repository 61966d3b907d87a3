package presence

import (
	"time"
)

// unwritten are the sessions of a stripe that somebody who keeps them on disk has not been told of yet. Its nil maps record nothing.
type unwritten struct {
	changed, renewed map[SessionID]struct{}
}

func (u *unwritten) change(id SessionID) {
	if u.changed != nil {
		u.changed[id] = struct{}{}
	}
}

func (u *unwritten) renew(id SessionID) {
	if u.renewed != nil {
		u.renewed[id] = struct{}{}
	}
}

func (u *unwritten) record() {
	u.changed, u.renewed = map[SessionID]struct{}{}, map[SessionID]struct{}{}
}

// RecordSessions keeps, from now on, which sessions change for [Tracker.TakeSessions].
func (t *Tracker) RecordSessions() {
	for i := range t.stripes {
		st := &t.stripes[i]
		st.mu.Lock()
		st.unwritten.record()
		st.mu.Unlock()
	}
}

// TakeSessions returns the sessions that have changed, begun or ended since the last call, and those whose lease was renewed.
func (t *Tracker) TakeSessions() (changed, renewed []SessionID) {
	for i := range t.stripes {
		st := &t.stripes[i]
		st.mu.Lock()
		taken := st.unwritten
		nothing := len(taken.changed)+len(taken.renewed) == 0
		if !nothing {
			st.unwritten.record()
		}
		st.mu.Unlock()
		if nothing {
			continue // its maps are still in use
		}
		for id := range taken.changed {
			changed = append(changed, id)
		}
		for id := range taken.renewed {
			if _, also := taken.changed[id]; !also {
				renewed = append(renewed, id)
			}
		}
	}
	return changed, renewed
}

// Session returns a session that lives here as it is now, and whether a stream keeps it; ok is false when there is none.
func (t *Tracker) Session(id SessionID) (state SessionState, bound, ok bool) {
	now := t.clock.now()
	st := t.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.sessions[id]
	if s == nil || s.hasMoved() {
		return SessionState{}, false, false
	}
	return t.stateLocked(s, now), s.streams > 0, true
}

// Remaining returns what remains of the lease of a session that lives here and is not kept by a stream.
func (t *Tracker) Remaining(id SessionID) (remaining time.Duration, ok bool) {
	now := t.clock.now()
	st := t.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.sessions[id]
	if s == nil || s.hasMoved() || s.streams > 0 {
		return 0, false
	}
	return s.deadline - now, true
}

// Sessions returns the ids of the sessions that live here.
func (t *Tracker) Sessions() []SessionID {
	var ids []SessionID
	for i := range t.stripes {
		st := &t.stripes[i]
		st.mu.Lock()
		for id, s := range st.sessions {
			if !s.hasMoved() {
				ids = append(ids, id)
			}
		}
		st.mu.Unlock()
	}
	return ids
}

// Restore brings back a session of an earlier run of this node, with its refs, for state.Remaining. It is called before anything else has happened.
func (t *Tracker) Restore(state SessionState) {
	now := t.clock.now()
	st := t.stripe(state.ID)
	st.mu.Lock()
	defer st.mu.Unlock()
	s := &session{id: state.ID, ttl: state.TTL, claim: state.Claim, earlier: state.Earlier, deadline: now + state.Remaining}
	st.sessions[state.ID] = s
	for _, held := range state.Presences {
		t.shard(held.Entry.Topic).restore(held.Entry)
		s.holdings.add(place{held.Entry.Key, held.Entry.Topic}).byStream = held.Entry.ByStream
	}
	st.wheel.schedule(s, s.deadline)
}
