package replication

import (
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/replication/protocol"
)

// TestVectors holds the format against messages of version 1 as they were first written. They must be read for as long as version 1 is, so a change that breaks one
// needs a new version.
func TestVectors(t *testing.T) {
	a, b := crdt.Replica{Name: "a", Incarnation: 2}, crdt.Replica{Name: "b", Incarnation: 1}
	const session = "0123456789abcdef"
	entry := presence.NewEntry(&presence.Presence{
		Topic: "lobby", Key: "ann", Session: session, Ref: "5kZ--------0abcd", PrevRef: "5kY--------0abcd", Meta: presence.Meta(`{"name":"Ann"}`),
	}, 30*time.Second, 1<<40, true)
	var seen crdt.Context
	seen.AddRange(a, crdt.Range{From: 1, To: 300})
	seen.AddRange(a, crdt.Range{From: 302, To: 302})
	digests := Digests{
		From: a,
		Beats: []protocol.Beat{{Replica: b, Count: 7, Age: 1500 * time.Millisecond, Status: protocol.Status{
			Restored: []uint64{3}, Leaving: true, Sessions: 4, Presences: 5, Changes: 6, Version: "1.0", PublicAddr: "10.0.0.1:80",
		}}},
		Shards: make([]crdt.Digest, presence.Shards),
	}
	for i := range digests.Shards {
		digests.Shards[i] = crdt.Digest{Prints: map[crdt.Replica]uint64{}, Forgotten: map[string]uint64{}}
	}
	digests.Shards[1] = crdt.Digest{
		Seen: seen, Removals: crdt.ContextOf(crdt.Dot{Replica: b, Counter: 1}), Prints: map[crdt.Replica]uint64{a: 0x0102030405060708}, Forgotten: map[string]uint64{"c": 9},
	}
	push := Push{From: a, Parts: []Part{{Shard: 1, Delta: presence.Delta{
		Seen: seen, Items: []crdt.Item[*presence.Entry]{{Dot: crdt.Dot{Replica: a, Counter: 302}, Value: entry}},
		Live:     crdt.ContextOf(crdt.Dot{Replica: a, Counter: 5}),
		Removals: []crdt.Removal{{Event: crdt.Dot{Replica: a, Counter: 2}, Dots: []crdt.Dot{{Replica: b, Counter: 8}}}},
		Applied:  crdt.ContextOf(crdt.Dot{Replica: b, Counter: 1}, crdt.Dot{Replica: b, Counter: 2}),
	}}}}
	state := &presence.SessionState{ID: session, TTL: 30 * time.Second, Remaining: 12 * time.Second, Claim: 1 << 40, Presences: []presence.HeldPresence{
		{Entry: entry, Dots: []crdt.Dot{{Replica: a, Counter: 302}}},
	}}
	ops := Ops{From: a, Ops: []Op{
		{Kind: OpTrack, Session: session, Topic: "lobby", Key: "ann", Meta: presence.Meta(`{}`), TTL: 30 * time.Second}, {Kind: OpAdopt, Session: session, State: state},
	}}
	lease := presence.Lease{TTL: 30 * time.Second, ExpiresAt: time.UnixMilli(1_800_000_000_000)}
	results := []OpResult{
		{Created: true, Tracked: &presence.Tracked{Presence: entry.Presence, Lease: lease}}, {Lease: &lease}, {State: state},
		{Err: &presence.InvalidError{Field: "ttl", Reason: "is too long"}}, {Err: presence.ErrUnknownSession}, {Err: presence.ErrNotPresent},
		{Err: &presence.AlreadyTrackedError{Ref: "5kZ--------0abcd"}}, {Err: &presence.MovedError{Owner: b}}, {Err: &RemoteError{Text: "no"}},
	}
	check := func(name string, want any, read func([]byte) (any, error)) {
		t.Helper()
		text, err := os.ReadFile("testdata/wire/" + name + ".hex")
		if err != nil {
			t.Fatal(err)
		}
		message, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(message); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: read %+v, %v, want %+v", name, got, err, want)
		}
	}
	check("digests", digests, func(m []byte) (any, error) { return unmarshalDigests(m) })
	check("push", push, func(m []byte) (any, error) { return unmarshalPush(m) })
	check("operations", ops, func(m []byte) (any, error) { return unmarshalOps(m) })
	check("results", results, func(m []byte) (any, error) { return unmarshalResults(m) })
}
