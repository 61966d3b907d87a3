//go:build linux

package bench

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

var ref = []byte(`"phx_ref":"`)

// BenchmarkJoinStorm has 1,000 people open streams that make them present, all at once, and measures until everybody sees everybody.
func BenchmarkJoinStorm(b *testing.B) {
	const people = 1000
	var wall, cpu time.Duration
	var frames, received int64
	for range b.N {
		n := binary.ServeQuietly(b)
		var complete, events atomic.Int64
		seen := make([]int, people)
		w := watch(b, n, func(watcher int, event []byte, _ time.Time) {
			switch {
			case bytes.HasPrefix(event, isState):
				seen[watcher] = 0
			case !bytes.HasPrefix(event, isDiff):
				return
			}
			events.Add(1)
			before := seen[watcher]
			seen[watcher] += bytes.Count(event, ref) // nobody leaves
			if seen[watcher] == people && before < people {
				complete.Add(1)
			}
		})
		start := time.Now()
		before := n.CPU()
		for i := range people {
			w.open(fmt.Sprintf("/v1/topics/lobby/events?key=user-%d", i))
		}
		awaitCount(b, &complete, people)
		wall += time.Since(start)
		cpu += n.CPU() - before
		frames += events.Load()
		received += w.bytes.Load()
		w.close()
		for i, got := range seen {
			if got != people {
				b.Fatalf("client %d sees %d people, want %d", i, got, people)
			}
		}
	}
	each := float64(b.N)
	report(b,
		figure{"wall-ms", float64(wall.Milliseconds()) / each},
		figure{"frames", float64(frames) / each},
		figure{"MB", float64(received) / each / 1e6},
		figure{"cpu-ms", float64(cpu.Milliseconds()) / each},
	)
}
