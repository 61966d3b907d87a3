package replication

import (
	"testing"

	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/replication/protocol"
)

// TestNobodySeesThatANodeLeaves: a node hears in one message that another has left, or has begun anew, and what a third has taken over from it. The
// message says the former first.
func TestNobodySeesThatANodeLeaves(t *testing.T) {
	a, b := crdt.Replica{Name: "a", Incarnation: 1}, crdt.Replica{Name: "b", Incarnation: 1}
	for name, beats := range map[string][]protocol.Beat{
		"leaves": {{Replica: a, Count: 9, Status: protocol.Status{Leaving: true}}},
		"leaves and begins anew": {
			{Replica: a, Count: 9, Status: protocol.Status{Leaving: true}},
			{Replica: crdt.Replica{Name: "a", Incarnation: 2}, Count: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			open := func(r crdt.Replica) *presence.Tracker {
				tracker, err := presence.Open(presence.Config{Replica: r})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(tracker.Close)
				return tracker
			}
			ta, tb, tc := open(a), open(b), open(crdt.Replica{Name: "c", Incarnation: 1})
			config := Config{Tracker: tc, link: &httpLink{}}
			config.setDefaults()
			c := newEngine(config)
			c.setMembers(map[string]string{"a": "a:1", "b": "b:1", "c": "c:1"})
			c.receive([]protocol.Beat{{Replica: a, Count: 1}, {Replica: b, Count: 1}})
			bring := func(from, to *presence.Tracker, merge func(Part)) {
				for shard := range presence.Shards {
					for delta := range from.Repair(shard, to.Digest(shard)).Parts(partItems) {
						merge(Part{Shard: shard, Delta: delta})
					}
				}
			}
			if _, err := ta.Track(presence.TrackRequest{Topic: "lobby", Key: "ann", Session: "session-of-ann-01"}); err != nil {
				t.Fatal(err)
			}
			bring(ta, tc, c.merge)
			sub := tc.Subscribe("lobby", presence.Each, func() {})
			state, err := ta.HandOver("session-of-ann-01", b)
			if err != nil {
				t.Fatal(err)
			}
			tb.Adopt(a, state)
			c.receive(append(beats, protocol.Beat{Replica: b, Count: 2}))
			bring(tb, tc, c.merge)
			for diff := sub.Take(); len(diff.Joins)+len(diff.Leaves) > 0; diff = sub.Take() {
				t.Errorf("somebody sees %+v, want nothing", diff)
			}
			if count := tc.Count("lobby"); count.Metas != 1 {
				t.Errorf("there are %+v, want ann", count)
			}
		})
	}
}
