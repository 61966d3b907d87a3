package membership

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// The log is short, because it holds members only, and a few at a time.
	snapshotThreshold = 64
	trailingLogs      = 64
	snapshotInterval  = time.Minute
	commitTimeout     = 100 * time.Millisecond
	maxPooledStreams  = 2
)

// Membership is this node's part in the list of members.
type Membership struct {
	config  Config
	log     *slog.Logger
	disk    *disk
	streams *streams
	raft    *raft.Raft

	ctx    context.Context // ends with ErrClosed or ErrRemoved
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	greetNow, tendNow, notifyNow chan struct{} // of one place each; whoever wants a loop to run at once fills it

	causes causes
	saving sync.Mutex // before mu; held while saved is written

	mu         sync.Mutex
	saved      saved
	self       record
	joining    bool              // nothing is known of a cluster yet, or not all that the one that took us said before
	joined     string            // the cluster that took us, before raft has told us of it
	askedAt    time.Time         // when it did
	newer      map[string]record // what hellos told that raft has not yet
	contacts   map[string]contact
	leaderless time.Time // since when no leader is known; zero while one is
}

// saved is what this package itself stores.
type saved struct {
	Node     string `cbor:"1,keyasint"`
	Removed  bool   `cbor:"2,keyasint"`
	JoinedAt uint64 `cbor:"3,keyasint"` // the list's index that the cluster had when it took us
	List     list   `cbor:"4,keyasint"`
	// Departed are off the list but may still be servers of raft's, which needs them until it has agreed on doing without.
	Departed []record `cbor:"5,keyasint,omitempty"`
}

// contact is the last answer to a hello.
type contact struct {
	at      time.Time
	index   uint64
	answers bool // and the hellos after it were answered, too
}

// Open starts to take part: as a member that was here before, as one that joins, or as the first one. Joining goes on in the background, for as
// long as it takes. It fails with ErrRemoved, ErrCorrupt or ErrOtherNode, or with what Storage says.
func Open(config Config) (*Membership, error) {
	config.setDefaults()
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("membership: config: %w", err)
	}
	m := &Membership{
		config:     config,
		log:        config.Logger,
		disk:       &disk{Storage: config.Storage, log: config.Logger, closing: make(chan struct{})},
		greetNow:   make(chan struct{}, 1),
		tendNow:    make(chan struct{}, 1),
		notifyNow:  make(chan struct{}, 1),
		self:       config.self(),
		newer:      map[string]record{},
		contacts:   map[string]contact{},
		leaderless: time.Now(),
	}
	if err := m.restore(); err != nil {
		return nil, err
	}
	m.streams = &streams{inner: config.Streams, self: config.ID, timeout: config.CallTimeout, addr: m.addr, cluster: m.cluster, conns: map[net.Conn]struct{}{}}
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	if err := m.startRaft(); err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	m.wg.Go(m.stop)
	m.wg.Go(m.greet)
	m.wg.Go(m.tend)
	m.wg.Go(m.notify)
	return m, nil
}

// restore reads what is stored.
func (m *Membership) restore() error {
	if err := m.disk.verify(); err != nil {
		return corrupt(err)
	}
	data, err := m.disk.Get([]byte(savedKey))
	switch {
	case missing(err):
	case err != nil:
		return corrupt(err)
	default:
		if err := decode(data, &m.saved); err != nil {
			return corrupt(err)
		}
	}
	if node := m.saved.Node; node != "" && node != m.config.ID {
		return &userError{kind: ErrOtherNode, sentence: fmt.Sprintf(
			"the membership log (raft.db) is that of node %s, and this is %s: move it away and join the cluster anew (--join)", node, m.config.ID)}
	}
	if m.saved.Removed {
		if err := m.restoreRemoved(); err != nil {
			return err
		}
	}
	if known, found := find(m.saved.List.Members, m.self.ID); found {
		m.self.Revision = known.Revision
		if !m.self.says(known) {
			m.self.Revision++
		}
	}
	m.joining = len(m.saved.List.Members) == 0 && len(m.config.Join) > 0
	return m.save(func(s *saved) { s.Node = m.config.ID })
}

// restoreRemoved makes a node that was removed a new one, which may come back only by joining.
func (m *Membership) restoreRemoved() error {
	if len(m.config.Join) == 0 {
		return &userError{kind: ErrRemoved, sentence: "this node was removed from its cluster: start it with --join to join again, " +
			"or move raft.db in its data directory away to begin a cluster of its own"}
	}
	if err := m.disk.forget(); err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	return m.save(func(s *saved) { s.List, s.Departed, s.JoinedAt = list{}, nil, 0 }) // it stays removed until it has joined
}

func corrupt(cause error) error {
	return &userError{kind: ErrCorrupt, cause: cause, sentence: fmt.Sprintf(
		"the membership log (raft.db) is damaged: %v; restore it, or move it away and join the cluster again (--join)", cause)}
}

// startRaft founds a cluster if there is none to go on with and none to join.
func (m *Membership) startRaft() error {
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(m.config.ID)
	config.HeartbeatTimeout = m.config.ElectionTimeout
	config.ElectionTimeout = m.config.ElectionTimeout
	config.LeaderLeaseTimeout = m.config.ElectionTimeout / 2
	config.CommitTimeout = min(commitTimeout, m.config.ElectionTimeout/10)
	config.SnapshotThreshold = snapshotThreshold
	config.SnapshotInterval = snapshotInterval
	config.TrailingLogs = trailingLogs
	config.ShutdownOnRemove = false // what raft believes of it is not yet certain
	config.Logger = quiet(m.log)
	snapshots := &snapshots{m.disk}
	transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: m.streams, MaxPool: maxPooledStreams, Timeout: m.config.CallTimeout, Logger: config.Logger})

	err := m.found(config, snapshots, transport)
	if err == nil {
		m.raft, err = raft.NewRaft(config, fsm{m}, m.disk, m.disk, snapshots, transport)
	}
	if err != nil {
		_ = transport.Close()
		m.streams.sever()
		return err
	}
	// Nothing is ever sent to this observer: its filter is told at once, and does not block raft.
	m.raft.RegisterObserver(raft.NewObserver(nil, false, func(seen *raft.Observation) bool {
		switch seen.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			m.stir()
		}
		return false
	}))
	return nil
}

func (m *Membership) found(config *raft.Config, snapshots *snapshots, transport raft.Transport) error {
	existing, err := raft.HasExistingState(m.disk, m.disk, snapshots)
	if err != nil || existing || m.joining {
		return err
	}
	m.log.Info("starting a cluster of one; other nodes may join it", "join", m.config.ClusterAddr)
	return raft.BootstrapCluster(config, m.disk, m.disk, snapshots, transport, raft.Configuration{Servers: []raft.Server{
		{Suffrage: raft.Voter, ID: config.LocalID, Address: raft.ServerAddress(m.config.ID)}}})
}

// stop ends raft once the node takes part no more.
func (m *Membership) stop() {
	<-m.ctx.Done()
	stopped := m.raft.Shutdown()
	m.streams.sever()
	close(m.disk.closing)
	_ = stopped.Error()
}

// Close ends this node's part, without leaving the list. A leader hands over first, so that the others need no election.
func (m *Membership) Close() error {
	if m.ctx.Err() == nil && m.leads() && len(m.servers()) > 1 {
		_ = m.raft.LeadershipTransfer().Error()
	}
	m.cancel(ErrClosed)
	m.wg.Wait()
	return nil
}

// Members returns the members by id, as this node knows them. It never waits. The list of a node that is joining is empty.
func (m *Membership) Members() []Member {
	roles := m.roles()
	m.mu.Lock()
	defer m.mu.Unlock()
	members := make([]Member, 0, len(m.saved.List.Members))
	for _, r := range m.bestLocked() {
		members = append(members, r.member(roles[r.ID]))
	}
	return members
}

func (m *Membership) roles() map[string]Role {
	roles := map[string]Role{}
	for _, r := range m.list().Members {
		roles[r.ID] = NonVoter
	}
	for _, server := range m.servers() {
		if server.Suffrage == raft.Voter {
			roles[string(server.ID)] = Voter
		}
	}
	if leader := m.Leader(); roles[leader] == Voter {
		roles[leader] = Leader
	}
	return roles
}

// Leader returns the id of the leader, or "" while this node knows of none.
func (m *Membership) Leader() string {
	_, id := m.raft.LeaderWithID()
	return string(id)
}

func (m *Membership) leads() bool { return m.raft.State() == raft.Leader }

func (m *Membership) servers() []raft.Server {
	return m.raft.GetConfiguration().Configuration().Servers
}

// notify calls OnChange.
func (m *Membership) notify() {
	var told []Member
	for {
		if members := m.Members(); !slices.Equal(members, told) {
			told = members
			m.config.OnChange(slices.Clone(members))
		}
		select {
		case <-m.ctx.Done():
			return
		case <-m.notifyNow:
		}
	}
}

// stir has all loops look at once.
func (m *Membership) stir() {
	for _, now := range []chan struct{}{m.greetNow, m.tendNow, m.notifyNow} {
		select {
		case now <- struct{}{}:
		default:
		}
	}
}

func (m *Membership) list() list {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.saved.List
}

// setList is called by one goroutine at a time, raft's.
func (m *Membership) setList(next list) {
	_, member := find(next.Members, m.self.ID)
	_ = m.save(func(s *saved) {
		s.Departed = without(slices.Concat(s.Departed, s.List.Members), next.Members)
		s.List = next
		s.Removed = s.Removed && !member
	})
	m.mu.Lock()
	maps.DeleteFunc(m.newer, func(id string, r record) bool {
		known, found := find(next.Members, id)
		return !found || known.Revision >= r.Revision
	})
	maps.DeleteFunc(m.contacts, func(id string, _ contact) bool {
		_, found := find(next.Members, id)
		return !found
	})
	m.mu.Unlock()
	m.stir()
}

// save changes what is stored. What cannot be written is still so for this run.
func (m *Membership) save(change func(*saved)) error {
	m.saving.Lock()
	defer m.saving.Unlock()
	m.mu.Lock()
	next := m.saved
	m.mu.Unlock()
	change(&next)
	err := m.disk.Set([]byte(savedKey), encode(next))
	if err != nil {
		if m.causes.changed("save", err.Error()) {
			m.log.Error("the list of members cannot be written", "error", err)
		}
		err = fmt.Errorf("membership: write: %w", err)
	} else {
		m.causes.changed("save", "")
	}
	m.mu.Lock()
	m.saved = next
	m.mu.Unlock()
	return err
}
