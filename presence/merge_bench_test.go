package presence

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"rollcall/presence/crdt"
)

// BenchmarkMergeOf100 tells how long a node needs to take in that 100 people have joined at another one, and that they have left, while it already knows
// so many presences of that node. It must not grow with what is known, beyond what any access to so much memory costs: for that look at the 100 tracks
// at the other node.
func BenchmarkMergeOf100(b *testing.B) {
	for _, known := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("known=%d", known), func(b *testing.B) {
			here, there := openPair(b)
			for first := 0; first < known; first += 10_000 {
				crowd(b, there, first, 10_000, known)
				mergeAll(here, there.TakeChanges())
			}
			if got := here.Stats().Presences; got != known {
				b.Fatalf("%d presences have come, want %d", got, known)
			}
			var tracks, joins, leaves []time.Duration
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				sessions := crowd(b, there, known+100*i, 100, known)
				tracks = append(tracks, time.Since(start))
				joins = append(joins, mergeAll(here, there.TakeChanges()))
				for _, id := range sessions {
					if err := there.Leave(id); err != nil {
						b.Fatal(err)
					}
				}
				leaves = append(leaves, mergeAll(here, there.TakeChanges()))
			}
			if got := here.Stats().Presences; got != known {
				b.Fatalf("%d presences in the end, want %d", got, known)
			}
			b.ReportMetric(0, "ns/op") // has all of it
			b.ReportMetric(median(tracks), "tracks-us")
			b.ReportMetric(median(joins), "joins-us")
			b.ReportMetric(median(leaves), "leaves-us")
		})
	}
}

// openPair returns two trackers of different nodes, of which the second records its changes.
func openPair(b *testing.B) (here, there *Tracker) {
	b.Helper()
	var pair [2]*Tracker
	for i := range pair {
		tracker, err := Open(Config{Replica: crdt.Replica{Name: fmt.Sprintf("node-%d", i), Incarnation: 1}})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(tracker.Close)
		pair[i] = tracker
	}
	pair[1].RecordChanges(func() {})
	return pair[0], pair[1]
}

// crowd tracks so many people, each with a session of his own, a hundred to a topic when all of a crowd are there. First is the number of the first.
func crowd(b *testing.B, tracker *Tracker, first, people, all int) []SessionID {
	b.Helper()
	sessions := make([]SessionID, people)
	for i := range sessions {
		n := first + i
		tracked, err := tracker.Track(TrackRequest{
			Topic: Topic(fmt.Sprintf("room:%d", n*7919%(all/100))),
			Key:   Key(fmt.Sprintf("user:%d", n)),
			TTL:   time.Hour,
			Meta:  Meta(fmt.Sprintf(`{"device":"phone","name":"User %d","status":"away"}`, n)),
		})
		if err != nil {
			b.Fatal(err)
		}
		sessions[i] = tracked.Session
	}
	return sessions
}

// mergeAll takes deltas in and returns how long that took.
func mergeAll(tracker *Tracker, deltas []ShardDelta) time.Duration {
	start := time.Now()
	for _, d := range deltas {
		tracker.Merge(d.Shard, d.Delta)
	}
	return time.Since(start)
}

func median(durations []time.Duration) float64 {
	slices.Sort(durations)
	return float64(durations[len(durations)/2].Nanoseconds()) / 1e3
}
