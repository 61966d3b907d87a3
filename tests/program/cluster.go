package program

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
)

// Cluster is nodes that share presence, on loopback. Each keeps its data and its addresses from one run to the next.
type Cluster struct {
	Nodes []*Node // in the order in which they joined, those that do not run as well

	tb     testing.TB
	binary *Binary
	secret string // file
	flags  []string
	client *http.Client
}

// ServeCluster runs so many nodes, each with the given flags, and waits until they agree. The first one begins the cluster, the others join through it.
func (b *Binary) ServeCluster(tb testing.TB, nodes int, flags ...string) *Cluster {
	tb.Helper()
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	c := &Cluster{
		tb: tb, binary: b, flags: flags, secret: filepath.Join(tb.TempDir(), "secret"),
		client: &http.Client{Transport: transport, Timeout: 5 * time.Second}, // a node may be suspended
	}
	if err := os.WriteFile(c.secret, []byte("a secret that these nodes share\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	for range nodes {
		c.Add()
	}
	c.AwaitAgreement()
	return c
}

// Add runs one node more, with more flags, and waits until it is ready. Unless a flag says otherwise it joins through the first one.
func (c *Cluster) Add(flags ...string) *Node {
	c.tb.Helper()
	n := &Node{DataDir: filepath.Join(c.tb.TempDir(), "data"), addr: freeAddr(c.tb), ClusterAddr: freeAddr(c.tb)}
	n.flags = slices.Concat([]string{"--cluster-secret-file=" + c.secret}, c.flags, flags) // of a flag that is given twice the last counts
	joins := func(flag string) bool { return strings.HasPrefix(flag, "--join=") }
	if len(c.Nodes) > 0 && !slices.ContainsFunc(n.flags, joins) {
		n.flags = append(n.flags, "--join="+c.Nodes[0].ClusterAddr)
	}
	c.Nodes = append(c.Nodes, n)
	c.Start(n)
	return n
}

// Start runs nodes again that have ended, all at once, and waits until they are ready.
func (c *Cluster) Start(nodes ...*Node) {
	c.tb.Helper()
	for _, n := range nodes {
		n.Program = c.binary.start(c.tb, nil, append([]string{
			"serve", "--addr=" + n.addr, "--cluster-addr=" + n.ClusterAddr, "--data-dir=" + n.DataDir}, n.flags...))
		c.tb.Cleanup(n.Resume) // or it could not stop
	}
	for _, n := range nodes {
		n.awaitReady()
	}
}

// Move gives a node that has ended other addresses for its next run.
func (c *Cluster) Move(n *Node) { n.addr, n.ClusterAddr = freeAddr(c.tb), freeAddr(c.tb) }

// Join has a node that has ended join through another one when it is started.
func (c *Cluster) Join(n, through *Node) { n.flags = append(n.flags, "--join="+through.ClusterAddr) }

// Status returns what a node says of the cluster.
func (c *Cluster) Status(n *Node) (rollcallclient.ClusterStatus, error) {
	client, err := rollcallclient.NewClientWithResponses(n.URL, rollcallclient.WithHTTPClient(c.client))
	if err != nil {
		return rollcallclient.ClusterStatus{}, err
	}
	response, err := client.ClusterWithResponse(context.Background())
	switch {
	case err != nil:
		return rollcallclient.ClusterStatus{}, err
	case response.JSON200 == nil:
		return rollcallclient.ClusterStatus{}, errors.New(response.Status())
	}
	return *response.JSON200, nil
}

// AwaitAgreement waits until the nodes, all if none is named, are what each of them takes for the cluster: all up, with one leader, and with as many voters as
// there can be.
func (c *Cluster) AwaitAgreement(nodes ...*Node) {
	c.tb.Helper()
	if len(nodes) == 0 {
		nodes = c.Nodes
	}
	var err error
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = c.agree(nodes); err == nil {
			return
		}
	}
	c.tb.Fatalf("the nodes do not agree within %v: %v", Patience, err)
}

func (c *Cluster) agree(nodes []*Node) error {
	const maxVoters = 5
	var roles, addrs map[string]string
	for _, n := range nodes {
		status, err := c.Status(n)
		if err != nil {
			return fmt.Errorf("%s: %w", n.URL, err)
		}
		seenRoles, seenAddrs, voters := map[string]string{}, map[string]string{}, 0
		for _, m := range status.Members {
			seenRoles[m.Id], seenAddrs[m.ClusterAddr] = string(m.Role), m.PublicAddr
			if m.Role != rollcallclient.NonVoter {
				voters++
			}
			if m.State != rollcallclient.Up || m.Lag != 0 {
				return fmt.Errorf("%s: %s is %s with lag %d", n.URL, m.PublicAddr, m.State, m.Lag)
			}
		}
		if roles == nil {
			roles, addrs = seenRoles, map[string]string{}
			for _, each := range nodes {
				addrs[each.ClusterAddr] = each.Addr()
			}
		}
		if !status.Quorum || !status.Complete || voters != min(len(nodes), maxVoters) || fmt.Sprint(seenRoles) != fmt.Sprint(roles) ||
			fmt.Sprint(seenAddrs) != fmt.Sprint(addrs) {
			return fmt.Errorf("%s: quorum %v, complete %v, roles %v, addresses %v; want roles %v, addresses %v",
				n.URL, status.Quorum, status.Complete, seenRoles, seenAddrs, roles, addrs)
		}
	}
	return nil
}

// freeAddr returns an address on loopback that is free. Its port is below those that the kernel gives to outgoing connections: one of them could otherwise take
// it while its node is down.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	const first, last = 15_000, 32_000
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first)))
		listener, err := net.Listen("tcp", addr)
		if err == nil {
			listener.Close()
			return addr
		}
	}
	tb.Fatal("there is no free port")
	return ""
}
