package rollcallclient

import "slices"

// Change is called for a key whose metas joined or left: current is what the key had before (nil when it was not there) or, for a
// leave, what it has left; changed is what joined or left.
type Change func(key string, current []TrackedMeta, changed []TrackedMeta)

// SyncState makes s, which it changes, into the state next, the data of a presence_state event, and reports what joined and left on the way.
// onJoin and onLeave may be nil. It is Phoenix's Presence.syncState.
func (s PresenceState) SyncState(next PresenceState, onJoin, onLeave Change) {
	diff := PresenceDiff{Joins: PresenceState{}, Leaves: PresenceState{}}
	for key, now := range s {
		if left := without(now.Metas, next[key].Metas); len(left) > 0 {
			diff.Leaves[key] = Metas{Metas: left}
		}
	}
	for key, then := range next {
		if joined := without(then.Metas, s[key].Metas); len(joined) > 0 {
			diff.Joins[key] = Metas{Metas: joined}
		}
	}
	s.SyncDiff(diff, onJoin, onLeave)
}

// SyncDiff takes a diff, the data of a presence_diff event, into s, which it changes. onJoin and onLeave may be nil. It is Phoenix's Presence.syncDiff.
func (s PresenceState) SyncDiff(diff PresenceDiff, onJoin, onLeave Change) {
	for key, joined := range diff.Joins {
		current := s[key].Metas
		s[key] = Metas{Metas: slices.Concat(without(current, joined.Metas), joined.Metas)}
		if onJoin != nil {
			onJoin(key, current, joined.Metas)
		}
	}
	for key, left := range diff.Leaves {
		current, ok := s[key]
		if !ok {
			continue
		}
		rest := without(current.Metas, left.Metas)
		if len(rest) == 0 {
			delete(s, key)
		} else {
			s[key] = Metas{Metas: rest}
		}
		if onLeave != nil {
			onLeave(key, rest, left.Metas)
		}
	}
}

// without returns those of metas whose refs are not among others'.
func without(metas, others []TrackedMeta) []TrackedMeta {
	var rest []TrackedMeta
	for _, meta := range metas {
		if !slices.ContainsFunc(others, func(other TrackedMeta) bool { return other.PhxRef == meta.PhxRef }) {
			rest = append(rest, meta)
		}
	}
	return rest
}
