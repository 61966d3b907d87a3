package presence

import (
	"time"
)

const (
	// DefaultLinger is how long a session outlives its last stream, unless the stream says otherwise.
	DefaultLinger = 5 * time.Second
	// MaxLinger is the longest that it may say.
	MaxLinger = time.Minute
)

// AttachRequest says what a stream that begins is to keep present.
type AttachRequest struct {
	Session SessionID     // "" makes a new one, which needs Key
	Key     Key           // "" keeps an existing session alive and tracks nothing
	Topics  []Topic       // where to be present under Key
	Meta    Meta          // a JSON object, nil for {}; a presence that is there already keeps its own
	Linger  time.Duration // 0 to MaxLinger; negative is DefaultLinger
}

// Binding ties a session to an open stream: the session does not run out, and what the stream tracked stays, until Close and linger more.
type Binding struct {
	tracker *Tracker
	session *session
	held    []place
	linger  time.Duration
	closed  bool // guarded by the stripe's lock
}

// Attach binds a session to a stream that begins. It returns [ErrUnknownSession] when there is no such session and no key to track, and
// an [*InvalidError] for a bad value.
func (t *Tracker) Attach(r AttachRequest) (*Binding, error) {
	if r.Linger > MaxLinger {
		return nil, &InvalidError{Field: "linger", Reason: "must be 0 to 60 seconds"}
	}
	if r.Linger < 0 {
		r.Linger = DefaultLinger
	}
	meta, err := canonicalMeta(r.Meta, t.config.MaxMetaBytes)
	if err != nil {
		return nil, err
	}
	if r.Session == "" && r.Key != "" {
		r.Session = t.newSessionID()
	}
	now := t.clock.now()
	st := t.stripe(r.Session)
	st.mu.Lock()
	defer st.mu.Unlock()
	if r.Key == "" && st.sessions[r.Session] == nil {
		return nil, ErrUnknownSession
	}
	if s := st.sessions[r.Session]; s != nil && s.hasMoved() {
		return nil, &MovedError{s.movedTo}
	}
	s := st.openLocked(r.Session, t.config.DefaultTTL, t.refs.tick)
	b := &Binding{tracker: t, session: s, linger: r.Linger}
	if r.Key != "" {
		for _, topic := range r.Topics {
			b.held = append(b.held, place{r.Key, topic})
			t.holdLocked(s, place{r.Key, topic}, meta)
		}
	}
	s.streams++
	st.unwritten.change(s.id)
	// What earlier streams tracked and this one does not hold would otherwise live as long as this one.
	s.abandon(now + r.Linger)
	t.sweepSessionLocked(st, s, now)
	return b, nil
}

// holdLocked makes a stream that begins hold place, tracking it if need be.
func (t *Tracker) holdLocked(s *session, p place, meta Meta) {
	h := s.holdings.get(p)
	if h == nil {
		h = s.holdings.add(p)
		h.byStream = true
		t.tracks.Add(1)
		terms := s.terms()
		terms.ByStream = true
		t.shard(p.topic).add(triple{p.topic, p.key, s.id}, meta, terms)
	}
	h.streams++
	h.until = 0
}

// Close ends the binding: the stream has ended. With no other stream open, the session ends after linger unless a stream or a heartbeat comes first.
func (b *Binding) Close() {
	t, s := b.tracker, b.session
	now := t.clock.now()
	st := t.stripe(s.id)
	st.mu.Lock()
	defer st.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	if s.ended || s.hasMoved() {
		st.streamEndedLocked(s)
		return
	}
	s.streams--
	st.unwritten.change(s.id)
	for _, p := range b.held {
		if h := s.holdings.get(p); h != nil && h.streams > 0 {
			h.streams--
		}
	}
	if s.streams > 0 {
		s.abandon(now + b.linger)
	} else {
		s.deadline = now + b.linger
	}
	t.sweepSessionLocked(st, s, now)
}
