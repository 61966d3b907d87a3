package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"rollcall/api"
	"rollcall/replication"
	"rollcall/replication/membership"
	"rollcall/replication/port"
	"rollcall/replication/protocol"
	"rollcall/store"
)

// clusterNode is a node's part in a cluster: its port, the list of members, and the replication of presence between them.
type clusterNode struct {
	port       *port.Port
	membership *membership.Membership
	replicator *replication.Replicator
	mux        gate
	self       membership.Member // alone, as it is once it was removed

	mu      sync.Mutex
	open    bool // all of it; the list of members is followed from then on
	removed bool // from the cluster
}

// gate is a handler that is set after the server has begun to serve: until then requests wait.
type gate struct {
	handler http.Handler
	opened  chan struct{} // closed when handler is set
}

func (g *gate) open(handler http.Handler) {
	g.handler = handler
	close(g.opened)
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-g.opened:
		g.handler.ServeHTTP(w, r)
	case <-r.Context().Done():
	}
}

// openPort opens the cluster port, on which everything waits until join.
func openPort(c *NodeConfig) (*clusterNode, error) {
	credentials, err := port.LoadCredentials(c.ClusterSecretFile, c.ClusterCert, c.ClusterKey, c.ClusterCA)
	if err != nil {
		return nil, usageError{err}
	}
	if credentials.Plain() {
		c.Logger.Warn("the cluster port has no secret: whoever reaches it is a member", "addr", c.ClusterAddr)
	}
	n := &clusterNode{mux: gate{opened: make(chan struct{})}}
	n.port, err = port.Open(port.Config{
		Addr: c.ClusterAddr, Listener: c.ClusterListener, Dial: c.ClusterDial,
		Credentials: credentials, Handler: &n.mux, Logger: c.Logger,
	})
	if err != nil {
		return nil, &listenError{flag: "--cluster-addr", addr: c.ClusterAddr, cause: err}
	}
	return n, nil
}

// takePart keeps the list of members. changed hears of it whenever it changes.
func (n *clusterNode) takePart(c *NodeConfig, id, publicAddr string, log *store.RaftLog) error {
	n.self = membership.Member{
		ID: id, ClusterAddr: advertised(c.ClusterAdvertise, n.port.Addr(), ""), PublicAddr: publicAddr, Version: c.Version, Role: membership.Leader,
	}
	var err error
	n.membership, err = membership.Open(membership.Config{
		ID: id, ClusterAddr: n.self.ClusterAddr, PublicAddr: publicAddr, Version: c.Version, Join: c.Join,
		Storage: log, Streams: n.port.Raft(), Client: n.port.Client(), Logger: c.Logger,
		OnChange: func([]membership.Member) { n.follow() }, OnRemoved: n.leaveRemoved,
	})
	if err != nil {
		return fmt.Errorf("data directory %s: %w", c.DataDir, err)
	}
	return nil
}

// serve begins to follow the list of members, and lets other nodes in.
func (n *clusterNode) serve() {
	n.mu.Lock()
	n.open = true
	n.mu.Unlock()
	n.follow()
	members, exchange := n.membership.Handler(), n.replicator.Handler()
	n.mux.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/cluster/v1/members") {
			members.ServeHTTP(w, r)
			return
		}
		exchange.ServeHTTP(w, r)
	}))
}

// follow takes the list of members into the replication.
func (n *clusterNode) follow() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.open || n.removed {
		return
	}
	addrs := map[string]string{}
	for _, m := range n.membership.Members() {
		addrs[m.ID] = m.ClusterAddr
	}
	if len(addrs) > 0 { // else it has not joined yet
		n.replicator.SetMembers(addrs)
	}
}

// leaveRemoved lets the node go on by itself, since its clients are still there.
func (n *clusterNode) leaveRemoved() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.removed = true
	if n.open {
		n.replicator.SetMembers(nil)
	}
}

func (n *clusterNode) wasRemoved() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.removed
}

// syncTimeout is how long a node that starts waits for what the others know before it takes requests all the same. It says then that its view is incomplete.
const syncTimeout = 3 * time.Second

// awaitSync waits until the node knows what the others know, if it is a member and they answer.
func (n *clusterNode) awaitSync() {
	select {
	case <-n.replicator.Synced():
	case <-time.After(syncTimeout):
	}
}

// ready says why the node is not ready for traffic, if it is not.
func (n *clusterNode) ready() error {
	if n.wasRemoved() {
		return errors.New("the node was removed from its cluster; start it again with --join, or stop it")
	}
	if len(n.membership.Members()) == 0 {
		return errors.New("the node has not joined the cluster yet")
	}
	select {
	case <-n.replicator.Synced():
		return nil
	default:
		return errors.New("the node has not caught up with the cluster yet")
	}
}

const (
	handOverTimeout = 5 * time.Second
	farewellTimeout = 2 * time.Second
)

// handOver gives the sessions that live here to other nodes.
func (n *clusterNode) handOver(ctx context.Context, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	handed, err := n.replicator.HandOver(ctx)
	if err != nil {
		logger.Warn("not all sessions were handed over; the journal keeps the others for the next start", "handed", handed, "err", err)
		return
	}
	logger.Info("sessions handed over", "handed", handed)
}

// farewell tells the other nodes that this one stops.
func (n *clusterNode) farewell() {
	ctx, cancel := context.WithTimeout(context.Background(), farewellTimeout)
	defer cancel()
	n.replicator.Farewell(ctx)
}

// Status is part of api.Cluster.
func (n *clusterNode) Status() api.ClusterStatus {
	known := map[string]protocol.MemberState{}
	for _, m := range n.replicator.Members() {
		known[m.Replica.Name] = m
	}
	status := api.ClusterStatus{Node: n.self.ID, Complete: n.Complete(), Quorum: n.membership.Leader() != ""}
	members := n.membership.Members()
	if n.wasRemoved() {
		status.Quorum, members = true, []membership.Member{n.self}
	}
	for _, m := range members {
		state := known[m.ID]
		member := api.ClusterMember{
			Id: m.ID, ClusterAddr: m.ClusterAddr, PublicAddr: m.PublicAddr, Version: m.Version,
			Role: roles[m.Role], State: stateOf(state), Incarnation: int(state.Replica.Incarnation),
			Sessions: int(state.Sessions), Presences: int(state.Presences), Lag: int(n.replicator.Lag(state)),
		}
		if state.Self || state.Replica.Incarnation > 0 {
			member.HeardMs = new(int(state.Silent.Milliseconds()))
		}
		if state.Self {
			member.HeardMs = new(0)
		}
		if state.Version != "" {
			member.Version = state.Version
		}
		status.Members = append(status.Members, member)
	}
	return status
}

var roles = map[membership.Role]api.ClusterMemberRole{
	membership.Leader: api.Leader, membership.Voter: api.Voter, membership.NonVoter: api.NonVoter,
}

func stateOf(m protocol.MemberState) api.ClusterMemberState {
	switch {
	case m.Leaving:
		return api.Leaving
	case m.State == protocol.Up:
		return api.Up
	case m.State == protocol.PermDown:
		return api.Permdown
	default: // also one that was never heard
		return api.Down
	}
}

// Complete is part of api.Cluster.
func (n *clusterNode) Complete() bool { return n.replicator.Complete() }

// Remove is part of api.Cluster.
func (n *clusterNode) Remove(ctx context.Context, id string) error {
	if n.wasRemoved() {
		return api.ErrNoCluster
	}
	err := n.membership.Remove(ctx, id)
	switch {
	case errors.Is(err, membership.ErrUnknownMember):
		return api.ErrUnknownNode
	case errors.Is(err, membership.ErrNoQuorum):
		return api.ErrNoQuorum
	case errors.Is(err, membership.ErrLastMember):
		return api.ErrNoCluster
	case err != nil:
		return fmt.Errorf("%w: %w", api.ErrUnavailable, err)
	}
	return nil
}
