package presence

import (
	"time"

	"rollcall/presence/crdt"
)

// Entry is what nodes replicate of a presence: itself, and what another node needs to take its session over. It is immutable.
type Entry struct {
	*Presence
	terms
}

// terms are what the owner of a session says of it with each of its presences.
type terms struct {
	TTL      time.Duration // of the session
	Claim    uint64        // when its owner became that, by the clock that refs are made of
	ByStream bool          // tracked for the life of a stream
}

// Delta is a part of a shard's entries.
type Delta = crdt.Delta[*Entry]

// NewEntry returns an entry.
func NewEntry(p *Presence, ttl time.Duration, claim uint64, byStream bool) *Entry {
	return &Entry{Presence: p, terms: terms{TTL: ttl, Claim: claim, ByStream: byStream}}
}

// ownership is a replica's claim to a session. The zero value is nobody's.
type ownership struct {
	replica crdt.Replica
	claim   uint64
}

// beats tells which of two owners of one session keeps it: the later, or else that of the higher replica. Every node decides alike.
func (o ownership) beats(other ownership) bool {
	if o.claim != other.claim {
		return o.claim > other.claim
	}
	return o.replica.Compare(other.replica) > 0
}
