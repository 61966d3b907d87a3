//go:build linux

package bench

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/program"
)

var (
	isState = []byte("event: presence_state")
	isDiff  = []byte("event: presence_diff")
	joinOf  = []byte(`{"joins":{"user-`)
)

// joined returns the number of the user whose join an event begins with.
func joined(event []byte) (user int, ok bool) {
	_, rest, found := bytes.Cut(event, joinOf)
	if !found {
		return 0, false
	}
	digits, _, _ := bytes.Cut(rest, []byte(`"`))
	user, err := strconv.Atoi(string(digits))
	return user, err == nil
}

// BenchmarkDelivery measures how long it is from the start of a request to track until its diff is at each watcher, in topics that are quiet
// otherwise.
func BenchmarkDelivery(b *testing.B) {
	for _, size := range []struct{ watchers, topics int }{{1, 20}, {100, 5}, {1000, 1}} { // several topics, so that each is quiet in between
		b.Run(fmt.Sprintf("watchers=%d", size.watchers), func(b *testing.B) {
			n := binary.ServeQuietly(b)
			deliver(b, n, n, "room", size.watchers, size.topics)
		})
	}
}

// deliver tracks at one node what so many watchers in each of several topics see at another, or at the same.
func deliver(b *testing.B, from, to *program.Node, topic string, watchers, topics int) {
	b.Helper()
	d := &delivery{latest: make([]time.Duration, b.N)}
	d.start = make([]atomic.Int64, b.N)
	d.begin = time.Now()
	w := watch(b, to, d.take)
	for i := range watchers * topics {
		w.open(fmt.Sprintf("/v1/topics/%s-%d/events", topic, i%topics))
	}
	c := dial(b, from)
	awaitCount(b, &d.states, int64(watchers*topics))
	const quiet = 70 * time.Millisecond // more than the window of a topic of 1,000
	pace := time.NewTicker(quiet / time.Duration(topics))
	defer pace.Stop()
	b.ResetTimer()
	before := from.CPU()
	for i := range b.N {
		<-pace.C
		track := request("POST", presences(fmt.Sprintf("%s-%d", topic, i%topics)), fmt.Sprintf(`{"key":"user-%d","ttl":3600}`, i))
		d.start[i].Store(int64(time.Since(d.begin)))
		if err := c.do(track); err != nil {
			b.Fatal(err)
		}
	}
	awaitCount(b, &d.diffs, int64(b.N*watchers))
	b.StopTimer()
	cpu := from.CPU() - before
	w.close() // now what it has written can be read
	report(b,
		figure{"p50-us", micros(percentile(d.all, 50))},
		figure{"p99-us", micros(percentile(d.all, 99))},
		figure{"last-p50-us", micros(percentile(d.latest, 50))},
		figure{"last-p99-us", micros(percentile(d.latest, 99))},
		figure{"cpu-us/event", micros(cpu) / float64(b.N*watchers)},
	)
}

// delivery gathers when events arrive.
type delivery struct {
	begin         time.Time
	start         []atomic.Int64 // of the request of each event, since begin
	states, diffs atomic.Int64   // how many have arrived
	all           []time.Duration
	latest        []time.Duration // of each event, at its last watcher
}

// take is called for each event at each watcher.
func (d *delivery) take(_ int, event []byte, at time.Time) {
	if bytes.HasPrefix(event, isState) {
		d.states.Add(1)
		return
	}
	user, ok := joined(event)
	if !ok {
		return
	}
	took := at.Sub(d.begin) - time.Duration(d.start[user].Load())
	d.all = append(d.all, took)
	d.latest[user] = max(d.latest[user], took)
	d.diffs.Add(1)
}

// awaitCount waits until so many have come.
func awaitCount(b *testing.B, count *atomic.Int64, want int64) {
	b.Helper()
	for deadline := time.Now().Add(program.Patience); count.Load() < want; time.Sleep(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d have come within %v", count.Load(), want, program.Patience)
		}
	}
}

// BenchmarkFanout measures what it costs to deliver an event of 300 bytes, in rollcall and in the bare server: what a machine takes for the same
// differs from hour to hour, what lies between the two less so.
func BenchmarkFanout(b *testing.B) {
	for _, size := range []struct {
		watchers int
		pace     time.Duration // more than the window of such a topic, so that every track is an event
	}{{1000, 60 * time.Millisecond}, {5000, 200 * time.Millisecond}} {
		b.Run(fmt.Sprintf("watchers=%d", size.watchers), func(b *testing.B) {
			b.Run("rollcall", func(b *testing.B) { fanout(b, binary, size.watchers, size.pace) })
			b.Run("bare", func(b *testing.B) { fanout(b, bare, size.watchers, size.pace) })
		})
	}
}

func fanout(b *testing.B, server *program.Binary, watchers int, every time.Duration) {
	n := server.ServeQuietly(b)
	var states, diffs atomic.Int64
	w := watch(b, n, func(_ int, event []byte, _ time.Time) {
		switch {
		case bytes.HasPrefix(event, isState):
			states.Add(1)
		case bytes.HasPrefix(event, isDiff):
			diffs.Add(1)
		}
	})
	for range watchers {
		w.open("/v1/topics/lobby/events")
	}
	awaitCount(b, &states, int64(watchers))
	c := dial(b, n)
	meta := strings.Repeat("x", 165)
	pace := time.NewTicker(every)
	defer pace.Stop()
	b.ResetTimer()
	before, bytesBefore := n.CPU(), w.bytes.Load()
	for i := range b.N {
		<-pace.C
		c.must(b, "POST", presences("lobby"), fmt.Sprintf(`{"key":"user-%d","meta":{"text":%q},"ttl":3600}`, i, meta))
		awaitCount(b, &diffs, int64((i+1)*watchers))
	}
	b.StopTimer()
	events := float64(b.N * watchers)
	report(b,
		figure{"bytes/event", float64(w.bytes.Load()-bytesBefore) / events},
		figure{"cpu-us/event", micros(n.CPU()-before) / events},
	)
}
