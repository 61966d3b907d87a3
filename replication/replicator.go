package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/replication/protocol"
)

// Config configures a [Replicator]. Tracker and Client must be set.
type Config struct {
	Tracker *presence.Tracker
	Client  *http.Client // to the cluster ports of other nodes, by http:// addresses

	// Restored says for each shard how many presences were restored before Open, as the replica's first dots.
	Restored   []uint64
	Version    string // of the program
	PublicAddr string // where clients reach this node

	DownAfter   time.Duration // silence after which a member's presences are hidden. Default 10 s
	ForgetAfter time.Duration // silence after which they are forgotten. Default 20 min
	Interval    time.Duration // between exchanges. Default 1 s, or an eighth of DownAfter if that is less

	// Superseded is called when another process runs, or has run, under this node's id with a higher incarnation. The node must stop, or take a higher one.
	Superseded func(by crdt.Replica)
	Logger     *slog.Logger // default: none

	link link // in place of HTTP, for tests
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.DownAfter, 10 * time.Second}, {&c.ForgetAfter, 20 * time.Minute}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.Interval == 0 {
		c.Interval = min(time.Second, c.DownAfter/8)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.link == nil && c.Client != nil {
		c.link = &httpLink{client: c.Client}
	}
}

func (c *Config) validate() error {
	var errs []error
	if c.Tracker == nil {
		errs = append(errs, errors.New("there is no tracker"))
	}
	if c.link == nil {
		errs = append(errs, errors.New("there is no client"))
	}
	if c.DownAfter < 0 || c.Interval < 0 || c.ForgetAfter <= c.DownAfter {
		errs = append(errs, errors.New("forget-after must be above down-after, and neither negative"))
	}
	return errors.Join(errs...)
}

// Replicator keeps a tracker in step with those of the other members. Its methods may be called from any goroutine.
type Replicator struct {
	config Config
	*engine
	broadcast *broadcaster
	batches   *batches
	answering answering
	incoming  atomic.Int32  // exchanges and repairs in which another node brings what we lack
	synced    chan struct{} // closed after the first exchange in which we got all that we lacked, or when there is nobody to ask
	syncOnce  sync.Once

	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	statusMu sync.Mutex
	leaving  bool
}

// errClosed is the cause of what ends because of Close.
var errClosed = errors.New("the node is shutting down")

// Open returns a replicator that knows no members yet. It announces itself when it is told of some.
func Open(config Config) (*Replicator, error) {
	config.setDefaults()
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("replication: config: %w", err)
	}
	r := &Replicator{config: config, engine: newEngine(config), synced: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	r.broadcast = newBroadcaster(r)
	r.batches = newBatches(r)
	config.Tracker.RecordChanges(r.broadcast.changed)
	r.wg.Go(r.broadcast.run)
	r.wg.Go(r.run)
	return r, nil
}

// Close stops everything and waits until it has stopped.
func (r *Replicator) Close() {
	r.cancel(errClosed)
	r.wg.Wait()
}

// SetMembers takes in the list of members: cluster addresses, by id. Whoever is not in it is forgotten.
func (r *Replicator) SetMembers(members map[string]string) {
	r.setMembers(members)
	if r.alone() {
		r.sync()
	}
}

// Self is the run of the node that this is.
func (r *Replicator) Self() crdt.Replica { return r.self }

// sync notes that we know what there is to know.
func (r *Replicator) sync() { r.syncOnce.Do(func() { close(r.synced) }) }

// Synced is closed once this node has caught up with another, or knows that there is none.
func (r *Replicator) Synced() <-chan struct{} { return r.synced }

// Members returns what this node knows of the members, itself included, in the order of their ids.
func (r *Replicator) Members() []protocol.MemberState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.view.Members(r.now())
}

// Complete tells whether this node has caught up, and no member is silent that may still have somebody present.
func (r *Replicator) Complete() bool {
	select {
	case <-r.synced:
	default:
		return false
	}
	return r.complete.Load()
}

// Lag returns how many changes of a member this node has heard of and not taken in.
func (r *Replicator) Lag(m protocol.MemberState) uint64 {
	if known := r.tracker.Known(m.Replica); !m.Self && known < m.Changes {
		return m.Changes - known
	}
	return 0
}

// run is the ticker's goroutine.
func (r *Replicator) run() {
	ticker := time.NewTicker(r.config.Interval)
	defer ticker.Stop()
	for {
		r.round()
		select {
		case <-r.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// round is what happens at every tick.
func (r *Replicator) round() {
	for _, id := range r.tick(r.status()) {
		r.wg.Go(func() { r.exchangeWith(id) })
	}
	if away := r.tracker.Away(); len(away) > 0 {
		r.wg.Go(func() { _, _ = r.Heartbeats(r.ctx, away) })
	}
}

func (r *Replicator) status() protocol.Status {
	stats := r.tracker.Stats()
	r.statusMu.Lock()
	defer r.statusMu.Unlock()
	return protocol.Status{
		Restored: r.config.Restored, Leaving: r.leaving,
		Sessions: uint64(stats.Sessions), Presences: uint64(stats.Held), Changes: r.tracker.Known(r.self),
		Version: r.config.Version, PublicAddr: r.config.PublicAddr,
	}
}
