package replication

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rollcall/presence"
	"rollcall/presence/crdt"
)

// BenchmarkSnapshotOverHTTP has a node that knows nothing take in all that another one has, over loopback. What it needs of memory besides what it keeps,
// on both sides together, must not grow with the set.
func BenchmarkSnapshotOverHTTP(b *testing.B) {
	for _, presences := range []int{100_000, 400_000} {
		b.Run(fmt.Sprintf("presences=%d", presences), func(b *testing.B) {
			from := idleReplicator(b, "x3k2p7qa5wz4m6td", nil)
			crowd(b, from.tracker, presences)
			server := httptest.NewServer(from.Handler())
			defer server.Close()
			from.SetMembers(map[string]string{from.self.Name: "", "w2h72uxk4l3o7c4u": "127.0.0.1:1"})
			var took, used time.Duration
			var wire atomic.Int64
			var kept, extra int64
			brokenOff := 0
			for range b.N {
				client := countingClient(&wire)
				to := idleReplicator(b, "w2h72uxk4l3o7c4u", client)
				to.SetMembers(map[string]string{from.self.Name: server.Listener.Addr().String(), to.self.Name: ""})
				before := liveHeap()
				extra += streamingMemory(b, to, server.Listener.Addr().String(), presences) - before

				wire.Store(0)
				start, startCPU := time.Now(), cpu(b)
				for to.exchangeOnce(b.Context(), from.self.Name) != nil { // a machine that is too busy breaks it off, and the next one goes on
					if brokenOff++; brokenOff > 100 {
						b.Fatal("the exchange breaks off again and again")
					}
				}
				took += time.Since(start)
				used += cpu(b) - startCPU
				if got := to.tracker.Stats().Presences; got != presences {
					b.Fatalf("%d presences have come, want %d", got, presences)
				}
				kept += liveHeap() - before
				client.CloseIdleConnections()
			}
			runs := float64(b.N)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(took.Milliseconds())/runs, "ms")
			b.ReportMetric(float64(brokenOff)/runs, "broken-off")
			b.ReportMetric(float64(used.Milliseconds())/runs, "cpu-ms")
			b.ReportMetric(float64(wire.Load())/1e6, "MB-wire")
			b.ReportMetric(float64(wire.Load())/float64(presences), "B-wire/presence")
			b.ReportMetric(float64(kept)/runs/float64(presences), "B-kept/presence")
			b.ReportMetric(float64(extra)/runs/1e6, "MB-extra")
		})
	}
}

// streamingMemory reads all that a node has and keeps none of it, and returns the most memory that was in use at two points on the way.
func streamingMemory(b *testing.B, to *Replicator, addr string, presences int) (most int64) {
	b.Helper()
	for range 10 { // while the heap is looked at nothing is read, which on a machine that is too busy breaks the stream off
		items, next := 0, presences/3
		err := to.config.link.exchange(b.Context(), addr, to.digests(), func(Digests) {}, func(part Part) {
			if items += len(part.Delta.Items); items >= next {
				most = max(most, liveHeap())
				next += presences / 3
			}
		})
		if err == nil {
			return most
		}
	}
	b.Fatal("the stream breaks off again and again")
	return 0
}

// liveHeap returns how much memory is reachable.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // the first one takes for reachable what is allocated meanwhile; now the other side waits
	return marked()
}

// marked returns how much memory the last garbage collection found reachable.
func marked() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// cpu returns the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// idleReplicator returns a replicator that does nothing by itself.
func idleReplicator(b *testing.B, name string, client *http.Client) *Replicator {
	b.Helper()
	tracker, err := presence.Open(presence.Config{Replica: crdt.Replica{Name: name, Incarnation: 1}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(tracker.Close)
	config := Config{Tracker: tracker, Client: client}
	config.setDefaults()
	return &Replicator{config: config, engine: newEngine(config), synced: make(chan struct{})}
}

// crowd tracks so many people, a hundred to a topic.
func crowd(b *testing.B, tracker *presence.Tracker, people int) {
	b.Helper()
	for i := range people {
		_, err := tracker.Track(presence.TrackRequest{
			Topic: presence.Topic(fmt.Sprintf("room:%d", i%(people/100))),
			Key:   presence.Key(fmt.Sprintf("user-%06d", i)),
			TTL:   time.Hour,
			Meta:  presence.Meta(fmt.Sprintf(`{"device":"phone","name":"User %d","status":"away"}`, i)),
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// countingClient returns a client that counts the bytes of its connections, both ways.
func countingClient(bytes *atomic.Int64) *http.Client {
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return &countedConn{conn, bytes}, err
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial}}
}

type countedConn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}
