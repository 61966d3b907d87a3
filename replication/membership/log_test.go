package membership_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"rollcall/replication/membership"
	"rollcall/store"
)

func TestCommandsOfALaterVersionAreSkipped(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(3)
		leader, _ := c.leader(nodes...)
		later, err := cbor.Marshal(map[int]any{1: 99, 2: map[int]any{1: "n1"}, 50: "what it means"})
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range [][]byte{later, later, []byte("no CBOR"), {}, nil} {
			if err := leader.m.Propose(data); err != nil {
				t.Fatalf("Propose(%q) = %v", data, err)
			}
		}
		c.awaitAgreement(nodes...)
		time.Sleep(time.Second)
		for _, n := range nodes {
			if got := strings.Count(n.log.String(), "command of a later version"); got != 1 {
				t.Errorf("%s told %d times of a command that it does not know", n.id, got)
			}
		}
		c.awaitAgreement(append(nodes, c.start("n4", addrOf(4), addrOf(1)))...)
	})
}

func TestTheLogStaysShort(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(3)
		leader, others := c.leader(nodes...)
		c.kill(others[0])
		for range 500 {
			if err := leader.m.Propose([]byte("something")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Minute)
		for _, n := range []*node{leader, others[1]} {
			first, err := n.storage.FirstIndex()
			last, lastErr := n.storage.LastIndex()
			if err := errors.Join(err, lastErr); err != nil || last < 500 || last-first > 200 {
				t.Errorf("the log of %s goes from %d to %d, %v, want at most 200 entries", n.id, first, last, err)
			}
		}
		c.start(others[0].id, others[0].port.addr) // and gets a snapshot
		c.awaitAgreement(nodes...)
		added := c.start("n4", addrOf(4), others[0].port.addr)
		c.awaitAgreement(append(nodes, added)...)
		for _, n := range append(nodes, added) {
			c.kill(n)
		}
		for _, n := range append(nodes, added) {
			c.start(n.id, n.port.addr)
		}
		c.awaitAgreement(append(nodes, added)...)
	})
}

// onDisk gives the node a raft.db in dir.
func (c *cluster) onDisk(n *node, dir string) (close func()) {
	c.t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		c.t.Fatal(err)
	}
	log, err := s.OpenRaftLog()
	if err != nil {
		c.t.Fatal(err)
	}
	n.storage = log
	return func() {
		if err := errors.Join(log.Close(), s.Close()); err != nil {
			c.t.Error(err)
		}
	}
}

func TestMembersOnDisk(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		dirs := map[string]string{"n1": t.TempDir(), "n2": t.TempDir(), "n3": t.TempDir()}
		for round := range 4 {
			var closes []func()
			for id, dir := range dirs {
				closes = append(closes, c.onDisk(c.node(id), dir))
			}
			if round == 0 {
				c.startAll(3)
			} else {
				for i, id := range []string{"n1", "n2", "n3"} {
					c.start(id, addrOf(10*round+i), addrOf(10*round))
				}
			}
			c.awaitAgreement(c.node("n1"), c.node("n2"), c.node("n3"))
			for _, n := range c.nodes {
				c.kill(n)
			}
			for _, close := range closes {
				close()
			}
		}
	})
}

func TestOpenOfADamagedFile(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		dir := t.TempDir()
		path := filepath.Join(dir, "raft.db")
		n := c.node("n1")
		closeDisk := c.onDisk(n, dir)
		c.startAll(2)
		members := n.m.Members()
		c.kill(n)
		closeDisk()
		valid, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		random, refused := rand.New(rand.NewPCG(7, 8)), 0
		for round := range 300 {
			file := bytes.Clone(valid)
			for range 1 + round%3*10 {
				file[random.IntN(len(file))] ^= 1 << random.IntN(8)
			}
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			if !c.opens(n, dir, members) {
				refused++
			}
		}
		if refused < 30 || refused > 290 {
			t.Errorf("%d of 300 damaged files were refused", refused)
		}
	})
}

// opens starts n on dir, and tells whether that went. Then it must know the members.
func (c *cluster) opens(n *node, dir string, members []membership.Member) bool {
	c.t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		c.t.Fatal(err)
	}
	defer s.Close()
	log, err := s.OpenRaftLog()
	if err != nil {
		if !errors.Is(err, store.ErrCorrupt) {
			c.t.Fatalf("OpenRaftLog = %v, want ErrCorrupt", err)
		}
		return false
	}
	defer log.Close()
	n.storage = log
	if err := c.open(n, addrOf(1)); err != nil {
		if !errors.Is(err, membership.ErrCorrupt) {
			c.t.Fatalf("Open = %v, want ErrCorrupt", err)
		}
		return false
	}
	defer c.kill(n)
	for _, m := range n.m.Members() {
		if !slices.ContainsFunc(members, func(want membership.Member) bool { return want.ID == m.ID && want.ClusterAddr == m.ClusterAddr }) {
			c.t.Fatalf("a damaged file made a member of %v", m)
		}
	}
	return true
}
