package membership

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// retryTime is between two attempts of Remove.
const retryTime = 100 * time.Millisecond

func newCluster() string { return strings.ToLower(rand.Text()[:16]) }

// Remove takes the member id, which may be dead, the leader or this node, off the list. It fails with ErrUnknownMember, ErrLastMember,
// ErrNoQuorum, ErrRemoved, ErrClosed or ctx's error. It bears an election, but not more: without a leader for that long it fails at once.
func (m *Membership) Remove(ctx context.Context, id string) error {
	if err := validateID(id); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownMember, err)
	}
	leader, started, uncertain := "", time.Now(), false
	for {
		if now := m.Leader(); now != "" && now != leader {
			leader, started = now, time.Now()
		}
		if m.ctx.Err() != nil {
			return m.ended()
		}
		err := m.remove(ctx, id)
		if err == nil || uncertain && errors.Is(err, ErrUnknownMember) { // what failed has taken effect after all
			m.awaitGone(ctx, id)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if isFinal(err) && m.ctx.Err() == nil {
			return err
		}
		uncertain = uncertain || !errors.Is(err, errNotLeader)
		if m.giveUp(leader, started) {
			return m.noQuorum()
		}
		select {
		case <-ctx.Done():
		case <-m.ctx.Done():
		case <-time.After(retryTime):
		}
	}
}

// awaitGone waits until raft does without the removed member, so that it can be stopped at once; but not for ever, since removed it is.
func (m *Membership) awaitGone(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, m.config.patience())
	defer cancel()
	for slices.ContainsFunc(m.servers(), func(s raft.Server) bool { return string(s.ID) == id }) {
		select {
		case <-ctx.Done():
			return
		case <-m.ctx.Done(): // this was the one
			return
		case <-time.After(retryTime / 10):
		}
	}
}

// giveUp tells whether there was time for an election since the leader was lost or, where there is one that is of no use, since it was first asked.
func (m *Membership) giveUp(leader string, asked time.Time) bool {
	since := m.lookForLeader()
	if since.IsZero() {
		since = asked
		if m.Leader() != leader {
			return false
		}
	}
	return time.Since(since) >= m.config.patience()
}

// isFinal tells whether asking again would be no use.
func isFinal(err error) bool {
	for _, final := range []error{ErrUnknownMember, ErrLastMember, errBadRequest, errOtherCluster} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

func (m *Membership) ended() error { return context.Cause(m.ctx) }

// remove tries once.
func (m *Membership) remove(ctx context.Context, id string) error {
	if m.leads() {
		return m.strikeOff(ctx, id)
	}
	addr, err := m.leaderAddr()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, m.config.CallTimeout)
	defer cancel()
	_, err = call[greeting](ctx, m.config.Client, addr, removePath, removal{ID: id, Cluster: m.cluster()})
	return err
}

// strikeOff is remove at the leader.
func (m *Membership) strikeOff(ctx context.Context, id string) error {
	_, err := m.propose(ctx, command{Kind: removeCommand, Member: record{ID: id}})
	if err == nil {
		m.log.Info("removed a member", "node", id)
	}
	return err
}

func (m *Membership) leaderAddr() (string, error) {
	leader := m.Leader()
	addr, known := m.addr(leader)
	if leader == "" || leader == m.config.ID || !known {
		return "", errNotLeader
	}
	return addr, nil
}

// takeIn adds a member, or takes its new record, here or through the leader.
func (m *Membership) takeIn(ctx context.Context, j joining) (greeting, error) {
	if m.ctx.Err() != nil {
		return greeting{}, m.ended()
	}
	if m.cluster() == "" {
		return greeting{}, errNotMember
	}
	if m.leads() {
		return m.takeInHere(ctx, j)
	}
	if j.Forwarded {
		return greeting{}, errNotLeader
	}
	addr, err := m.leaderAddr()
	if err != nil {
		return greeting{}, m.noQuorum()
	}
	j.Forwarded = true
	return call[greeting](ctx, m.config.Client, addr, joinPath, j)
}

// takeInHere is takeIn at the leader.
func (m *Membership) takeInHere(ctx context.Context, j joining) (greeting, error) {
	kind := uint64(updateCommand)
	if !j.Update {
		kind = joinCommand
		if err := m.checkReachable(j.Member); err != nil {
			return greeting{}, err
		}
		if err := m.silence(j.Member.ID); err != nil {
			return greeting{}, err
		}
	}
	m.warnOfTakenAddr(j.Member)
	index, err := m.propose(ctx, command{Kind: kind, Member: j.Member})
	if err != nil {
		return greeting{}, err
	}
	g := m.greeting()
	g.Index = max(g.Index, index)
	return g, nil
}

// checkReachable keeps out a node at a wrong address: as a voter it could cost the quorum.
func (m *Membership) checkReachable(r record) error {
	if r.ID == m.config.ID {
		return nil
	}
	if _, err := m.hello(r.ClusterAddr, r.ID); err != nil {
		return &userError{kind: errUnreachable, cause: err, sentence: fmt.Sprintf(
			"the leader, %s at %s, cannot reach this node at %s (%s): check --cluster-addr and the network", m.config.ID, m.config.ClusterAddr, r.ClusterAddr, causeOf(err))}
	}
	return nil
}

// silence takes away the vote of a node that joins anew: it has forgotten what it voted.
func (m *Membership) silence(id string) error {
	voter := slices.ContainsFunc(m.servers(), func(s raft.Server) bool { return string(s.ID) == id && s.Suffrage == raft.Voter })
	if !voter || id == m.config.ID {
		return nil
	}
	return m.raftError(m.raft.DemoteVoter(raft.ServerID(id), 0, m.config.CallTimeout).Error())
}

func (m *Membership) warnOfTakenAddr(r record) {
	for _, other := range m.best() {
		if other.ID != r.ID && other.ClusterAddr == r.ClusterAddr && m.causes.changed("address of "+other.ID, r.ID) {
			m.log.Warn("a node is now where another member was; remove that one if it is gone for good", "cluster_addr", r.ClusterAddr, "node", r.ID, "was", other.ID)
		}
	}
}

// propose has the cluster agree on a command, and returns its index. Without a quorum it fails before the command is in the log, where it would
// wait for the quorum and then take effect.
func (m *Membership) propose(ctx context.Context, c command) (index uint64, err error) {
	type outcome struct {
		index uint64
		err   error
	}
	done := make(chan outcome, 1)
	go func() { // raft may keep what was proposed on its last way out to itself
		if err := m.raft.VerifyLeader().Error(); err != nil {
			done <- outcome{err: m.raftError(err)}
			return
		}
		future := m.raft.Apply(encode(c), m.config.CallTimeout)
		if err := future.Error(); err != nil {
			done <- outcome{err: m.raftError(err)}
			return
		}
		told, _ := future.Response().(error)
		done <- outcome{index: future.Index(), err: told}
	}()
	select {
	case o := <-done:
		return o.index, o.err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-m.ctx.Done():
		return 0, m.ended()
	}
}

func (m *Membership) raftError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return errNotLeader
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrAbortedByRestore):
		return m.noQuorum()
	case errors.Is(err, raft.ErrRaftShutdown):
		return m.ended()
	}
	return err
}

// noQuorum says who is missing.
func (m *Membership) noQuorum() error {
	var silent []string
	voters := 0
	for _, server := range m.servers() {
		if server.Suffrage != raft.Voter {
			continue
		}
		voters++
		if id := string(server.ID); id != m.config.ID && !m.isWell(id) {
			addr, _ := m.addr(id)
			silent = append(silent, id+" at "+addr)
		}
	}
	sentence := "the cluster has no leader at present; try again"
	if len(silent) > 0 {
		sentence = fmt.Sprintf("the cluster has no quorum: of its %d voters these do not answer: %s; start them or mend the network, "+
			"until then members can neither join nor be removed", voters, strings.Join(silent, ", "))
	}
	return &userError{kind: ErrNoQuorum, sentence: sentence}
}
