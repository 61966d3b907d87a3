package protocol

import (
	"time"

	"rollcall/presence/crdt"
)

// Retire tells which shards of superseded replicas may be forgotten now: those of which everything that the successor restored is here. upto says how many of a
// replica's first dots in a shard have been merged without a gap; it is asked only while something is superseded. Call it after Receive and Learn, and in the
// step in which something was merged. Each shard of each replica is told once.
func (v *View) Retire(upto func(shard int, replica crdt.Replica) uint64, now time.Duration) []Event {
	running := v.clock.read(now)
	if !v.hasSuperseded() {
		return nil
	}
	var events []Event
	for _, n := range v.sorted() {
		for _, r := range n.records() {
			if n.superseded(r) && r.state != PermDown {
				events = v.retire(events, n, r, upto)
				events = v.settle(events, n, r, running)
			}
		}
	}
	return events
}

func (v *View) hasSuperseded() bool {
	for _, n := range v.nodes {
		for _, r := range n.others {
			if n.superseded(r) && r.state != PermDown {
				return true
			}
		}
	}
	return false
}

func (v *View) retire(events []Event, n *node, r *record, upto func(int, crdt.Replica) uint64) []Event {
	successor := n.present
	if successor.count == 0 { // ourselves, before the first beat: what was restored is not settled
		return events
	}
	if r.retired == nil {
		r.retired = make([]bool, v.config.Shards)
	}
	for shard, done := range r.retired {
		restored := successor.status.restored(shard)
		if done || restored > 0 && upto(shard, successor.replica) < restored {
			continue
		}
		r.retired[shard] = true
		events = append(events, Retired{Shard: shard, Old: r.replica, New: successor.replica})
	}
	return events
}
