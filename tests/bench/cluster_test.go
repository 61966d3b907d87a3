//go:build linux

package bench

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rollcall/tests/program"
)

// serveCluster runs so many nodes that log little. One alone is a node without a cluster.
func serveCluster(b *testing.B, nodes int) *program.Cluster {
	b.Helper()
	if nodes == 1 {
		return &program.Cluster{Nodes: []*program.Node{binary.ServeQuietly(b, "--log-level=warn")}}
	}
	return binary.ServeCluster(b, nodes, "--log-level=warn")
}

// BenchmarkDeliveryAcrossNodes is BenchmarkDelivery with one watcher, who is at the node that is told or at another one of three. That node is told by a push, and
// pushes are some time apart: with 20 topics a track comes within that time, with one after a pause.
func BenchmarkDeliveryAcrossNodes(b *testing.B) {
	c, run := serveCluster(b, 3), 0
	for _, topics := range []int{20, 1} {
		for to, where := range []string{"same", "other"} {
			b.Run(fmt.Sprintf("topics=%d/watcher=%s", topics, where), func(b *testing.B) {
				run++
				deliver(b, c.Nodes[0], c.Nodes[to], fmt.Sprintf("room-%d", run), 1, topics)
			})
		}
	}
}

// BenchmarkTrackInCluster compares a node alone with one of three, which tells the two others of every track.
func BenchmarkTrackInCluster(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			c := serveCluster(b, nodes)
			loadOver(b, c.Nodes[0], clients, trackRequest, c.Nodes[1:]...)
		})
	}
}

// trackRequest tracks a hundred people to a topic.
func trackRequest(i int) []byte {
	return request("POST", fmt.Sprintf("/v1/topics/room-%d/presences", i/100), fmt.Sprintf(`{"key":"user-%d","meta":{"device":"phone"},"ttl":3600}`, i))
}

// BenchmarkForwardedHeartbeat renews sessions at the node that has them and at another one, which passes on what comes at the same time in one request.
func BenchmarkForwardedHeartbeat(b *testing.B) {
	c := serveCluster(b, 3)
	sessions := populate(b, c.Nodes[0], "lobby", 1000)
	c.AwaitAgreement()
	requests := make([][]byte, len(sessions))
	for i, session := range sessions {
		requests[i] = request("POST", "/v1/sessions/"+session+"/heartbeat", "")
	}
	all := request("POST", "/v1/heartbeats", `{"sessions":["`+strings.Join(sessions, `","`)+`"]}`)
	for at, where := range []string{"owner", "other"} {
		n, owner := c.Nodes[at], c.Nodes[:1]
		if at == 0 {
			owner = c.Nodes[1:2] // then it has nothing to do
		}
		for _, connections := range []int{4, 64} {
			b.Run(fmt.Sprintf("at=%s/connections=%d", where, connections), func(b *testing.B) {
				loadOver(b, n, connections, func(i int) []byte { return requests[i%len(requests)] }, owner...)
			})
		}
		b.Run("at="+where+"/of=1000", func(b *testing.B) {
			loadOver(b, n, clients, func(int) []byte { return all }, owner...)
		})
	}
}

// BenchmarkIdleCluster measures what nodes use of a processor that nobody asks anything: each of three, and one alone.
func BenchmarkIdleCluster(b *testing.B) {
	const during = 5 * time.Second
	for _, nodes := range []int{1, 3} {
		for _, presences := range []int{0, 20_000} {
			b.Run(fmt.Sprintf("nodes=%d/presences=%d", nodes, presences), func(b *testing.B) {
				c := serveCluster(b, nodes)
				sendAll(b, c.Nodes[0], clients, presences, trackRequest)
				if nodes > 1 {
					c.AwaitAgreement()
				}
				time.Sleep(time.Second) // for what the tracks have left to do
				var used time.Duration
				for range b.N {
					before := cpuOf(c.Nodes)
					time.Sleep(during)
					used += cpuOf(c.Nodes) - before
				}
				report(b, figure{"cpu-ms/s/node", micros(used) / 1e3 / during.Seconds() / float64(b.N*nodes)})
			})
		}
	}
}

// BenchmarkNodeJoins has a third node join, and measures how long it takes from its start until it knows all presences, and what that costs the one that has
// them.
func BenchmarkNodeJoins(b *testing.B) {
	for _, presences := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("presences=%d", presences), func(b *testing.B) {
			var took, cpu, othersCPU time.Duration
			var extra, peak, resident int64
			for range b.N {
				c := serveCluster(b, 2)
				b.StopTimer()
				sendAll(b, c.Nodes[0], clients, presences, trackRequest)
				c.AwaitAgreement()
				had, before := settled(c.Nodes[0]), cpuOf(c.Nodes)
				c.Nodes[0].ForgetPeak()
				b.StartTimer()
				start := time.Now()
				n := c.Add()
				program.Eventually(b, func() bool { return metric(b, n, "rollcall_presences") == float64(presences) }, "it knows all")
				took += time.Since(start)
				b.StopTimer()
				c.AwaitAgreement()
				cpu += n.CPU()
				othersCPU += cpuOf(c.Nodes[:2]) - before
				extra += c.Nodes[0].PeakRSS() - had
				peak += n.PeakRSS()
				resident += settled(n)
			}
			runs := float64(b.N)
			report(b,
				figure{"ms", micros(took) / 1e3 / runs},
				figure{"cpu-ms", micros(cpu) / 1e3 / runs},
				figure{"cpu-ms-others", micros(othersCPU) / 1e3 / runs},
				figure{"MB-extra-first", float64(extra) / 1e6 / runs},
				figure{"MB-peak", float64(peak) / 1e6 / runs},
				figure{"MB-settled", float64(resident) / 1e6 / runs},
			)
		})
	}
}
