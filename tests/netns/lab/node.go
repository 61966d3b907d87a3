//go:build linux

package lab

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/contract"
	"rollcall/tests/program"
)

// The ports of every node.
const (
	publicPort  = 7700
	clusterPort = 7701
)

// Node is one node of a [Cluster], whether it runs or not. It keeps its data directory.
type Node struct {
	*Host
	HTTP *http.Client // on the host; checks each answer against the contract

	cluster *Cluster
	dataDir string
	program *program.Program // of the last run
	paused  atomic.Bool
}

func newNode(c *Cluster, h *Host) *Node {
	return &Node{
		Host:    h,
		HTTP:    &http.Client{Transport: &contract.Transport{TB: c.tb, Base: h.transport(), Requests: true}},
		cluster: c,
		dataDir: filepath.Join(c.tb.TempDir(), "data"),
	}
}

// URL is where clients on the host find the node.
func (n *Node) URL() string { return fmt.Sprintf("http://%s:%d", n.Addr(), publicPort) }

// ClusterAddr is where other nodes find it.
func (n *Node) ClusterAddr() string { return fmt.Sprintf("%s:%d", n.Addr(), clusterPort) }

// Start starts the node, with its old data if it ran before, and waits until it is ready for clients. The first node of a cluster makes it, the others
// join it by all others. At the end of the test a node that runs is stopped, and must stop well.
func (n *Node) Start() {
	n.cluster.tb.Helper()
	if n.Running() {
		n.cluster.tb.Fatalf("node %s runs already", n.Name)
	}
	n.program = nil
	n.Do(func() { n.program = n.cluster.binary.Start(n.cluster.tb, n.arguments()...) })
	if n.program == nil {
		n.cluster.tb.Fatalf("node %s could not be started", n.Name)
	}
	n.cluster.tb.Cleanup(n.Resume) // a paused process would not stop
	n.program.AwaitStdout(`rollcall is ready on http://`)
}

func (n *Node) arguments() []string {
	c := n.cluster
	arguments := []string{
		"serve", "--addr=" + strings.TrimPrefix(n.URL(), "http://"), "--insecure-open", "--data-dir=" + n.dataDir, "--log-level=warn", "--drain=1s",
		"--default-ttl=30m", // so that a session ends only where a test is about that
	}
	if len(c.Nodes) > 1 {
		arguments = append(arguments, "--cluster-addr="+n.ClusterAddr(), "--cluster-secret-file="+c.secret,
			"--down-after="+c.config.DownAfter.String(), "--forget-after="+c.config.ForgetAfter.String())
		var others []string
		for _, other := range c.Nodes {
			if other != n {
				others = append(others, other.ClusterAddr())
			}
		}
		if n != c.Nodes[0] {
			arguments = append(arguments, "--join="+strings.Join(others, ","))
		}
	}
	return append(arguments, c.config.Flags...)
}

// Running tells whether the node runs and is not paused.
func (n *Node) Running() bool { return n.program != nil && n.program.Running() && !n.paused.Load() }

// Kill ends the node as a crash does, and waits until it is gone.
func (n *Node) Kill() {
	n.cluster.tb.Helper()
	n.program.Kill()
	n.paused.Store(false)
}

// Shutdown stops the node in good order.
func (n *Node) Shutdown() {
	n.cluster.tb.Helper()
	n.program.Signal(syscall.SIGTERM)
	if code := n.program.Wait(); code != 0 {
		n.cluster.tb.Errorf("node %s: exit code %d after SIGTERM, want 0; stderr:\n%s", n.Name, code, n.program.Stderr())
	}
}

// Pause stops the process where it is, with its connections open.
func (n *Node) Pause() {
	n.cluster.tb.Helper()
	n.paused.Store(true)
	n.program.Suspend()
}

// Resume lets a paused process go on.
func (n *Node) Resume() {
	if n.paused.CompareAndSwap(true, false) {
		n.program.Resume()
	}
}

// API returns a client of the node.
func (n *Node) API() *rollcallclient.ClientWithResponses {
	client, err := rollcallclient.NewClientWithResponses(n.URL(), rollcallclient.WithHTTPClient(n.HTTP))
	if err != nil {
		panic(err) // only for a bad URL
	}
	return client
}

// List returns who is in a topic.
func (n *Node) List(topic string) (rollcallclient.PresenceState, error) {
	ctx, cancel := callContext()
	defer cancel()
	response, err := n.API().ListPresencesWithResponse(ctx, topic, nil)
	if err != nil {
		return nil, fmt.Errorf("list at node %s: %w", n.Name, err)
	}
	if response.JSON200 == nil {
		return nil, fmt.Errorf("list at node %s: %s", n.Name, response.Status())
	}
	return *response.JSON200, nil
}

// Status returns what the node says about the cluster.
func (n *Node) Status() (rollcallclient.ClusterStatus, error) {
	ctx, cancel := callContext()
	defer cancel()
	response, err := n.API().ClusterWithResponse(ctx)
	if err != nil {
		return rollcallclient.ClusterStatus{}, fmt.Errorf("cluster at node %s: %w", n.Name, err)
	}
	if response.JSON200 == nil {
		return rollcallclient.ClusterStatus{}, fmt.Errorf("cluster at node %s: %s", n.Name, response.Status())
	}
	return *response.JSON200, nil
}

// Track tracks a presence. The server makes the session if it is ""; its lease is ttl seconds, --default-ttl if 0.
func (n *Node) Track(topic, key, session string, ttl int) (rollcallclient.Presence, error) {
	ctx, cancel := callContext()
	defer cancel()
	request := rollcallclient.TrackRequest{Key: key}
	if session != "" {
		request.Session = &session
	}
	if ttl > 0 {
		request.Ttl = &ttl
	}
	response, err := n.API().TrackWithResponse(ctx, topic, request)
	if err != nil {
		return rollcallclient.Presence{}, fmt.Errorf("track at node %s: %w", n.Name, err)
	}
	if response.JSON201 == nil {
		return rollcallclient.Presence{}, fmt.Errorf("track at node %s: %s %s", n.Name, response.Status(), response.Body)
	}
	return *response.JSON201, nil
}

// Put tracks a presence, or updates its meta if it is there: what a client does that does not know whether it is still tracked.
func (n *Node) Put(topic, key, session, meta string) (rollcallclient.Presence, error) {
	ctx, cancel := callContext()
	defer cancel()
	response, err := n.API().UpdateWithResponse(ctx, topic, key, rollcallclient.UpdateRequest{Session: session, Meta: rollcallclient.Meta(meta)})
	switch {
	case err != nil:
		return rollcallclient.Presence{}, fmt.Errorf("put at node %s: %w", n.Name, err)
	case response.JSON200 != nil:
		return *response.JSON200, nil
	case response.JSON201 != nil:
		return *response.JSON201, nil
	default:
		return rollcallclient.Presence{}, fmt.Errorf("put at node %s: %s %s", n.Name, response.Status(), response.Body)
	}
}

// Heartbeat renews a session. It returns the status, 200 or, for a session that the cluster does not know, 404.
func (n *Node) Heartbeat(session string) (int, error) {
	ctx, cancel := callContext()
	defer cancel()
	response, err := n.API().HeartbeatWithResponse(ctx, session)
	if err != nil {
		return 0, fmt.Errorf("heartbeat at node %s: %w", n.Name, err)
	}
	return response.StatusCode(), nil
}

// Leave ends a session.
func (n *Node) Leave(session string) error {
	ctx, cancel := callContext()
	defer cancel()
	response, err := n.API().LeaveWithResponse(ctx, session)
	if err != nil {
		return fmt.Errorf("leave at node %s: %w", n.Name, err)
	}
	if response.StatusCode() != http.StatusNoContent {
		return fmt.Errorf("leave at node %s: %s %s", n.Name, response.Status(), response.Body)
	}
	return nil
}
