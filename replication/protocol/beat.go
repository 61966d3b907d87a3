package protocol

import (
	"time"

	"rollcall/presence/crdt"
)

// Beat is a sign of life of a replica, as it was made by that replica and passed on by others.
type Beat struct {
	Replica crdt.Replica
	Count   uint64 // raised by each of the replica's ticks, from 1
	// Age is how long ago the beat was made, as far as its sender knows: the time that it lay with those who passed it on, without the time on the way.
	Age time.Duration
	Status
}

// Status is what a replica says of itself with a beat.
type Status struct {
	// Restored says for each shard how many dots the replica restored from its journal, as its first ones. It is settled before the first beat. Missing shards
	// restored none. Not to be changed once given to a View.
	Restored []uint64
	// Leaving says that this is the last beat: the replica has shut down and handed over what it had. It is forgotten at once, and nobody misses it.
	Leaving    bool
	Sessions   uint64 // that it owns
	Presences  uint64 // of those sessions
	Changes    uint64 // that it has made and numbered in all shards: what somebody has seen of them tells how far it lags behind
	Version    string // of the program
	PublicAddr string // where clients reach it
}

// restored returns how many dots of shard were restored.
func (s *Status) restored(shard int) uint64 {
	if shard < len(s.Restored) {
		return s.Restored[shard]
	}
	return 0
}
