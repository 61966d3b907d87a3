package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

// audience is many open streams of the lobby. Since all get the same bytes, it checks no more of them than that they are as many.
type audience struct {
	n    *node
	refs []atomic.Int64 // how many metas each has received
}

var ref = []byte(`"phx_ref":"`)

// gather opens streams, which are read until the test ends.
func (n *node) gather(size int) *audience {
	n.t.Helper()
	a := &audience{n: n, refs: make([]atomic.Int64, size)}
	ctx, cancel := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	n.t.Cleanup(func() { cancel(); readers.Wait() })
	for i := range a.refs {
		body := n.openStream(ctx, n.http, lobbyEvents, nil).Body
		readers.Go(func() {
			defer body.Close()
			a.count(&a.refs[i], body)
		})
	}
	return a
}

// count counts the metas that come.
func (a *audience) count(refs *atomic.Int64, body io.Reader) {
	buffer, kept := make([]byte, 64<<10), 0 // kept is how much of the last read may be half a ref
	for {
		n, err := body.Read(buffer[kept:])
		if err != nil {
			return
		}
		whole := buffer[:kept+n]
		refs.Add(int64(bytes.Count(whole, ref)))
		kept = copy(buffer, whole[max(0, len(whole)-len(ref)+1):])
	}
}

// await waits until everybody has received so many metas.
func (a *audience) await(want int64) {
	a.n.t.Helper()
	for i := range a.refs {
		program.Eventually(a.n.t, func() bool { return a.refs[i].Load() >= want }, "reader %d has received %d metas", i, want)
	}
}

// bursts has people change their metas, all at about the same time, again and again, and returns how long it took each time until everybody
// knew.
func (a *audience) bursts(people int) (took []time.Duration) {
	a.n.t.Helper()
	want := a.refs[0].Load()
	for range 15 {
		start := time.Now()
		a.n.change(people)
		want += int64(2 * people) // the leave of one version and the join of the next
		a.await(want)
		took = append(took, time.Since(start))
	}
	for i := range a.refs {
		if got := a.refs[i].Load(); got != want {
			a.n.t.Errorf("reader %d has received %d metas, want %d", i, got, want)
		}
	}
	return took
}

// change gives people in the lobby new metas, large ones, over a few connections. Who is not there comes.
func (n *node) change(people int) {
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for i := client; i < people; i += 4 {
				session := fmt.Sprintf("somebody-%08d", i)
				body := fmt.Sprintf(`{"session":%q,"meta":{"text":%q}}`, session, rand.Text()+strings.Repeat("x", 4000))
				if got, err := n.send("PUT", presenceOf("room:lobby", session), body, nil); err != nil || got.status >= 300 {
					n.t.Errorf("PUT: %d, %v", got.status, err)
				}
			}
		})
	}
	clients.Wait()
}

func median(of []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(of))[len(of)/2]
}

// This test is alone, since it measures.
func TestOneWhoStopsReadingDelaysNobodyAndCostsNoMemory(t *testing.T) {
	const people = 12
	n := serve(t, "--write-timeout=1h", "--resume-memory=1MiB", "--diff-window=10ms")
	n.change(people)
	w := n.watch(lobbyEvents)
	others := n.gather(198)
	others.await(people)
	without := others.bursts(people)

	slow := n.stall(lobbyEvents)
	with := others.bursts(people)
	var before, growth int64
	for range 3 { // the garbage collector takes its time to settle
		before = n.RSS()
		others.bursts(people)
		if growth = n.RSS() - before; growth < before/10 {
			break
		}
	}
	t.Logf("a burst reached everybody within %v, and with a stalled reader %v; of %d KiB, memory grew by %d KiB",
		median(without), median(with), before>>10, growth>>10)
	if median(with) > 5*median(without) {
		t.Errorf("with a stalled reader a burst took %v, without %v", median(with), median(without))
	}
	if streams, cutOff := n.metric("rollcall_streams"), n.metric("rollcall_streams_cut_off_total"); streams != 200 || cutOff != 0 {
		t.Errorf("%v streams, %v cut off: what was measured was not a stalled reader", streams, cutOff)
	}
	if growth >= before/10 {
		t.Errorf("the same traffic again took %d KiB of memory more than the %d KiB before", growth>>10, before>>10)
	}
	if kept := n.metric("rollcall_stream_kept_bytes"); kept > 1<<20 {
		t.Errorf("%v bytes of diffs are kept, want at most a MiB", kept)
	}

	n.track("room:lobby", `{"key":"the last"}`)
	last := func(state rollcallclient.PresenceState) bool { return len(state["the last"].Metas) == 1 }
	w.until("the last has come", last)
	resumed := slow.resume()
	resumed.until("the last has come", last)
	if want := n.list("room:lobby"); !reflect.DeepEqual(w.state, want) || !reflect.DeepEqual(resumed.state, want) {
		t.Errorf("one reads %v, the one who had stopped %v; the list is %v", devices(w.state), devices(resumed.state), devices(want))
	}
	if resets := n.metric("rollcall_stream_resets_total"); resets != 1 {
		t.Errorf("%v states were sent in place of diffs, want 1, to the one who had stopped", resets)
	}
}
