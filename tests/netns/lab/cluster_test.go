//go:build linux

package lab

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

const topic = "lobby"

// session returns the id of the i-th session.
func session(i int) string { return fmt.Sprintf("session-%08d", i) }

func newNodeAlone(t *testing.T) (*Cluster, *Node, *Watcher) {
	t.Helper()
	c := NewCluster(t, binary, Config{Nodes: 1})
	w := c.Watch(topic)[0] // it waits for the node
	c.Start()
	w.AwaitOpen(1)
	return c, c.Nodes[0], w
}

func TestWatcherSeesWhatClientsDo(t *testing.T) {
	t.Parallel()
	c, n, w := newNodeAlone(t)
	mark := w.Mark()
	var refs []string
	for i, key := range []string{"ann", "bob", "ann"} {
		p, err := n.Track(topic, key, session(i), 0)
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, p.Ref)
	}
	c.AgreeWithin(program.Patience, topic, "ann", "bob", "ann")

	updated, err := n.Put(topic, "bob", session(1), `{"status":"away"}`)
	if err != nil {
		t.Fatal(err)
	}
	if change := w.AwaitJoin(mark, updated.Ref, program.Patience); !has(change.Leaves, "bob", refs[1]) {
		t.Errorf("the update was seen as %+v, want the old ref to leave in it", change)
	}
	if err := n.Leave(session(2)); err != nil {
		t.Fatal(err)
	}
	if change := w.AwaitLeave(mark, refs[2], program.Patience); change.Fresh || len(change.Joins) > 0 {
		t.Errorf("the leave was seen as %+v", change)
	}
	c.AgreeWithin(program.Patience, topic, "ann", "bob")
	if status, err := n.Heartbeat(session(0)); err != nil || status != http.StatusOK {
		t.Errorf("heartbeat: %d, %v", status, err)
	}
}

func TestNodeIsKilledAndStartedElsewhere(t *testing.T) {
	t.Parallel()
	c, n, w := newNodeAlone(t)
	if _, err := n.Put(topic, "ann", session(1), `{}`); err != nil {
		t.Fatal(err)
	}
	c.AgreeWithin(program.Patience, topic, "ann")
	n.Kill()
	if n.Running() {
		t.Error("a killed node runs")
	}
	n.Move()
	n.Start()
	if _, err := n.Put(topic, "ann", session(1), `{}`); err != nil {
		t.Fatal(err)
	}
	w.AwaitOpen(2)
	c.AgreeWithin(program.Patience, topic, "ann")
	n.Shutdown()
}

func TestPausedNodeAnswersWhenItIsResumed(t *testing.T) {
	t.Parallel()
	c, n, _ := newNodeAlone(t)
	n.Pause()
	listed := make(chan error, 1)
	go func() {
		_, err := n.List(topic)
		listed <- err
	}()
	select {
	case err := <-listed:
		t.Fatalf("a paused node has answered: %v", err)
	case <-time.After(never):
	}
	n.Resume()
	if err := <-listed; err != nil {
		t.Error(err)
	}
	n.Pause() // and it is stopped all the same at the end
	if got := len(c.running()); got != 0 {
		t.Errorf("%d nodes run, want the only one to be paused", got)
	}
}

func TestViewsTellStatesApart(t *testing.T) {
	meta := func(ref string) rollcallclient.TrackedMeta { return rollcallclient.TrackedMeta{PhxRef: ref} }
	state := func(key string, metas ...rollcallclient.TrackedMeta) rollcallclient.PresenceState {
		return rollcallclient.PresenceState{key: {Metas: metas}}
	}
	one, err := viewOf(state("ann", meta("1"), meta("2")))
	if err != nil {
		t.Fatal(err)
	}
	other, err := viewOf(state("ann", meta("2"), meta("3")))
	if err != nil {
		t.Fatal(err)
	}
	if got := one.difference(other); !strings.Contains(got, `first has [ann {"phx_ref":"1"}], only the second [ann {"phx_ref":"3"}]`) {
		t.Errorf("difference: %s", got)
	}
	for name, bad := range map[string]rollcallclient.PresenceState{
		"a ref twice":         state("ann", meta("1"), meta("1")),
		"a key without metas": state("ann"),
	} {
		if _, err := viewOf(bad); err == nil {
			t.Errorf("a state with %s is taken", name)
		}
	}
}

func TestDiffsMustFit(t *testing.T) {
	metas := rollcallclient.Metas{Metas: []rollcallclient.TrackedMeta{{PhxRef: "1"}}}
	present, nobody := rollcallclient.PresenceState{"ann": metas}, rollcallclient.PresenceState{}
	for name, test := range map[string]struct {
		state rollcallclient.PresenceState
		diff  rollcallclient.PresenceDiff
		fits  bool
	}{
		"joins":        {nobody, rollcallclient.PresenceDiff{Joins: present}, true},
		"joins again":  {present, rollcallclient.PresenceDiff{Joins: present}, false},
		"leaves":       {present, rollcallclient.PresenceDiff{Leaves: present}, true},
		"leaves again": {nobody, rollcallclient.PresenceDiff{Leaves: present}, false},
	} {
		if err := check(test.state, test.diff); (err == nil) != test.fits {
			t.Errorf("%s: %v, want it to fit: %v", name, err, test.fits)
		}
	}
}
