package membership

import (
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// tend makes raft's servers follow the list, while this node is the leader.
func (m *Membership) tend() {
	ticker := time.NewTicker(m.config.Interval)
	defer ticker.Stop()
	t := tender{m: m}
	for {
		if m.leads() {
			t.tend()
		}
		select {
		case <-m.ctx.Done():
			return
		case <-ticker.C:
		case <-m.tendNow:
		}
	}
}

// tender is what a leader needs to know in its term.
type tender struct {
	m     *Membership
	term  uint64
	since time.Time // of the term
}

func (t *tender) tend() {
	if term := t.m.raft.CurrentTerm(); term != t.term {
		// What earlier leaders have agreed on must be in the list, or a member that has just joined would be thrown out.
		if t.m.raft.Barrier(t.m.config.CallTimeout).Error() != nil {
			return
		}
		t.term, t.since = term, time.Now()
	}
	for t.m.ctx.Err() == nil {
		next := t.situation().next()
		if next.do == nothing {
			t.m.causes.changed("step", "")
			return
		}
		if err := t.take(next); err != nil {
			if t.m.causes.changed("step", err.Error()) {
				t.m.log.Debug("membership: raft's servers do not follow the list yet", "step", next.do, "node", next.id, "error", err)
			}
			return
		}
	}
}

func (t *tender) situation() situation {
	list := t.m.list()
	s := situation{self: t.m.config.ID, maxVoters: t.m.config.MaxVoters, well: map[string]bool{}, dead: map[string]bool{}}
	for _, r := range list.Members {
		s.members = append(s.members, r.ID)
		c := t.m.contact(r.ID)
		s.well[r.ID] = r.ID == s.self || t.m.isWell(r.ID) && c.index >= list.Index
		s.dead[r.ID] = r.ID != s.self && time.Since(later(c.at, t.since)) > t.m.config.VoterTimeout
	}
	for _, known := range t.m.servers() {
		s.servers = append(s.servers, server{id: string(known.ID), voter: known.Suffrage == raft.Voter})
	}
	return s
}

func (t *tender) take(s step) error {
	id, r := raft.ServerID(s.id), t.m.raft
	timeout := t.m.config.CallTimeout
	switch s.do {
	case add:
		return r.AddNonvoter(id, raft.ServerAddress(s.id), 0, timeout).Error()
	case remove:
		return r.RemoveServer(id, 0, timeout).Error()
	case promote:
		t.m.log.Info("a member becomes a voter", "node", s.id)
		return r.AddVoter(id, raft.ServerAddress(s.id), 0, timeout).Error()
	case demote:
		t.m.log.Warn("a voter does not answer; another member takes its place", "node", s.id, "for", t.m.config.VoterTimeout)
		return r.DemoteVoter(id, 0, timeout).Error()
	case resign:
		if r.LeadershipTransfer().Error() == nil {
			return raft.ErrNotLeader // the next one takes it from here
		}
		return r.RemoveServer(id, 0, timeout).Error()
	}
	return nil
}

// isWell tells whether the member answers.
func (m *Membership) isWell(id string) bool {
	c := m.contact(id)
	return c.answers && time.Since(c.at) < 3*m.config.Interval+m.config.CallTimeout
}

func (m *Membership) contact(id string) contact {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.contacts[id]
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// action is what a leader can do to raft's servers.
type action string

const (
	nothing action = ""
	add     action = "add"    // as a non-voter
	remove  action = "remove" // another one
	promote action = "promote"
	demote  action = "demote"
	resign  action = "resign" // and leave: the leader itself was removed
)

type step struct {
	do action
	id string
}

// situation is what the next step depends on, and nothing else.
type situation struct {
	self      string
	members   []string        // of the list
	servers   []server        // of raft
	well      map[string]bool // answers, and has the whole list
	dead      map[string]bool // has not answered for VoterTimeout
	maxVoters int
}

type server struct {
	id    string
	voter bool
}

// next returns the first thing to do. Servers that are no members go first, since they may count for the quorum.
func (s situation) next() step {
	for _, server := range s.servers {
		if server.id != s.self && !slices.Contains(s.members, server.id) {
			return step{remove, server.id}
		}
	}
	for _, id := range s.members {
		if !slices.ContainsFunc(s.servers, func(s server) bool { return s.id == id }) {
			return step{add, id}
		}
	}
	var voters, dead, candidates []string
	for _, server := range s.servers {
		switch {
		case server.voter:
			voters = append(voters, server.id)
			if s.dead[server.id] {
				dead = append(dead, server.id)
			}
		case s.well[server.id]:
			candidates = append(candidates, server.id)
		}
	}
	switch {
	case len(candidates) > 0 && len(voters) < s.maxVoters:
		return step{promote, slices.Min(candidates)}
	case len(candidates) > 0 && len(dead) > 0:
		return step{demote, slices.Min(dead)}
	case !slices.Contains(s.members, s.self) && len(voters) > 1:
		return step{resign, s.self}
	}
	return step{}
}
