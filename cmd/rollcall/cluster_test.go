package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/contract"
)

// fakeCluster answers as a node that belongs to a cluster which a test makes up.
type fakeCluster struct {
	*httptest.Server
	status atomic.Pointer[rollcallclient.ClusterStatus]
	down   atomic.Bool
}

func newFakeCluster(t *testing.T, status rollcallclient.ClusterStatus) *fakeCluster {
	t.Helper()
	f := &fakeCluster{}
	f.status.Store(&status)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.down.Load() {
			panic(http.ErrAbortHandler)
		}
		recorder := httptest.NewRecorder()
		recorder.Header().Set("Content-Type", "application/json")
		switch r.Method + " " + r.URL.Path {
		case "GET /v1/cluster":
			_ = json.NewEncoder(recorder).Encode(f.status.Load())
		case "DELETE /v1/cluster/nodes/node-b":
			recorder.WriteHeader(http.StatusNoContent)
		case "DELETE /v1/cluster/nodes/node-c":
			recorder.Header().Set("Content-Type", "application/problem+json")
			recorder.Header().Set("Retry-After", "2")
			recorder.WriteHeader(http.StatusServiceUnavailable)
			_, _ = recorder.WriteString(`{"title":"Service Unavailable","status":503,"code":"no_quorum","detail":"The cluster has no leader."}`)
		}
		if err := contract.CheckResponse(r, recorder.Result()); err != nil {
			t.Errorf("the fake's answer breaks the contract: %v", err)
		}
		for name, values := range recorder.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes())
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeCluster) change(change func(*rollcallclient.ClusterStatus)) {
	status := *f.status.Load()
	status.Members = append([]rollcallclient.ClusterMember(nil), status.Members...)
	change(&status)
	f.status.Store(&status)
}

// threeNodes is a cluster in good order, as node-a sees it.
func threeNodes() rollcallclient.ClusterStatus {
	return rollcallclient.ClusterStatus{Node: "node-a", Complete: true, Quorum: true, Members: []rollcallclient.ClusterMember{
		{Id: "node-a", Incarnation: 7, Role: rollcallclient.Leader, State: rollcallclient.Up, ClusterAddr: "10.0.0.1:7701", PublicAddr: "10.0.0.1:7700",
			Version: "v1.0.0", HeardMs: new(0), Sessions: 1204, Presences: 3310},
		{Id: "node-b", Incarnation: 3, Role: rollcallclient.Voter, State: rollcallclient.Up, ClusterAddr: "10.0.0.2:7701", PublicAddr: "10.0.0.2:7700",
			Version: "v1.0.1", HeardMs: new(320), Lag: 2, Sessions: 5, Presences: 8},
		{Id: "node-c", Role: rollcallclient.NonVoter, State: rollcallclient.Leaving, ClusterAddr: "10.0.0.3:7701"},
	}}
}

func TestClusterPrintsATable(t *testing.T) {
	fake := newFakeCluster(t, threeNodes())
	const whole = `
ID      ROLE       STATE    ADDRESS        VERSION  HEARD   LAG  SESSIONS  PRESENCES
node-a  leader     up       10.0.0.1:7700  v1.0.0   itself  0    1204      3310
node-b  voter      up       10.0.0.2:7700  v1.0.1   0.3s    2    5         8
node-c  non-voter  leaving  -              -        never   0    0         0
`
	const part = `
ID      ROLE       STATE  ADDRESS        VERSION  HEARD   LAG  SESSIONS  PRESENCES
node-a  voter      up     10.0.0.1:7700  v1.0.0   itself  0    1204      3310
node-b  voter      down   10.0.0.2:7700  v1.0.1   14s     2    5         8
node-c  non-voter  down   -              -        never   0    0         0

The view is incomplete: lists lack whoever is only on a node that is down (node-b, node-c), until it is back or forgotten.

The quorum is lost: nodes can neither join nor be removed until most voters are up. Presence goes on.
`
	print := func(args ...string) string {
		t.Helper()
		con, stdout, stderr := recorded()
		if code := run(t.Context(), append(append([]string{"cluster"}, args...), "--url", fake.URL), con); code != exitFine || stderr.Len() > 0 {
			t.Fatalf("cluster %v: exit code %d, %q", args, code, stderr)
		}
		return "\n" + stdout.String()
	}
	for _, args := range [][]string{nil, {"list"}} {
		if got := print(args...); got != whole {
			t.Errorf("cluster %v printed %s, want %s", args, got, whole)
		}
	}
	if got := decode[rollcallclient.ClusterStatus](t, print("--json")); len(got.Members) != 3 || got.Members[1].PublicAddr != "10.0.0.2:7700" {
		t.Errorf("--json printed %+v", got)
	}
	fake.change(func(status *rollcallclient.ClusterStatus) {
		status.Complete, status.Quorum = false, false
		status.Members[0].Role = rollcallclient.Voter
		status.Members[1].State, status.Members[1].HeardMs = rollcallclient.Down, new(14210)
		status.Members[2].State = rollcallclient.Down
	})
	if got := print(); got != part {
		t.Errorf("cluster printed %s, want %s", got, part)
	}
	fake.change(func(status *rollcallclient.ClusterStatus) {
		status.Quorum, status.Members = true, status.Members[:1]
	})
	if got, want := print(), "lists may lack somebody, as node-a has not caught up yet.\n"; !strings.HasSuffix(got, want) {
		t.Errorf("cluster printed %s, want at its end %s", got, want)
	}
	fake.change(func(status *rollcallclient.ClusterStatus) { status.Members[0].Version = "v1\x1b[2J" })
	if got := print(); strings.Contains(got, "\x1b") {
		t.Errorf("cluster printed %q, which a terminal would act on", got)
	}
	fake.change(func(status *rollcallclient.ClusterStatus) { status.Members = []rollcallclient.ClusterMember{} })
	if got, want := print(), "\nnode-a has not joined a cluster yet; its log says why.\n"; got != want {
		t.Errorf("cluster printed %q, want %q", got, want)
	}
}

func TestClusterWatchFollowsARestart(t *testing.T) {
	fake := newFakeCluster(t, threeNodes())
	cmd := start(t, "cluster", "--watch", "--interval", "100ms", "--url", fake.URL)
	tables := func() int { return strings.Count(cmd.stdout.String(), "ID  ") }
	eventually(t, func() bool { return tables() == 1 })
	fake.change(func(status *rollcallclient.ClusterStatus) { status.Members[1].HeardMs = new(650) }) // not worth another table
	fake.down.Store(true)
	eventually(t, func() bool { return strings.Contains(cmd.stderr.String(), "; trying on") })
	fake.change(func(status *rollcallclient.ClusterStatus) {
		status.Members[0].Incarnation++
		status.Members[0].Version = "v1.0.1"
	})
	fake.down.Store(false)
	eventually(t, func() bool { return strings.Count(cmd.stdout.String(), "v1.0.1") == 3 })
	if code := cmd.stop(t); code != exitFine {
		t.Errorf("exit code %d, %q; want 0", code, cmd.stderr)
	}
	if got := strings.Count(cmd.stderr.String(), "cannot reach"); got != 1 || tables() != 2 {
		t.Errorf("%d reports of the outage and %d tables, want 1 and 2; stdout %q, stderr %q", got, tables(), cmd.stdout, cmd.stderr)
	}
}

func TestClusterWatchPrintsALineOfJSONEachTime(t *testing.T) {
	fake := newFakeCluster(t, threeNodes())
	cmd := start(t, "cluster", "--watch", "--json", "--interval", "100ms", "--url", fake.URL)
	eventually(t, func() bool { return strings.Count(cmd.stdout.String(), "\n") >= 3 })
	for line := range strings.Lines(cmd.stdout.String()) {
		if got := decode[rollcallclient.ClusterStatus](t, line); got.Node != "node-a" {
			t.Errorf("line %q", line)
		}
	}
}

func TestClusterWatchRedrawsATerminal(t *testing.T) {
	con, stdout, _ := recorded()
	con.terminal = true
	c := &clusterListCmd{Watch: true}
	c.show(con, threeNodes(), "")
	if got := stdout.String(); !strings.HasPrefix(got, "\x1b[H\x1b[JID ") {
		t.Errorf("printed %q, want the screen cleared first", got)
	}
}

func TestClusterRemove(t *testing.T) {
	fake := newFakeCluster(t, threeNodes())
	con, stdout, stderr := recorded()
	if code := run(t.Context(), []string{"cluster", "remove", "node-b", "--url", fake.URL}, con); code != exitFine {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if got, want := stdout.String(), "node-b is no longer a member.\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	con, stdout, stderr = recorded()
	code := run(t.Context(), []string{"cluster", "remove", "node-c", "--url", fake.URL}, con)
	if code != exitFailure || stderr.String() != "rollcall: The cluster has no leader.\n" || stdout.Len() > 0 {
		t.Errorf("exit code %d, %q, want 1 and the node's sentence", code, stderr)
	}
}

func TestClusterOfANodeByItself(t *testing.T) {
	node, base := openNode(t, NodeConfig{Version: "v9"})
	track(t, client(t, base), "lobby", "Alice", sessionA, `{}`)
	con, stdout, stderr := recorded()
	if code := run(t.Context(), []string{"cluster", "--json", "--url", base}, con); code != exitFine {
		t.Fatalf("exit code %d, %q", code, stderr)
	}
	status := decode[rollcallclient.ClusterStatus](t, stdout.String())
	if len(status.Members) != 1 || !status.Complete || !status.Quorum || status.Node == "" {
		t.Fatalf("status %+v, want one member in good order", status)
	}
	m := status.Members[0]
	if m.Id != status.Node || m.Incarnation != 1 || m.Role != rollcallclient.Leader || m.State != rollcallclient.Up || m.Version != "v9" || m.Presences != 1 {
		t.Errorf("member %+v of %v", m, node.Addr())
	}
	con, _, stderr = recorded()
	code := run(t.Context(), []string{"cluster", "remove", m.Id, "--url", base}, con)
	if code != exitFailure || !strings.Contains(stderr.String(), "This node runs by itself") {
		t.Errorf("exit code %d, %q, want 1 and why", code, stderr)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0s", 40 * time.Millisecond: "0.0s", 9999 * time.Millisecond: "9.9s", 10 * time.Second: "10s", 59 * time.Second: "59s",
		time.Minute: "1m", time.Hour - 1: "59m", time.Hour: "1h", 47 * time.Hour: "47h", 48 * time.Hour: "2d", 1000 * time.Hour: "41d",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %s, want %s", d, got, want)
		}
	}
}
