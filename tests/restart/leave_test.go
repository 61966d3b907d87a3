package restart

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"rollcall/tests/program"
)

// TestANodeStandsStillWhileAnotherOneLeaves: what it then hears first is that the other has left, and only then who has taken over its people.
func TestANodeStandsStillWhileAnotherOneLeaves(t *testing.T) {
	t.Parallel()
	c := &town{Cluster: binary.ServeCluster(t, 3, "--drain=1s", "--log-level=warn")}
	c.crowd = newCrowd(t, 30*time.Second)
	leaves, stands := c.Nodes[0], c.Nodes[2]
	stays := func(string) string { return stands.URL }
	watcher := watching("the watcher of the node that stands still", rooms(1))
	watcher.choose = stays
	c.follow(watcher)
	for i := range 50 {
		c.arrive(leaves.URL, &person{topic: roomOf(0), key: fmt.Sprintf("person-%d", i), session: fmt.Sprintf("session-of-person-%d", i)})
	}
	c.settle(nobody, urls(c.Nodes)...)
	c.begin()
	stands.Suspend()
	leaves.Signal(syscall.SIGTERM)
	if code := leaves.Wait(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	stands.Resume()
	program.Eventually(t, func() bool {
		status, err := c.Status(stands)
		return err == nil && status.Complete && len(status.Members) == 3 && c.down(stands) == 0
	}, "the node has caught up")
	c.settle(nobody, urls(c.Nodes[1:])...)
	c.sawNothing()
}
