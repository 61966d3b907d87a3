//go:build linux

package bench

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/program"
)

// BenchmarkIdleWatchers measures what an open stream costs that has nothing to say.
func BenchmarkIdleWatchers(b *testing.B) {
	const watchers = 5000
	for _, topics := range []int{1, watchers} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			var resident, stack, heap float64
			for range b.N {
				n := binary.ServeQuietly(b)
				before, stackBefore, heapBefore := float64(n.RSS()), metric(b, n, "go_memstats_stack_inuse_bytes"), metric(b, n, "go_memstats_heap_inuse_bytes")
				var states atomic.Int64
				w := watch(b, n, func(_ int, event []byte, _ time.Time) {
					if bytes.HasPrefix(event, isState) {
						states.Add(1)
					}
				})
				for i := range watchers {
					w.open(fmt.Sprintf("/v1/topics/room-%d/events", i%topics))
				}
				awaitCount(b, &states, watchers)
				resident += float64(settled(n)) - before
				stack += metric(b, n, "go_memstats_stack_inuse_bytes") - stackBefore
				heap += metric(b, n, "go_memstats_heap_inuse_bytes") - heapBefore
				w.close()
			}
			perStream := float64(b.N) * watchers * 1024
			report(b,
				figure{"KiB-RSS/stream", resident / perStream},
				figure{"KiB-stack/stream", stack / perStream},
				figure{"KiB-heap/stream", heap / perStream},
			)
		})
	}
}

// settled returns the memory of a node once it has been about the same for a second.
func settled(n *program.Node) int64 {
	const about = 1 << 20
	for last, since := n.RSS(), time.Now(); ; time.Sleep(50 * time.Millisecond) {
		now := n.RSS()
		if now > last+about || now < last-about {
			last, since = now, time.Now()
		}
		if time.Since(since) > time.Second {
			return now
		}
	}
}

// metric returns the value of one of the node's metrics that has no labels.
func metric(b *testing.B, n *program.Node, name string) float64 {
	b.Helper()
	response, err := http.Get(n.URL + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			parsed, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				b.Fatal(err)
			}
			return parsed
		}
	}
	b.Fatalf("there is no metric %s", name)
	return 0
}
