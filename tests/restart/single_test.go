package restart

import (
	"fmt"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"rollcall/tests/program"
)

// TestOneNodeIsStartedAgain: with no other node there is only the journal to bring people back.
func TestOneNodeIsStartedAgain(t *testing.T) {
	t.Parallel()
	for _, how := range []struct {
		name string
		end  func(*testing.T, *crowd, *program.Node)
	}{
		{"stopped", stopGently},
		{"killed", func(_ *testing.T, c *crowd, n *program.Node) { c.awaitJournal(n.URL); n.Kill() }},
	} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			people := scaled(100, 1000)
			c := newCrowd(t, 10*time.Second)
			flags := []string{
				"--addr=" + freeAddr(t), "--data-dir=" + filepath.Join(t.TempDir(), "data"), "--log-level=warn",
				"--default-ttl=10s", "--drain=" + scaled("2s", "10s"),
			}
			n := binary.Serve(t, flags...)
			url := n.URL
			watcher := watching("the watcher", rooms(people))
			watcher.choose = func(string) string { return url }
			c.follow(watcher)
			c.fill(people, func(int) string { return url })
			c.settle(nobody, url)
			began := c.begin()
			how.end(t, c, n)
			ended := time.Now()
			n = binary.Serve(t, flags...)
			if n.URL != url {
				t.Fatalf("the node is at %s now, want %s", n.URL, url)
			}
			t.Logf("ended within %v, ready again %v later", ended.Sub(began).Round(time.Millisecond), time.Since(ended).Round(time.Millisecond))
			c.settle(nobody, url)
			c.outlive(url)
			c.settle(nobody, url)
			c.sawNothing()
			t.Logf("%s; %d requests sent again", describe(c.gaps(began)), c.repeated.Load())
		})
	}
}

// stopGently stops a node that has streams, and checks that it refuses traffic before it ends.
func stopGently(t *testing.T, c *crowd, n *program.Node) {
	n.Signal(syscall.SIGTERM)
	program.Eventually(t, func() bool {
		status, _, err := c.send(c.ctx, http.MethodGet, n.URL+"/readyz", "")
		if err != nil {
			t.Errorf("/readyz: %v, want 503 while streams are open", err)
			return true
		}
		return status == http.StatusServiceUnavailable
	}, "503 from /readyz")
	if code := n.Wait(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// awaitJournal waits until a node has written everybody who is present to its journal.
func (c *crowd) awaitJournal(node string) {
	c.t.Helper()
	program.Eventually(c.t, func() bool { return c.metric(node, "rollcall_journal_records") == len(c.present) }, "everybody is in the journal")
}

// TestASecondSignalEndsANodeThatHandsOver ends one whose sessions nobody takes: the other node stands still.
func TestASecondSignalEndsANodeThatHandsOver(t *testing.T) {
	t.Parallel()
	cluster := binary.ServeCluster(t, 2, "--drain=1h", "--log-level=warn")
	c := newCrowd(t, 30*time.Second)
	for i := range 10 {
		c.arrive(cluster.Nodes[0].URL, &person{topic: roomOf(0), key: fmt.Sprintf("person-%d", i), session: fmt.Sprintf("session-of-person-%d", i)})
	}
	cluster.Nodes[1].Suspend()
	n := cluster.Nodes[0]
	n.Signal(syscall.SIGTERM)
	program.Eventually(t, func() bool {
		status, _, err := c.send(c.ctx, http.MethodGet, n.URL+"/readyz", "")
		return err == nil && status == http.StatusServiceUnavailable
	}, "503 from /readyz")
	program.Eventually(t, func() bool { // one that comes right after the first is taken for the same
		n.Signal(syscall.SIGTERM)
		return !n.Running()
	}, "the node's end")
	if code := n.Wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	cluster.Nodes[1].Resume()
}
