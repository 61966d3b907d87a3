package protocol

import (
	"time"

	"rollcall/presence/crdt"
)

// MemberState is what a view knows of a member.
type MemberState struct {
	Replica   crdt.Replica // its present incarnation, 0 if it was never heard of
	State     State
	Self      bool
	Reachable bool          // by direct requests, see [View.Reachable]
	Silent    time.Duration // how long ago its latest beat was made; if it was never heard of, since when it is a member here
	Status                  // as it last said itself
}

// Members returns the state of every member, in the order of their ids, with the view's own node among them.
func (v *View) Members(now time.Duration) []MemberState {
	running := v.clock.read(now)
	var members []MemberState
	for _, n := range v.sorted() {
		if !n.member {
			continue
		}
		members = append(members, MemberState{
			Replica:   n.present.replica,
			State:     n.present.state,
			Self:      n.present == v.self,
			Reachable: v.reachable(n, running),
			Silent:    max(now-n.present.madeAt, 0),
			Status:    n.present.status,
		})
	}
	return members
}

// StateOf returns what the view thinks of a replica, Unknown if nothing.
func (v *View) StateOf(replica crdt.Replica) State {
	if n := v.nodes[replica.Name]; n != nil {
		if r := n.of(replica.Incarnation); r != nil {
			return r.state
		}
	}
	return Unknown
}

// Present returns the latest incarnation of a node that was heard of, and false if none was.
func (v *View) Present(id string) (crdt.Replica, bool) {
	n := v.nodes[id]
	if n == nil || n.present == nil || n.present.replica.Incarnation == 0 {
		return crdt.Replica{Name: id}, false
	}
	return n.present.replica, true
}

// Superseded tells whether a later incarnation of the replica's node was heard of, so that it never comes back.
func (v *View) Superseded(replica crdt.Replica) bool {
	n := v.nodes[replica.Name]
	return n != nil && n.present != nil && replica.Incarnation < n.present.replica.Incarnation
}

// Complete tells whether every member that is not forgotten is up, so that nobody's presences are missing because their node is not heard.
func (v *View) Complete() bool {
	for _, n := range v.nodes {
		if n.member && (n.present.state == Unknown || n.present.state == Down) {
			return false
		}
	}
	return true
}
