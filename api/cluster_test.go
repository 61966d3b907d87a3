package api_test

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"rollcall/api"
)

// fakeCluster is a cluster that a test makes up.
type fakeCluster struct {
	status  api.ClusterStatus
	looks   atomic.Int64                // calls of Complete
	hidden  func(look int64) bool       // whether the view is incomplete at that call; nil is never
	removed func(id string) (err error) // nil is always a success
}

func (f *fakeCluster) Status() api.ClusterStatus { return f.status }

func (f *fakeCluster) Complete() bool {
	look := f.looks.Add(1)
	return f.hidden == nil || !f.hidden(look)
}

func (f *fakeCluster) Remove(_ context.Context, id string) error {
	if f.removed == nil {
		return nil
	}
	return f.removed(id)
}

func within(cluster api.Cluster) func(*api.Config) {
	return func(c *api.Config) { c.Cluster = cluster }
}

func TestNodeThatRunsByItselfIsItsOnlyMember(t *testing.T) {
	n := start(t)
	n.track("lobby", "Alice", session1)
	n.track("attic", "Alice", session1)
	got := decode[api.ClusterStatus](n.get("/v1/cluster").want(http.StatusOK))
	want := api.ClusterStatus{Node: "n1", Complete: true, Quorum: true, Members: []api.ClusterMember{{
		Id: "n1", Incarnation: 1, Role: api.Leader, State: api.Up, Version: "1.2.3", HeardMs: new(0), Sessions: 1, Presences: 2,
	}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("status = %+v, want %+v", got, want)
	}
	n.do("DELETE", "/v1/cluster/nodes/n1", "").wantProblem(http.StatusConflict, api.ProblemCodeNoCluster, "")
}

func TestClusterListsItsMembersInOrder(t *testing.T) {
	status := api.ClusterStatus{Node: "b", Quorum: true, Members: []api.ClusterMember{
		{Id: "c", Role: api.NonVoter, State: api.Permdown},
		{Id: "b", Incarnation: 3, Role: api.Leader, State: api.Leaving, ClusterAddr: "10.0.0.2:7701", PublicAddr: "10.0.0.2:7700",
			Version: "v1.0.0", HeardMs: new(0), Sessions: 5, Presences: 8},
		{Id: "a", Incarnation: 1, Role: api.Voter, State: api.Down, HeardMs: new(12000), Lag: 4},
	}}
	n := start(t, within(&fakeCluster{status: status}))
	got := decode[api.ClusterStatus](n.get("/v1/cluster").want(http.StatusOK))
	if status.Members[0].Id != "c" {
		t.Error("the handler has sorted the members of another")
	}
	status.Members[0], status.Members[2] = status.Members[2], status.Members[0]
	if !reflect.DeepEqual(got, status) {
		t.Errorf("status = %+v, want %+v", got, status)
	}
}

func TestNodesAreRemoved(t *testing.T) {
	var asked []string
	n := start(t, within(&fakeCluster{removed: func(id string) error {
		asked = append(asked, id)
		err := map[string]error{
			"stranger": api.ErrUnknownNode, "minority": api.ErrNoQuorum, "alone": api.ErrNoCluster, "silent": api.ErrUnavailable,
			"slow": context.DeadlineExceeded,
		}[id]
		if err != nil {
			return fmt.Errorf("remove: %w", err)
		}
		return nil
	}}))
	n.do("DELETE", "/v1/cluster/nodes/b6nd3xhvq4ry2ous", "").want(http.StatusNoContent)
	n.do("DELETE", "/v1/cluster/nodes/a%2Fb%20%C3%A9", "").want(http.StatusNoContent)
	if want := []string{"b6nd3xhvq4ry2ous", "a/b é"}; !reflect.DeepEqual(asked, want) {
		t.Errorf("asked to remove %q, want %q", asked, want)
	}
	for id, want := range map[string]struct {
		status int
		code   api.ProblemCode
	}{
		"stranger": {http.StatusNotFound, api.ProblemCodeUnknownNode},
		"minority": {http.StatusServiceUnavailable, api.ProblemCodeNoQuorum},
		"alone":    {http.StatusConflict, api.ProblemCodeNoCluster},
		"silent":   {http.StatusServiceUnavailable, api.ProblemCodeUnavailable},
		"slow":     {http.StatusServiceUnavailable, api.ProblemCodeUnavailable},
	} {
		a := n.do("DELETE", "/v1/cluster/nodes/"+id, "")
		a.wantProblem(want.status, want.code, "")
		if retry := a.Header.Get("Retry-After"); (retry != "") != (want.status == http.StatusServiceUnavailable) {
			t.Errorf("%s: Retry-After %q", id, retry)
		}
	}
	n.do("DELETE", "/v1/cluster/nodes/", "").wantProblem(http.StatusNotFound, api.ProblemCodeNotFound, "")
	n.do("GET", "/v1/cluster/nodes/x", "").wantProblem(http.StatusMethodNotAllowed, api.ProblemCodeMethodNotAllowed, "")
}

func TestMetricsCountTheMembers(t *testing.T) {
	n := start(t, within(&fakeCluster{status: api.ClusterStatus{Quorum: true, Members: []api.ClusterMember{
		{Id: "a", State: api.Up}, {Id: "b", State: api.Up}, {Id: "c", State: api.Down},
	}}}))
	families := n.metrics()
	got := map[string]float64{}
	for _, m := range families["rollcall_cluster_members"].GetMetric() {
		got[m.Label[0].GetValue()] = m.Gauge.GetValue()
	}
	if want := map[string]float64{"up": 2, "down": 1, "permdown": 0, "leaving": 0}; !reflect.DeepEqual(got, want) {
		t.Errorf("members by state = %v, want %v", got, want)
	}
	for name, want := range map[string]float64{"rollcall_cluster_quorum": 1, "rollcall_cluster_view_complete": 0} {
		if m := families[name].GetMetric(); len(m) != 1 || m[0].Gauge.GetValue() != want {
			t.Errorf("%s = %v, want %v", name, m, want)
		}
	}
}

// reads are the calls whose answers a node that is down makes incomplete.
var reads = []struct {
	method, path, body string
	status             int
}{
	{"GET", "/v1/topics", "", 200},
	{"GET", "/v1/topics/lobby/count", "", 200},
	{"GET", "/v1/topics/lobby/presences", "", 200},
	{"GET", "/v1/topics/lobby/presences?limit=1", "", 200},
	{"GET", "/v1/topics/lobby/presences/Alice", "", 200},
	{"GET", "/v1/topics/lobby/presences/Nobody", "", 404}, // who may be on the node that is down
	{"GET", "/v1/keys/Alice", "", 200},
	{"POST", "/v1/keys/query", `{"keys":["Alice"]}`, 200},
	{"HEAD", "/v1/topics/lobby/presences", "", 200},
}

func TestReadsSayWhenTheViewMayBeIncomplete(t *testing.T) {
	for name, test := range map[string]struct {
		hidden func(look int64) bool
		want   string
	}{
		"complete":               {func(int64) bool { return false }, ""},
		"incomplete":             {func(int64) bool { return true }, "incomplete"},
		"until it was read":      {func(look int64) bool { return look%2 == 1 }, "incomplete"},
		"since it is being read": {func(look int64) bool { return look%2 == 0 }, "incomplete"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := &fakeCluster{hidden: test.hidden}
			n := start(t, within(cluster))
			n.track("lobby", "Alice", session1)
			for _, call := range reads {
				a := n.do(call.method, call.path, call.body).want(call.status)
				if got := a.Header.Get("Rollcall-View"); got != test.want {
					t.Errorf("%s %s: Rollcall-View %q, want %q", call.method, call.path, got, test.want)
				}
			}
			if looks := cluster.looks.Load(); looks != int64(2*len(reads)) {
				t.Errorf("looked %d times for %d reads, want before and after each", looks, len(reads))
			}
		})
	}
}

func TestStreamsSayWhetherTheirViewIsIncomplete(t *testing.T) {
	for _, incomplete := range []bool{true, false} {
		n := start(t, within(&fakeCluster{hidden: func(int64) bool { return incomplete }}), allowApp)
		for _, path := range []string{"/v1/topics/lobby/events", "/v1/events?topic=lobby&topic=attic"} {
			events := n.stream(path, "Origin", appOrigin)
			if got := events.Header.Get("Rollcall-View") == "incomplete"; got != incomplete {
				t.Errorf("%s: incomplete %v, want %v", path, got, incomplete)
			}
			if exposed := events.Header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, "Rollcall-View") {
				t.Errorf("%s: exposed headers %q", path, exposed)
			}
		}
	}
}

func TestOtherAnswersSayNothingAboutTheView(t *testing.T) {
	status := api.ClusterStatus{Members: []api.ClusterMember{{Id: "a", Role: api.Voter, State: api.Up}}}
	n := start(t, within(&fakeCluster{status: status, hidden: func(int64) bool { return true }}))
	for _, call := range []struct{ method, path, body string }{
		{"POST", "/v1/topics/lobby/presences", `{"key":"Alice"}`}, {"GET", "/v1/cluster", ""}, {"GET", "/healthz", ""},
	} {
		if got := n.do(call.method, call.path, call.body).Header.Get("Rollcall-View"); got != "" {
			t.Errorf("%s %s: Rollcall-View %q", call.method, call.path, got)
		}
	}
}

// A cache updates the headers that it keeps with those of a 304, and never drops one; so the mark must not outlive the view.
func TestTagsTellAnIncompleteViewFromTheWholeOne(t *testing.T) {
	var down atomic.Bool
	n := start(t, within(&fakeCluster{hidden: func(int64) bool { return down.Load() }}))
	n.track("lobby", "Alice", session1)
	const path = "/v1/topics/lobby/presences"
	whole := n.get(path).want(http.StatusOK).Header.Get("ETag")
	down.Store(true)
	part := n.get(path, "If-None-Match", whole).want(http.StatusOK).Header.Get("ETag")
	kept := n.get(path, "If-None-Match", part).want(http.StatusNotModified)
	if got := kept.Header.Get("Rollcall-View"); got != "incomplete" {
		t.Errorf("304: Rollcall-View %q", got)
	}
	down.Store(false)
	again := n.get(path, "If-None-Match", part).want(http.StatusOK)
	if got := again.Header.Get("ETag"); got != whole {
		t.Errorf("ETag %s, want %s as before", got, whole)
	}
	n.get(path, "If-None-Match", whole).want(http.StatusNotModified)
}
