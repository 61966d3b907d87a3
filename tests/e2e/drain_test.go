package e2e

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rollcall/tests/program"
)

func TestAStoppingNodeEndsStreamsAndRefusesWritesButAnswersReads(t *testing.T) {
	t.Parallel()
	n := serve(t, "--max-meta=1MiB", "--max-body=2MiB", "--write-timeout=30s")
	alice := n.track("room:lobby", `{"key":"Alice"}`)
	n.fill("room:huge")
	stalled := n.stall("/v1/topics/room:huge/events") // the node waits for it, until it goes
	var watchers []*watcher
	for range 20 {
		w := n.watch(lobbyEvents)
		w.nextState()
		watchers = append(watchers, w)
	}
	program.Eventually(t, func() bool { return n.metric("rollcall_streams") == 21 }, "21 streams")

	n.Signal(syscall.SIGTERM)
	n.awaitDraining()
	for _, call := range []struct{ method, path, body string }{
		{"POST", presences("room:lobby"), `{"key":"Bob"}`},
		{"PUT", presenceOf("room:lobby", "Alice"), `{"session":"alice-phone-0001","meta":{}}`},
		{"PATCH", presenceOf("room:lobby", "Alice"), `{"session":"alice-phone-0001","meta":{}}`},
		{"DELETE", presenceOf("room:lobby", "Alice") + "?session=" + alice.Session, ""},
		{"POST", "/v1/sessions/" + alice.Session + "/heartbeat", ""},
		{"POST", "/v1/heartbeats", `{"sessions":[]}`},
		{"DELETE", "/v1/sessions/" + alice.Session, ""},
		{"POST", "/v1/sessions/" + alice.Session + "/leave", ""},
		{"GET", lobbyEvents, ""},
		{"GET", "/v1/events?topic=a", ""},
		{"GET", "/readyz", ""},
	} {
		n.refused(http.StatusServiceUnavailable, "draining", call.method, call.path, call.body)
		if after := n.call(http.StatusServiceUnavailable, call.method, call.path, call.body).header.Get("Retry-After"); after != "2" {
			t.Errorf("%s %s: Retry-After %q, want 2", call.method, call.path, after)
		}
	}
	n.call(http.StatusOK, "GET", "/healthz", "")
	if got := devices(n.list("room:lobby")); got["Alice"] != 1 || len(got) != 1 {
		t.Errorf("there are %v, want Alice: a stopping node answers reads and untracks nobody", got)
	}
	for i, w := range watchers {
		if err := w.ended(); err != nil {
			t.Errorf("stream %d has ended with %v, want a clean end", i, err)
		}
	}
	stalled.hangUp()
	if code := n.Wait(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// awaitDraining waits until the node says that it takes no more traffic.
func (n *node) awaitDraining() {
	n.t.Helper()
	program.Eventually(n.t, func() bool {
		got, err := n.send("GET", "/readyz", "", nil)
		return err == nil && got.status == http.StatusServiceUnavailable
	}, "503 from /readyz")
}

// fill makes a topic so large that its state does not fit between a node and a stalled client.
func (n *node) fill(topic string) {
	n.t.Helper()
	n.track(topic, `{"key":"large","meta":{"text":"`+strings.Repeat("x", 1<<19)+`"}}`)
}

func TestTheStreamsOfAStoppingNodeEndOneAfterTheOther(t *testing.T) {
	t.Parallel()
	n := serve(t, "--drain=10s")
	var (
		mu    sync.Mutex
		ends  []time.Time
		ended sync.WaitGroup
	)
	for range 200 {
		w := n.watch(lobbyEvents)
		ended.Go(func() {
			for range w.events { // until it is closed
			}
			mu.Lock()
			defer mu.Unlock()
			ends = append(ends, time.Now())
		})
	}
	n.stop()
	ended.Wait()
	slices.SortFunc(ends, time.Time.Compare)
	// 200 streams are spread over a second. What one of ten of them takes says whether they were: even a slow machine does not stretch that.
	if spread := ends[199].Sub(ends[0]); spread < 200*time.Millisecond {
		t.Errorf("all streams have ended within %v, want them spread over a second", spread)
	}
}

func TestAnIdleNodeStopsAtOnce(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		n := serve(t, "--drain=1h")
		n.track("room:lobby", `{"key":"Alice"}`)
		n.watch(lobbyEvents).nextState()
		n.Signal(signal)
		if code := n.Wait(); code != 0 {
			t.Errorf("%v: exit code %d, want 0", signal, code)
		}
	}
}

func TestASecondSignalStopsANodeThatWaits(t *testing.T) {
	t.Parallel()
	n := serve(t, "--drain=1h", "--write-timeout=1h", "--max-meta=1MiB", "--max-body=2MiB")
	n.fill("room:huge")
	n.stall("/v1/topics/room:huge/events")
	program.Eventually(t, func() bool { return n.metric("rollcall_streams") == 1 }, "a stream")
	n.Signal(syscall.SIGTERM)
	n.awaitDraining()
	program.Eventually(t, func() bool { // one that comes right after the first is taken for the same
		n.Signal(syscall.SIGTERM)
		return !n.Running()
	}, "the node's end")
	if code := n.Wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}

func TestANodeThatWasKilledStartsAgainOnItsData(t *testing.T) {
	t.Parallel()
	n := serve(t)
	before := n.track("room:lobby", `{"key":"Alice"}`)
	n.Signal(syscall.SIGKILL)
	n.Wait()
	n.Node = binary.Serve(t, "--data-dir="+n.DataDir)
	if after := n.track("room:lobby", `{"key":"Alice"}`); after.Ref <= before.Ref {
		t.Errorf("ref %s does not sort after %s of the run before", after.Ref, before.Ref)
	}
}
