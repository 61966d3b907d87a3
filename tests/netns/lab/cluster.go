//go:build linux

package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

// Config configures a [Cluster]. Its zero value is three nodes.
type Config struct {
	Nodes       int           // default 3. One is a node without a cluster
	DownAfter   time.Duration // default 2 s
	ForgetAfter time.Duration // default 20 min
	Flags       []string      // more, of every node; the last of two equal ones holds
}

// maxVoters is how many nodes of a cluster vote; the others need not.
const maxVoters = 5

// Cluster is a node on each host of a network.
type Cluster struct {
	*Network
	Nodes []*Node

	tb       testing.TB
	binary   *program.Binary
	config   Config
	secret   string // file
	watchers []*Watcher
}

// NewCluster makes the hosts and starts no node yet.
func NewCluster(tb testing.TB, binary *program.Binary, config Config) *Cluster {
	tb.Helper()
	config.Nodes = cmp.Or(config.Nodes, 3)
	config.DownAfter = cmp.Or(config.DownAfter, 2*time.Second)
	config.ForgetAfter = cmp.Or(config.ForgetAfter, 20*time.Minute)
	c := &Cluster{Network: NewNetwork(tb, config.Nodes), tb: tb, binary: binary, config: config, secret: filepath.Join(tb.TempDir(), "secret")}
	if err := os.WriteFile(c.secret, []byte("a secret that these nodes share\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	for _, h := range c.Hosts {
		c.Nodes = append(c.Nodes, newNode(c, h))
	}
	return c
}

// Start starts nodes, all if none is named, one after the other, and waits until they and those that run already see each other.
func (c *Cluster) Start(nodes ...*Node) {
	c.tb.Helper()
	if len(nodes) == 0 {
		nodes = c.Nodes
	}
	for _, n := range nodes {
		n.Start()
	}
	c.AwaitUp(program.Patience)
}

// AwaitUp waits until each running node sees all running nodes up, as voters, and nobody else.
func (c *Cluster) AwaitUp(within time.Duration) {
	c.tb.Helper()
	if len(c.Nodes) == 1 {
		return
	}
	running := c.running()
	c.within(within, func() error {
		for _, n := range running {
			status, err := n.Status()
			if err != nil {
				return err
			}
			up := 0
			for _, m := range status.Members {
				if m.State == rollcallclient.Up && (m.Role != rollcallclient.NonVoter || len(c.Nodes) > maxVoters) {
					up++
				}
			}
			if up != len(running) {
				return fmt.Errorf("node %s sees %d voters up, want %d: %+v", n.Name, up, len(running), status.Members)
			}
		}
		return nil
	})
}

// Watch opens a topic's stream on every node, which need not run yet.
func (c *Cluster) Watch(topic string) []*Watcher {
	c.tb.Helper()
	var watchers []*Watcher
	for _, n := range c.Nodes {
		watchers = append(watchers, n.Watch(topic))
	}
	return watchers
}

// AgreeWithin waits until the lists of all running nodes are equal, are what their watchers of the topic have, and have exactly these keys, a key
// with several devices as often as it has devices. It returns how long that took.
func (c *Cluster) AgreeWithin(within time.Duration, topic string, keys ...string) time.Duration {
	c.tb.Helper()
	began := time.Now()
	c.within(within, func() error { return c.agree(topic, keys) })
	return time.Since(began)
}

func (c *Cluster) agree(topic string, keys []string) error {
	want := slices.Sorted(slices.Values(keys))
	running := c.running()
	var first view
	for i, n := range running {
		list, err := n.List(topic)
		if err != nil {
			return err
		}
		listed, err := viewOf(list)
		if err != nil {
			return fmt.Errorf("the list of node %s: %w", n.Name, err)
		}
		if got := listed.keys(); !slices.Equal(got, want) {
			return fmt.Errorf("node %s lists %d metas, want %d; it lacks %s and has %s too many", n.Name, len(got), len(want), brief(minus(want, got)), brief(minus(got, want)))
		}
		if i == 0 {
			first = listed
		}
		if !maps.Equal(listed, first) {
			return fmt.Errorf("nodes %s and %s differ: %s", running[0].Name, n.Name, first.difference(listed))
		}
	}
	for _, w := range c.watchers {
		if w.topic != topic || !slices.Contains(running, w.node) {
			continue
		}
		watched, err := viewOf(w.State())
		if err != nil {
			return fmt.Errorf("the watcher at node %s: %w", w.node.Name, err)
		}
		if !maps.Equal(watched, first) {
			return fmt.Errorf("the lists and the watcher at node %s differ: %s", w.node.Name, first.difference(watched))
		}
	}
	return nil
}

// running are the nodes that run and are not paused.
func (c *Cluster) running() []*Node {
	var running []*Node
	for _, n := range c.Nodes {
		if n.Running() {
			running = append(running, n)
		}
	}
	return running
}

// within waits until ok returns nil; else the test fails with what it returned last.
func (c *Cluster) within(d time.Duration, ok func() error) {
	c.tb.Helper()
	err := ok()
	for deadline := time.Now().Add(d); err != nil; err = ok() {
		if time.Now().After(deadline) {
			c.tb.Fatalf("not within %v: %v", d, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// view is a state as a set: by ref, the key and the meta.
type view map[string]entry

type entry struct{ key, meta string }

func viewOf(state rollcallclient.PresenceState) (view, error) {
	v := view{}
	for key, metas := range state {
		if len(metas.Metas) == 0 {
			return nil, fmt.Errorf("key %q has no metas", key)
		}
		for _, meta := range metas.Metas {
			encoded, err := json.Marshal(meta)
			if err != nil {
				return nil, err
			}
			if _, twice := v[meta.PhxRef]; twice {
				return nil, fmt.Errorf("ref %s is there twice", meta.PhxRef)
			}
			v[meta.PhxRef] = entry{key, string(encoded)}
		}
	}
	return v, nil
}

// keys are sorted, each as often as it has metas.
func (v view) keys() []string {
	var keys []string
	for _, e := range v {
		keys = append(keys, e.key)
	}
	slices.Sort(keys)
	return keys
}

// minus returns what is in list more often than in others.
func minus(list, others []string) []string {
	counts := map[string]int{}
	for _, other := range others {
		counts[other]++
	}
	var more []string
	for _, s := range list {
		if counts[s]--; counts[s] < 0 {
			more = append(more, s)
		}
	}
	return more
}

// difference says what is in one of the views.
func (v view) difference(other view) string {
	only := func(a, b view) string {
		var lines []string
		for ref, e := range a {
			if b[ref] != e {
				lines = append(lines, e.key+" "+e.meta)
			}
		}
		slices.Sort(lines)
		return brief(lines)
	}
	return fmt.Sprintf("only the first has %s, only the second %s", only(v, other), only(other, v))
}

// brief shows the beginning of a long list.
func brief(list []string) string {
	const most = 12
	if len(list) <= most {
		return "[" + strings.Join(list, ", ") + "]"
	}
	return fmt.Sprintf("[%s and %d more]", strings.Join(list[:most], ", "), len(list)-most)
}

// callTimeout bounds each call of a helper: a node that is paused answers nothing.
const callTimeout = 5 * time.Second

func callContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), callTimeout)
}
