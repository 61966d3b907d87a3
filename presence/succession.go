package presence

import (
	"maps"
	"time"

	"rollcall/presence/crdt"
)

// succession says which entries of a session are obsolete although they may still be about: those that earlier owners, or later runs of their nodes, made up to the claim
// with which they handed it over with all they had, or ended it. What they had ended is not to come back when a late message brings it, or a node that restores
// what it once had.
type succession map[crdt.Replica]uint64

func (e succession) obsolete(replica crdt.Replica, entry *Entry) bool {
	for earlier, claim := range e {
		same := earlier.Name == replica.Name && earlier.Incarnation <= replica.Incarnation
		if (same || earlier == everybody) && entry.Claim <= claim {
			return true
		}
	}
	return false
}

// everybody stands for all replicas, where the client itself has ended the session: then also an owner has nothing more that nobody knew of. No node has such a name.
var everybody = crdt.Replica{Name: "*", Incarnation: 1}

// lapsed returns the succession after an owner that could not be asked. It may know more than was replicated, unless its node has restarted: what that restores is from before.
func (o ownership) lapsed() succession {
	return succession{{Name: o.replica.Name, Incarnation: o.replica.Incarnation + 1}: o.claim}
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

// obituaries are of the sessions that have ended lately.
type obituaries struct {
	of      map[SessionID]obituary
	checked time.Duration // when they were last looked through
}

type obituary struct {
	ended succession
	until time.Duration
}

func (o *obituaries) add(id SessionID, ended succession, until time.Duration) {
	if o.of == nil {
		o.of = map[SessionID]obituary{}
	}
	known := o.of[id]
	o.of[id] = obituary{known.ended.with(ended), max(known.until, until)}
}

// expire forgets those that are old enough, now and then.
func (o *obituaries) expire(now time.Duration) {
	if now-o.checked < time.Second {
		return
	}
	o.checked = now
	maps.DeleteFunc(o.of, func(_ SessionID, ob obituary) bool { return ob.until <= now })
}

// buryLocked remembers a session that has ended, if there are others to whom that matters: for as long as a run of its earlier owner's node may still restore it.
func (t *Tracker) buryLocked(st *stripe, s *session, now time.Duration) {
	if t.replicated.Load() && !s.hasMoved() {
		until := now + obituaryFor
		if len(s.earlier) > 0 {
			until += s.ttl
		}
		st.obituaries.add(s.id, s.earlier.with(succession{t.config.Replica: s.claim}), until)
	}
}

// Obituary returns what is known of a session that has ended lately: its owners, with their last claims.
func (t *Tracker) Obituary(id SessionID) map[crdt.Replica]uint64 {
	st := t.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.obituaries.of[id].ended
}

// Remember takes in what another node knows of a session that has ended, should it begin anew here.
func (t *Tracker) Remember(id SessionID, ended map[crdt.Replica]uint64) {
	st := t.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.obituaries.add(id, ended, t.clock.now()+obituaryFor)
}
