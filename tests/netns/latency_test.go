//go:build linux

package netns

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"rollcall/tests/netns/lab"
	"rollcall/tests/program"
)

// How long a change takes from the request at one node to the diff at another.
func TestLatency(t *testing.T) {
	for name, track := range map[string]func(*room, *lab.Node, string){"session of the server": (*room).trackNew, "session of the client": (*room).track} {
		t.Run(name, func(t *testing.T) {
			r := openRoom(t, lab.Config{Flags: []string{"--diff-window=0"}})
			const tracks = 500
			var latencies []time.Duration
			marks := r.marks()
			before := r.Bytes()
			for i := range tracks {
				key := fmt.Sprintf("a-new-%d", i)
				began := time.Now()
				track(r, r.Nodes[0], key)
				for j, w := range r.watchers {
					if change := w.AwaitJoin(marks[j]+i, r.refs[key], program.Patience); j > 0 {
						latencies = append(latencies, change.At.Sub(began))
					}
				}
			}
			t.Log(latencyFigures(latencies))
			t.Logf("%d bytes between the nodes for each track, beats and digests included", (r.Bytes()-before)/tracks)
		})
	}
}

func latencyFigures(latencies []time.Duration) string {
	slices.Sort(latencies)
	return fmt.Sprintf("from track at one node to the diff at another: p50 %v, p99 %v, of %d", percentile(latencies, 50), percentile(latencies, 99), len(latencies))
}
