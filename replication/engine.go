package replication

import (
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/replication/protocol"
)

// partItems bounds how many entries one part of a repair has.
const partItems = 500

// engine does what messages say: it knows who is up, and keeps the tracker in step with that and with what others have. It neither sends nor waits.
type engine struct {
	tracker    *presence.Tracker
	self       crdt.Replica
	logger     *slog.Logger
	superseded func(by crdt.Replica) // called at most once for each incarnation, on a goroutine of its own
	start      time.Time             // of the monotonic clock that the view runs on

	complete atomic.Bool // no member is silent that may have somebody present

	mu      sync.Mutex
	view    *protocol.View
	members map[string]string // cluster addresses, by id; without ourselves
	back    map[crdt.Replica]returning
	gone    []departure // oldest first
	grace   time.Duration
	rng     *rand.Rand
}

func newEngine(config Config) *engine {
	return &engine{
		tracker:    config.Tracker,
		self:       config.Tracker.Replica(),
		logger:     config.Logger,
		superseded: config.Superseded,
		start:      time.Now(),
		view: protocol.New(protocol.Config{
			Self: config.Tracker.Replica(), Shards: presence.Shards,
			DownAfter: config.DownAfter, ForgetAfter: config.ForgetAfter, Interval: config.Interval,
		}, 0),
		members: map[string]string{},
		back:    map[crdt.Replica]returning{},
		grace:   graceIntervals * config.Interval,
		rng:     rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	}
}

// returning is a replica that is up again and not shown yet: first we catch up with what it did while we did not hear it, or who left meanwhile would show up for a moment.
type returning struct {
	changes uint64        // that it had made when it was heard again
	since   time.Duration // then
}

// catchUp is how long a replica that is up again may stay hidden: something may be wrong with its count, but not with it.
const catchUp = 2 * patience

// departure is what is to be dropped of a replica that has left, was forgotten, or has restarted. It is put off for a few exchanges: others may have taken over its sessions, and
// who drops them before hearing of that would see them leave and join.
type departure struct {
	replica crdt.Replica
	due     time.Duration
	drop    func()
}

// graceIntervals is how many intervals that is.
const graceIntervals = 5

func (e *engine) departLocked(replica crdt.Replica, drop func()) {
	e.gone = append(e.gone, departure{replica, e.now() + e.grace, drop})
}

// buryLocked drops what is due.
func (e *engine) buryLocked() {
	for len(e.gone) > 0 && e.gone[0].due <= e.now() {
		e.gone[0].drop()
		e.gone = e.gone[1:]
	}
}

func (e *engine) now() time.Duration { return time.Since(e.start) }

// do has ask change the view, and applies what comes of it. The tracker follows under the same lock, so that it hears of changes in their order.
func (e *engine) do(ask func(view *protocol.View, now time.Duration) []protocol.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	events := ask(e.view, e.now())
	if !e.view.Complete() {
		e.complete.Store(false) // before anything is hidden
	}
	e.applyLocked(events)
	e.applyLocked(e.view.Retire(e.tracker.Upto, e.now()))
	e.welcomeLocked()
	e.buryLocked()
	e.complete.Store(e.view.Complete() && len(e.back) == 0)
}

// welcomeLocked shows the replicas that are back and with which we have caught up.
func (e *engine) welcomeLocked() {
	for replica, r := range e.back {
		if e.tracker.Known(replica) >= r.changes || e.now()-r.since > catchUp {
			delete(e.back, replica)
			e.tracker.Show(replica)
		}
	}
}

func (e *engine) applyLocked(events []protocol.Event) {
	for _, event := range events {
		switch event := event.(type) {
		case protocol.StateChanged:
			e.changeLocked(event)
		case protocol.NewIncarnation:
			e.logger.Info("a node has restarted", "node", event.New.Name, "incarnation", event.New.Incarnation)
		case protocol.Retired:
			e.departLocked(event.Old, func() { e.tracker.Retire(event.Shard, event.Old) })
		case protocol.SelfSuperseded:
			e.logger.Error("another process has run, or runs, with this node's id and a higher incarnation",
				"incarnation", e.self.Incarnation, "other", event.By.Incarnation)
			if e.superseded != nil {
				go e.superseded(event.By)
			}
		}
	}
}

func (e *engine) changeLocked(event protocol.StateChanged) {
	replica := event.Replica
	if replica.Incarnation == 0 {
		return // never heard of, so it has nothing to show
	}
	if event.From != protocol.Unknown || event.To != protocol.Up {
		e.logger.Info("a node's state has changed", "node", replica.Name, "incarnation", replica.Incarnation, "from", event.From.String(), "to", event.To.String())
	}
	delete(e.back, replica)
	switch event.To {
	case protocol.Up:
		e.gone = slices.DeleteFunc(e.gone, func(d departure) bool { return d.replica == replica })
		e.returnLocked(replica, event.From)
	case protocol.Down:
		e.tracker.Hide(replica)
	case protocol.PermDown:
		if !e.view.Superseded(replica) { // it may come back, or become a member
			e.departLocked(replica, func() { e.tracker.Forget(replica) })
			return
		}
		e.departLocked(replica, func() {
			for shard := range presence.Shards {
				e.tracker.Retire(shard, replica)
			}
		})
	}
}

// returnLocked has a replica shown that is up: at once, if it was never hidden.
func (e *engine) returnLocked(replica crdt.Replica, from protocol.State) {
	if from == protocol.Unknown {
		e.tracker.Show(replica)
		return
	}
	if from == protocol.PermDown {
		e.tracker.Recall(replica)
	}
	for _, m := range e.view.Members(e.now()) {
		if m.Replica == replica {
			e.back[replica] = returning{m.Changes, e.now()}
			return
		}
	}
	e.tracker.Show(replica)
}

// setMembers takes in the list of members: cluster addresses, by id.
func (e *engine) setMembers(members map[string]string) {
	e.do(func(view *protocol.View, now time.Duration) []protocol.Event {
		clear(e.members)
		ids := make([]string, 0, len(members))
		for id, addr := range members {
			ids = append(ids, id)
			if id != e.self.Name {
				e.members[id] = addr
			}
		}
		slices.Sort(ids)
		return view.SetMembers(ids, now)
	})
}

// alone tells whether there is no other member. A list of one need not mean that: to a node that joins, members come one after the other.
func (e *engine) alone() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.members) == 0
}

// address returns a member's cluster address, "" when it is none.
func (e *engine) address(id string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.members[id]
}

// tick makes our next beat and returns whom to exchange with.
func (e *engine) tick(status protocol.Status) (targets []string) {
	e.do(func(view *protocol.View, now time.Duration) []protocol.Event {
		events := view.Tick(now, status)
		targets = view.Targets(now, e.rng)
		return events
	})
	return targets
}

func (e *engine) receive(beats []protocol.Beat) {
	e.do(func(view *protocol.View, now time.Duration) []protocol.Event { return view.Receive(beats, now) })
}

// contact notes how a request to a member went.
func (e *engine) contact(id string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.view.Failed(id)
		return
	}
	e.view.Answered(id)
}

// greeting is what we say of everybody, without asking for anything.
func (e *engine) greeting() Digests {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Digests{From: e.self, Beats: e.view.Beats(e.now())}
}

// digests is what we say when we ask.
func (e *engine) digests() Digests {
	d := e.greeting()
	for shard := range presence.Shards {
		d.Shards = append(d.Shards, e.tracker.Digest(shard))
	}
	return d
}

// repair returns what the node with those digests lacks.
func (e *engine) repair(theirs Digests) iter.Seq[Part] {
	return func(yield func(Part) bool) {
		for shard, digest := range theirs.Shards {
			for delta := range e.tracker.Repair(shard, digest).Parts(partItems) {
				if !yield(Part{Shard: shard, Delta: delta}) {
					return
				}
			}
		}
	}
}

// merge takes in a part of what another node has.
func (e *engine) merge(part Part) {
	e.tracker.Merge(part.Shard, part.Delta)
	replicas := part.Delta.Seen.Replicas()
	e.do(func(view *protocol.View, now time.Duration) []protocol.Event { return view.Learn(replicas, now) })
}

// peers returns the members that are up and answer, and those that are up and do not answer, sorted.
func (e *engine) peers() (answering, silent []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.view.Members(e.now()) {
		switch {
		case m.Self || m.State != protocol.Up:
		case m.Reachable:
			answering = append(answering, m.Replica.Name)
		default:
			silent = append(silent, m.Replica.Name)
		}
	}
	return answering, silent
}

// reachable tells whether the replica is up, and its node answers.
func (e *engine) reachable(replica crdt.Replica) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	present, _ := e.view.Present(replica.Name)
	return present == replica && e.view.StateOf(replica) == protocol.Up && e.view.Reachable(replica.Name, e.now())
}
