package replication

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/replication/protocol"
)

// tracked returns what a tracker has to say after so many tracks, each of a new session, in one topic.
func tracked(b *testing.B, tracks int) (*presence.Tracker, []Part) {
	b.Helper()
	tracker, err := presence.Open(presence.Config{Replica: crdt.Replica{Name: "x3k2p7qa5wz4m6td", Incarnation: 12}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(tracker.Close)
	tracker.RecordChanges(func() {})
	for i := range tracks {
		_, err := tracker.Track(presence.TrackRequest{
			Topic: "room:lobby", Key: presence.Key(fmt.Sprintf("user-%06d", rand.IntN(1_000_000))),
			Meta: presence.Meta(fmt.Sprintf(`{"device":"phone","name":"User %d","status":"away"}`, i)),
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return tracker, tracker.TakeChanges()
}

// BenchmarkPush tells the bytes on the wire of each track, pushed alone and together with others, and what it costs to write and read them.
func BenchmarkPush(b *testing.B) {
	for _, tracks := range []int{1, 10, 100, 1000} {
		tracker, parts := tracked(b, tracks)
		push := Push{From: tracker.Replica(), Parts: parts}
		message, err := marshalPush(push)
		if err != nil {
			b.Fatal(err)
		}
		body, _ := writeParts(push.Parts, push.From)
		plain, err := wrap(kindPush, body)
		if err != nil {
			b.Fatal(err)
		}
		perTrack := func(b *testing.B) {
			b.ReportMetric(float64(len(message))/float64(tracks), "B/track")
			b.ReportMetric(float64(len(plain))/float64(tracks), "B/track-uncompressed")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*tracks), "ns/track")
		}
		b.Run(fmt.Sprintf("write/tracks=%d", tracks), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := marshalPush(push); err != nil {
					b.Fatal(err)
				}
			}
			perTrack(b)
		})
		b.Run(fmt.Sprintf("read/tracks=%d", tracks), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := unmarshalPush(message); err != nil {
					b.Fatal(err)
				}
			}
			perTrack(b)
		})
	}
}

// BenchmarkDigests tells what an exchange between nodes that agree costs.
func BenchmarkDigests(b *testing.B) {
	for _, nodes := range []int{3, 10, 30} {
		d := Digests{From: crdt.Replica{Name: "x3k2p7qa5wz4m600", Incarnation: 1}, Shards: make([]crdt.Digest, presence.Shards)}
		for i := range nodes {
			replica := crdt.Replica{Name: fmt.Sprintf("x3k2p7qa5wz4m6%02d", i), Incarnation: uint64(i + 1)}
			d.Beats = append(d.Beats, protocol.Beat{Replica: replica, Count: 100_000, Age: 300 * time.Millisecond, Status: protocol.Status{
				Restored: make([]uint64, presence.Shards), Sessions: 20_000, Presences: 30_000, Changes: 1_000_000, Version: "1.2.3", PublicAddr: "http://10.0.0.1:8080",
			}})
			for shard := range d.Shards {
				digest := &d.Shards[shard]
				if i == 0 {
					digest.Prints = map[crdt.Replica]uint64{}
				}
				digest.Seen.AddRange(replica, crdt.Range{From: 1, To: 60_000 + rand.Uint64N(1000)})
				digest.Removals.AddRange(replica, crdt.Range{From: 1, To: 50_000 + rand.Uint64N(1000)})
				digest.Prints[replica] = rand.Uint64()
			}
		}
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			b.ReportAllocs()
			var message []byte
			for b.Loop() {
				var err error
				if message, err = marshalDigests(d); err != nil {
					b.Fatal(err)
				}
				if _, err := unmarshalDigests(message); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(message)), "B/message")
		})
	}
}

// BenchmarkSnapshot streams all that a node has to one that has nothing.
func BenchmarkSnapshot(b *testing.B) {
	const tracks = 20_000
	tracker, _ := tracked(b, tracks)
	stream := func(w io.Writer) error {
		s := newStreamWriter(w)
		defer s.close()
		if err := s.begin(Digests{From: tracker.Replica()}); err != nil {
			return err
		}
		for shard := range presence.Shards {
			for delta := range tracker.Repair(shard, crdt.Digest{}).Parts(partItems) {
				if err := s.part(Part{Shard: shard, Delta: delta}); err != nil {
					return err
				}
			}
		}
		return s.end()
	}
	var whole bytes.Buffer
	if err := stream(&whole); err != nil {
		b.Fatal(err)
	}
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := stream(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(whole.Len())/tracks, "B/track")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*tracks), "ns/track")
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := readStream(bytes.NewReader(whole.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*tracks), "ns/track")
	})
}
