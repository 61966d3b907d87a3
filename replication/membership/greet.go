package membership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// rejoinAfter is how long a node that was taken waits for raft to reach it before it asks again, in intervals.
const rejoinAfter = 10

// greet says hello to others, so that addresses are known whether or not there is a quorum, and keeps this node's own record right.
func (m *Membership) greet() {
	ticker := time.NewTicker(m.config.Interval)
	defer ticker.Stop()
	for {
		m.lookForLeader()
		m.helloRound()
		m.announce()
		select {
		case <-m.ctx.Done():
			return
		case <-ticker.C:
		case <-m.greetNow:
		}
	}
}

// lookForLeader notes since when there is none, and returns it; zero: there is one.
func (m *Membership) lookForLeader() (leaderless time.Time) {
	leader := m.Leader()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case leader != "":
		m.leaderless = time.Time{}
	case m.leaderless.IsZero():
		m.leaderless = time.Now()
	}
	return m.leaderless
}

// helloRound greets, as the leader, everybody, to know who is well; with a leader, one other; without one, whomever it can think of.
func (m *Membership) helloRound() {
	leader := m.Leader()
	others := slices.DeleteFunc(m.best(), func(r record) bool { return r.ID == m.self.ID })
	if leader != "" && leader != m.config.ID && len(others) > 0 {
		others = []record{others[rand.IntN(len(others))]}
	}
	others = append(others, m.dropDeparted()...)
	var calls sync.WaitGroup
	defer calls.Wait()
	for _, r := range others {
		calls.Go(func() { _, _ = m.hello(r.ClusterAddr, r.ID) })
	}
	if leader != "" || m.cluster() == "" { // a node that joins asks in announce
		return
	}
	for _, addr := range m.config.Join {
		if !slices.ContainsFunc(others, func(r record) bool { return r.ClusterAddr == addr }) {
			calls.Go(func() { m.helloJoin(addr) })
		}
	}
}

// dropDeparted forgets, and returns, those that raft does without by now. They are to be told: raft does not speak to them any more.
func (m *Membership) dropDeparted() (dropped []record) {
	servers := m.servers()
	m.mu.Lock()
	for _, r := range m.saved.Departed {
		if !slices.ContainsFunc(servers, func(s raft.Server) bool { return string(s.ID) == r.ID }) {
			dropped = append(dropped, r)
		}
	}
	m.mu.Unlock()
	if len(dropped) > 0 {
		_ = m.save(func(s *saved) { s.Departed = without(s.Departed, dropped) })
	}
	return dropped
}

// helloJoin greets an address of which nothing is known but that there should be a member.
func (m *Membership) helloJoin(addr string) {
	answer, err := m.hello(addr, "")
	if err == nil && answer.Cluster != "" && answer.Cluster != m.cluster() && m.causes.changed("other cluster at "+addr, answer.Cluster) {
		m.log.Warn("an address to join is that of a member of another cluster; this node stays in its own", "addr", addr, "node", answer.From.ID)
	}
}

// hello greets the node at addr and takes its answer, if it is the node id, or if id is empty.
func (m *Membership) hello(addr, id string) (greeting, error) {
	ctx, cancel := context.WithTimeout(m.ctx, m.config.CallTimeout)
	defer cancel()
	answer, err := call[greeting](ctx, m.config.Client, addr, helloPath, m.greeting())
	if err == nil && id != "" && answer.From.ID != id {
		err = fmt.Errorf("node %s is there", answer.From.ID)
	}
	if err != nil {
		m.noteSilence(id)
		return greeting{}, err
	}
	if m.learn(answer) {
		m.endRemoved()
		return answer, nil
	}
	m.noteAnswer(answer)
	return answer, nil
}

func (m *Membership) noteAnswer(answer greeting) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, member := find(m.saved.List.Members, answer.From.ID); member && answer.Cluster == m.saved.List.Cluster {
		m.contacts[answer.From.ID] = contact{at: time.Now(), index: answer.Index, answers: true}
	}
}

func (m *Membership) noteSilence(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, found := m.contacts[id]; found {
		c.answers = false
		m.contacts[id] = c
	}
}

// endRemoved ends this node's part for good.
func (m *Membership) endRemoved() {
	if m.ctx.Err() != nil || !m.causes.changed("removed", "yes") {
		return
	}
	m.log.Warn("this node was removed from its cluster and takes part no more; to join again, start it again with --join")
	_ = m.save(func(s *saved) { s.Removed = true })
	m.cancel(ErrRemoved)
	go m.config.OnRemoved() // which may well call Close, that waits for the goroutine that this is
}

// announce makes the list say of this node what is so.
func (m *Membership) announce() {
	m.mu.Lock()
	known, member := find(m.saved.List.Members, m.self.ID)
	if member {
		m.outdoLocked(known)
	}
	self, joining, founding := m.self, m.joining, m.saved.List.Cluster == ""
	asked := m.joined != "" && time.Since(m.askedAt) < rejoinAfter*m.config.Interval
	if member && joining {
		m.joining = false
	}
	m.mu.Unlock()
	switch {
	case member && joining:
		m.log.Info("joined the cluster", "node", self.ID, "cluster_addr", self.ClusterAddr)
		m.stir()
	case member && known.says(self):
	case member:
		m.tellLeader(self)
	case joining && !asked:
		m.join(self)
	case founding && !joining && m.leads():
		_, _ = m.propose(m.ctx, command{Kind: joinCommand, Member: self, Cluster: newCluster()})
	}
}

// tellLeader gives the new address, say, of this member to the leader, if there is one: the others learn of it by hellos, too.
func (m *Membership) tellLeader(self record) {
	ctx, cancel := context.WithTimeout(m.ctx, m.config.CallTimeout)
	defer cancel()
	_, err := m.takeIn(ctx, joining{Member: self, Update: true, Cluster: m.cluster()})
	if err == nil {
		m.log.Info("told the cluster where this node is", "cluster_addr", self.ClusterAddr, "public_addr", self.PublicAddr)
		return
	}
	if m.ctx.Err() == nil && !errors.Is(err, ErrNoQuorum) && !errors.Is(err, errNotLeader) && m.causes.changed("tell", causeOf(err)) {
		m.log.Warn("the cluster does not know yet where this node is; still trying", "cause", causeOf(err))
	}
}

// join asks the addresses in turn until one takes this node.
func (m *Membership) join(self record) {
	if m.causes.changed("joining", "yes") {
		m.log.Info("joining a cluster", "through", strings.Join(m.config.Join, ","), "cluster_addr", self.ClusterAddr)
	}
	var failed []string
	for _, addr := range m.config.Join {
		answer, err := m.ask(addr, self)
		if err == nil {
			m.taken(addr, answer)
			return
		}
		if m.ctx.Err() != nil {
			return
		}
		failed = append(failed, addr+": "+causeOf(err))
	}
	if cause := strings.Join(failed, "; "); m.causes.changed("join", cause) {
		m.log.Warn("cannot join a cluster yet; still trying", "cause", cause)
	}
}

func (m *Membership) ask(addr string, self record) (greeting, error) {
	// The member asks the leader, which asks this node whether it is there.
	ctx, cancel := context.WithTimeout(m.ctx, 3*m.config.CallTimeout)
	defer cancel()
	answer, err := call[greeting](ctx, m.config.Client, addr, joinPath, joining{Member: self})
	if err == nil && answer.Cluster == "" {
		err = errNotMember
	}
	return answer, err
}

// taken notes which cluster took this node. Only now may that cluster's raft speak to it.
func (m *Membership) taken(addr string, answer greeting) {
	m.causes.changed("join", "")
	m.log.Info("a cluster takes this node; waiting for its list of members", "through", addr, "members", len(answer.Members))
	_ = m.save(func(s *saved) { s.JoinedAt = answer.Index })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.joined, m.askedAt = answer.Cluster, time.Now()
}
