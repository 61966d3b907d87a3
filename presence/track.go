package presence

import (
	"errors"
	"fmt"
	"time"
)

// TrackRequest says who is to be where.
type TrackRequest struct {
	Topic   Topic
	Key     Key
	Session SessionID     // "" makes a new one, as does one that is unknown, under that id
	Meta    Meta          // a JSON object, nil for {}
	TTL     time.Duration // 0 for what the session has, or the default
}

// Lease is the time that a session has without renewal.
type Lease struct {
	TTL       time.Duration
	ExpiresAt time.Time // by the wall clock
}

// Tracked is a presence with its session's lease.
type Tracked struct {
	*Presence
	Lease
}

// Track makes a session present in a topic under a key, and renews its lease. It returns an [*AlreadyTrackedError] when it is there
// already, and an [*InvalidError] for a bad value. As do all that change a session, it returns a [*MovedError] when another node has it.
func (t *Tracker) Track(r TrackRequest) (Tracked, error) {
	meta, err := canonicalMeta(r.Meta, t.config.MaxMetaBytes)
	if err != nil {
		return Tracked{}, err
	}
	if r.TTL != 0 && (r.TTL < t.config.MinTTL || r.TTL > t.config.MaxTTL) {
		return Tracked{}, &InvalidError{Field: "ttl", Reason: fmt.Sprintf("is %g seconds; %g to %g are allowed",
			r.TTL.Seconds(), t.config.MinTTL.Seconds(), t.config.MaxTTL.Seconds())}
	}
	if r.Session == "" {
		r.Session = t.newSessionID()
	}
	now := t.clock.now()
	st := t.stripe(r.Session)
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.openLocked(r.Session, t.config.DefaultTTL, t.refs.tick)
	if s.hasMoved() {
		return Tracked{}, &MovedError{s.movedTo}
	}
	if r.TTL != 0 {
		s.ttl = r.TTL
	}
	st.renewLocked(s, now)
	if s.holdings.get(place{r.Key, r.Topic}) != nil {
		if entry, _ := t.shard(r.Topic).get(triple{r.Topic, r.Key, r.Session}); entry != nil {
			return Tracked{}, &AlreadyTrackedError{Ref: entry.Ref}
		}
		s.holdings.remove(place{r.Key, r.Topic}) // another node has just ended it
	}
	st.unwritten.change(s.id)
	return Tracked{t.trackLocked(s, place{r.Key, r.Topic}, meta), t.lease(s)}, nil
}

// trackLocked makes s present at a place where it is not.
func (t *Tracker) trackLocked(s *session, p place, meta Meta) *Presence {
	s.holdings.add(p)
	t.tracks.Add(1)
	return t.shard(p.topic).add(triple{p.topic, p.key, s.id}, meta, s.terms())
}

// Update replaces the meta of a presence, or tracks it if it is not there, and renews the lease. An equal meta changes nothing.
func (t *Tracker) Update(topic Topic, key Key, session SessionID, meta Meta) (tracked Tracked, created bool, err error) {
	meta, err = canonicalMeta(meta, t.config.MaxMetaBytes)
	if err != nil {
		return Tracked{}, false, err
	}
	now := t.clock.now()
	st := t.stripe(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.openLocked(session, t.config.DefaultTTL, t.refs.tick)
	if s.hasMoved() {
		return Tracked{}, false, &MovedError{s.movedTo}
	}
	st.renewLocked(s, now)
	st.unwritten.change(s.id)
	at := place{key, topic}
	if s.holdings.get(at) != nil {
		p, err := t.updateLocked(s, at, func(Meta) (Meta, error) { return meta, nil })
		if !errors.Is(err, ErrNotPresent) {
			return Tracked{p, t.lease(s)}, false, err
		}
		s.holdings.remove(at)
	}
	return Tracked{t.trackLocked(s, at, meta), t.lease(s)}, true, nil
}

// Patch merges patch into the meta of a presence by RFC 7386, and renews the lease. It returns [ErrUnknownSession] or [ErrNotPresent] when it
// is not there. A result that is equal changes nothing.
func (t *Tracker) Patch(topic Topic, key Key, session SessionID, patch Meta) (Tracked, error) {
	now := t.clock.now()
	st := t.stripe(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.sessions[session]
	if s == nil {
		return Tracked{}, ErrUnknownSession
	}
	if s.hasMoved() {
		return Tracked{}, &MovedError{s.movedTo}
	}
	if s.holdings.get(place{key, topic}) == nil {
		return Tracked{}, ErrNotPresent
	}
	p, err := t.updateLocked(s, place{key, topic}, func(meta Meta) (Meta, error) {
		return mergeMeta(meta, patch, t.config.MaxMetaBytes)
	})
	if err != nil {
		return Tracked{}, err
	}
	st.renewLocked(s, now)
	st.unwritten.change(s.id)
	return Tracked{p, t.lease(s)}, nil
}

func (t *Tracker) updateLocked(s *session, p place, change func(Meta) (Meta, error)) (*Presence, error) {
	t.updates.Add(1)
	return t.shard(p.topic).update(triple{p.topic, p.key, s.id}, s.terms(), change)
}

// Untrack ends one presence of a session. It need not be there.
func (t *Tracker) Untrack(topic Topic, key Key, session SessionID) error {
	st := t.stripe(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.sessions[session]
	if s != nil && s.hasMoved() {
		return &MovedError{s.movedTo}
	}
	if s != nil && s.holdings.remove(place{key, topic}) {
		st.unwritten.change(s.id)
		t.untrack(triple{topic, key, session}, false)
	}
	return nil
}

// Leave ends a session and all its presences. It need not be there.
func (t *Tracker) Leave(session SessionID) error {
	st := t.stripe(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.sessions[session]
	if s != nil && s.hasMoved() {
		return &MovedError{s.movedTo}
	}
	if s != nil {
		st.endLocked(s, t.untrack)
		s.earlier = s.earlier.with(succession{everybody: t.refs.tick()})
		t.buryLocked(st, s, t.clock.now())
	}
	return nil
}

// Heartbeat renews a session's lease, or returns [ErrUnknownSession].
func (t *Tracker) Heartbeat(session SessionID) (Lease, error) {
	t.heartbeats.Add(1)
	now := t.clock.now()
	st := t.stripe(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.sessions[session]
	if s == nil {
		return Lease{}, ErrUnknownSession
	}
	if s.hasMoved() {
		return Lease{}, &MovedError{s.movedTo}
	}
	st.renewLocked(s, now)
	return t.lease(s), nil
}

// Heartbeats renews the leases of many sessions and returns those that are unknown.
func (t *Tracker) Heartbeats(sessions []SessionID) (unknown []SessionID) {
	for _, session := range sessions {
		if _, err := t.Heartbeat(session); err != nil {
			unknown = append(unknown, session)
		}
	}
	return unknown
}

func (t *Tracker) lease(s *session) Lease {
	return Lease{TTL: s.ttl, ExpiresAt: t.config.WallClock().Add(s.ttl)}
}
