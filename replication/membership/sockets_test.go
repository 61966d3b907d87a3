package membership_test

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rollcall/replication/membership"
	clusterport "rollcall/replication/port"
	"rollcall/store"
)

// realNode is a node on a disk, with the cluster port that it has in the program.
type realNode struct {
	dir   string
	store *store.Store
	log   *store.RaftLog
	port  *clusterport.Port
	m     *membership.Membership
}

func (n *realNode) start(t *testing.T, secret string, join ...string) {
	t.Helper()
	credentials, err := clusterport.LoadCredentials(secret, "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // another port each time
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan http.Handler, 1)
	n.port, err = clusterport.Open(clusterport.Config{Listener: listener, Credentials: credentials, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler := <-ready
		ready <- handler
		handler.ServeHTTP(w, r)
	})})
	if err != nil {
		t.Fatal(err)
	}
	n.store, err = store.Open(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	if n.log, err = n.store.OpenRaftLog(); err != nil {
		t.Fatal(err)
	}
	n.m, err = membership.Open(membership.Config{ID: n.store.NodeID(), ClusterAddr: listener.Addr().String(), Join: join, Storage: n.log,
		Streams: n.port.Raft(), Client: n.port.Client(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Interval: 100 * time.Millisecond, ElectionTimeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ready <- n.m.Handler()
}

func (n *realNode) stop(t *testing.T) {
	t.Helper()
	if err := errors.Join(n.m.Close(), n.port.Close(), n.log.Close(), n.store.Close()); err != nil {
		t.Error(err)
	}
}

func TestOverTheClusterPort(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a secret of thirty-two characters"), 0o600); err != nil {
		t.Fatal(err)
	}
	nodes := []*realNode{{dir: t.TempDir()}, {dir: t.TempDir()}, {dir: t.TempDir()}}
	agreed := func(nodes []*realNode) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !agree(nodes); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				for _, n := range nodes {
					t.Logf("%s: %v", n.store.NodeID(), n.m.Members())
				}
				t.Fatal("no agreement after 30 s")
			}
		}
	}
	nodes[0].start(t, secret)
	first := nodes[0].port.Addr().String()
	nodes[1].start(t, secret, first)
	nodes[2].start(t, secret, first)
	agreed(nodes)
	for _, n := range nodes {
		n.stop(t)
	}
	nodes[0].start(t, secret)
	first = nodes[0].port.Addr().String()
	nodes[1].start(t, secret, first)
	nodes[2].start(t, secret, first)
	agreed(nodes)
	if err := nodes[1].m.Remove(t.Context(), nodes[0].store.NodeID()); err != nil {
		t.Fatal(err)
	}
	agreed(nodes[1:])
	for _, n := range nodes {
		n.stop(t)
	}
}

// agree tells whether all have the same list: them, voters, one of them the leader, each where it is now.
func agree(nodes []*realNode) bool {
	members, leaders := nodes[0].m.Members(), 0
	for _, m := range members {
		if m.Role == membership.Leader {
			leaders++
		}
		here := slices.ContainsFunc(nodes, func(n *realNode) bool { return n.store.NodeID() == m.ID && n.port.Addr().String() == m.ClusterAddr })
		if !here || m.Role == membership.NonVoter {
			return false
		}
	}
	return len(members) == len(nodes) && leaders == 1 &&
		!slices.ContainsFunc(nodes, func(n *realNode) bool { return !slices.Equal(n.m.Members(), members) })
}
