//go:build linux

package bench

import (
	"crypto/rand"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"rollcall/presence"
	"rollcall/presence/crdt"
)

// BenchmarkAMillionSessions measures what sessions cost a tracker that hold one presence each, in 10,000 topics. It needs no HTTP, so it looks
// at the tracker itself. What a heartbeat costs there is BenchmarkHeartbeatAmongAMillion of package presence.
func BenchmarkAMillionSessions(b *testing.B) {
	const sessions, topics = 1_000_000, 10_000
	var memory, track, sweep float64
	for range b.N {
		before := heap()
		tracker, err := presence.Open(presence.Config{Replica: crdt.Replica{Name: "bench", Incarnation: 1}})
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		for i := range sessions {
			_, err := tracker.Track(presence.TrackRequest{
				Topic: presence.Topic(fmt.Sprintf("room:%d", i%topics)),
				Key:   presence.Key(fmt.Sprintf("user:%d", i)),
				// as a server makes them, but that those need not be random to be alike
				Session: presence.SessionID("ABCD" + rand.Text()),
				TTL:     time.Minute,
				Meta:    presence.Meta(`{"device":"phone"}`),
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		track += micros(time.Since(start)) / sessions
		memory += float64(heap() - before)
		sweep += idleCPU(b, 3*time.Second)
		tracker.Close()
	}
	each := float64(b.N)
	report(b,
		figure{"bytes/session", memory / sessions / each},
		figure{"us/track", track / each},
		figure{"sweep-cpu-ms/s", sweep / each},
	)
}

// heap returns how much memory is in use.
func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// idleCPU returns how many milliseconds of processor time a second takes in which this process only waits.
func idleCPU(b *testing.B, during time.Duration) float64 {
	used := func() time.Duration {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			b.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	before := used()
	time.Sleep(during)
	return float64((used() - before).Microseconds()) / 1e3 / during.Seconds()
}
