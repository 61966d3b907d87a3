package presence

import (
	"maps"
	"time"

	"rollcall/presence/crdt"
)

// succession says which entries of a session are obsolete although they may still be about: those that earlier owners made up to the claim with which they handed it
// over with all they had, or ended it. What they had ended is not to come back when a late message brings it.
type succession map[crdt.Replica]uint64

func (e succession) obsolete(replica crdt.Replica, entry *Entry) bool {
	claim, ok := e[replica]
	return ok && entry.Claim <= claim
}

// with returns e and other.
func (e succession) with(other succession) succession {
	if len(other) == 0 {
		return e
	}
	both := maps.Clone(e)
	if both == nil {
		both = succession{}
	}
	for replica, claim := range other {
		both[replica] = max(both[replica], claim)
	}
	return both
}

// obituaryFor is how long a node remembers a session that ended: longer than messages are on their way in a network that works.
const obituaryFor = 10 * time.Second

// obituaries are of the sessions that have ended lately, by id, and oldest first.
type obituaries struct {
	of    map[SessionID]succession
	queue []obituary
}

type obituary struct {
	id    SessionID
	until time.Duration
}

func (o *obituaries) add(id SessionID, ended succession, now time.Duration) {
	if o.of == nil {
		o.of = map[SessionID]succession{}
	}
	o.of[id] = o.of[id].with(ended)
	o.queue = append(o.queue, obituary{id, now + obituaryFor})
}

// expire forgets those that are old enough.
func (o *obituaries) expire(now time.Duration) {
	for len(o.queue) > 0 && o.queue[0].until <= now {
		delete(o.of, o.queue[0].id) // a younger one of the same id goes with it, which does little harm
		o.queue = o.queue[1:]
	}
}

// Obituary returns what is known of a session that has ended lately: its owners, with their last claims.
func (t *Tracker) Obituary(id SessionID) map[crdt.Replica]uint64 {
	st := t.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.obituaries.of[id]
}

// Remember takes in what another node knows of a session that has ended, should it begin anew here.
func (t *Tracker) Remember(id SessionID, ended map[crdt.Replica]uint64) {
	st := t.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.obituaries.add(id, ended, t.clock.now())
}
