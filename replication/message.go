package replication

import (
	"time"

	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/replication/protocol"
)

// Digests is what a node says of itself: who it is, whom it has heard of, and what it has taken in. It asks for what it lacks.
type Digests struct {
	From   crdt.Replica
	Beats  []protocol.Beat
	Shards []crdt.Digest // presence.Shards of them; none when it asks for nothing
}

// Part is a piece of what another node lacks.
type Part = presence.ShardDelta

// Push is what has changed on a node.
type Push struct {
	From  crdt.Replica
	Parts []Part
}

// OpKind says what an [Op] is to do.
type OpKind int

// The operations on a session that its owner does for another node. Their numbers are part of the wire format.
const (
	OpTrack     OpKind = iota + 1
	OpUpdate           // replace the meta, or track
	OpPatch            // merge into the meta
	OpUntrack          // one presence
	OpLeave            // all of them
	OpHeartbeat        // renew the lease
	OpFind             // say whether the session lives there
	OpHandOver         // give the session to the asker
	OpAdopt            // take the session that the asker gives
)

// Op is one operation on a session.
type Op struct {
	Kind    OpKind
	Session presence.SessionID
	Topic   presence.Topic
	Key     presence.Key
	Meta    presence.Meta // as the client sent it; nil for none
	TTL     time.Duration // 0 for none
	State   *presence.SessionState
}

// Ops are operations that one node asks another for.
type Ops struct {
	From crdt.Replica
	Ops  []Op
}

// OpResult is the outcome of an [Op].
type OpResult struct {
	Err     error // one of package presence's, or nil
	Created bool  // of OpUpdate: the presence was not there
	Tracked *presence.Tracked
	Lease   *presence.Lease
	State   *presence.SessionState // of OpHandOver; of OpFind, with Err, Earlier alone for a session that has ended
}
