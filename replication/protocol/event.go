package protocol

import (
	"fmt"

	"rollcall/presence/crdt"
)

// State is what a View thinks of a replica.
type State int

// The states, from the best to the worst.
const (
	Unknown  State = iota // never heard of, and not for long enough to worry
	Up                    // visible
	Down                  // hidden but kept
	PermDown              // forgotten
)

func (s State) String() string {
	switch s {
	case Unknown:
		return "unknown"
	case Up:
		return "up"
	case Down:
		return "down"
	case PermDown:
		return "permdown"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Event is one of [StateChanged], [NewIncarnation], [Retired] and [SelfSuperseded].
type Event interface{ event() }

// StateChanged says that the entries of Replica are to be shown, hidden or forgotten, as To says; before that, when From is PermDown, that it is to be
// recalled. What is forgotten is forgotten for good only if [View.Superseded]; else it may be recalled, also where no beat of it was heard yet. The From of an event is the To of the last one about the same replica, or Unknown. To is Unknown when a node that is no member has been
// silent for so long that nobody speaks of it any more. A member that was never heard of is spoken of as its incarnation 0, which has no entries, and of which
// nothing more is said once the member is heard of.
type StateChanged struct {
	Replica  crdt.Replica
	From, To State
}

// NewIncarnation says that the node of Old now runs as New. Old keeps its state until it is retired.
type NewIncarnation struct{ Old, New crdt.Replica }

// Retired says that what New restored of Shard is here, so that Old may be forgotten there. When all shards are, a StateChanged to PermDown follows.
type Retired struct {
	Shard    int
	Old, New crdt.Replica
}

// SelfSuperseded says that somebody knows a higher incarnation of this node, or a later beat of this one than it has made: another process runs, or has run, under
// its id. The node must take an incarnation above By's before it makes another dot, or stop.
type SelfSuperseded struct{ By crdt.Replica }

func (StateChanged) event()   {}
func (NewIncarnation) event() {}
func (Retired) event()        {}
func (SelfSuperseded) event() {}
