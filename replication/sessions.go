package replication

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"rollcall/presence"
	"rollcall/presence/crdt"
)

const (
	// maxMoves bounds how often a request follows a session that is being handed on.
	maxMoves = 4
	// askTimeout is how long other nodes have to say whether they know a session.
	askTimeout = time.Second
)

// Track is [presence.Tracker.Track], wherever the session lives.
func (r *Replicator) Track(ctx context.Context, q presence.TrackRequest) (presence.Tracked, error) {
	if q.Session == "" {
		return r.tracker.Track(q) // a new one
	}
	var tracked presence.Tracked
	err := r.route(ctx, q.Session, route{
		op: Op{Kind: OpTrack, Session: q.Session, Topic: q.Topic, Key: q.Key, Meta: q.Meta, TTL: q.TTL},
		here: func() (err error) {
			tracked, err = r.tracker.Track(q)
			return err
		},
		there: func(_ crdt.Replica, result OpResult) { tracked = *result.Tracked },
	})
	return tracked, err
}

// Update is [presence.Tracker.Update], wherever the session lives.
func (r *Replicator) Update(ctx context.Context, topic presence.Topic, key presence.Key, id presence.SessionID, meta presence.Meta) (
	tracked presence.Tracked, created bool, err error,
) {
	err = r.route(ctx, id, route{
		op: Op{Kind: OpUpdate, Session: id, Topic: topic, Key: key, Meta: meta},
		here: func() (err error) {
			tracked, created, err = r.tracker.Update(topic, key, id, meta)
			return err
		},
		there: func(_ crdt.Replica, result OpResult) { tracked, created = *result.Tracked, result.Created },
	})
	return tracked, created, err
}

// Patch is [presence.Tracker.Patch], wherever the session lives.
func (r *Replicator) Patch(ctx context.Context, topic presence.Topic, key presence.Key, id presence.SessionID, patch presence.Meta) (
	tracked presence.Tracked, err error,
) {
	err = r.route(ctx, id, route{
		op: Op{Kind: OpPatch, Session: id, Topic: topic, Key: key, Meta: patch},
		here: func() (err error) {
			tracked, err = r.tracker.Patch(topic, key, id, patch)
			return err
		},
		there: func(_ crdt.Replica, result OpResult) { tracked = *result.Tracked },
	})
	return tracked, err
}

// Untrack is [presence.Tracker.Untrack], wherever the session lives.
func (r *Replicator) Untrack(ctx context.Context, topic presence.Topic, key presence.Key, id presence.SessionID) error {
	return r.route(ctx, id, route{
		op:   Op{Kind: OpUntrack, Session: id, Topic: topic, Key: key},
		here: func() error { return r.tracker.Untrack(topic, key, id) },
	})
}

// Leave is [presence.Tracker.Leave], wherever the session lives.
func (r *Replicator) Leave(ctx context.Context, id presence.SessionID) error {
	return r.route(ctx, id, route{
		op:   Op{Kind: OpLeave, Session: id},
		here: func() error { return r.tracker.Leave(id) },
	})
}

// Heartbeat is [presence.Tracker.Heartbeat], wherever the session lives. Those that go to one node at the same time go together.
func (r *Replicator) Heartbeat(ctx context.Context, id presence.SessionID) (lease presence.Lease, err error) {
	err = r.route(ctx, id, route{
		op: Op{Kind: OpHeartbeat, Session: id},
		here: func() (err error) {
			lease, err = r.tracker.Heartbeat(id)
			return err
		},
		there: func(_ crdt.Replica, result OpResult) { lease = *result.Lease },
	})
	return lease, err
}

// Heartbeats renews the leases of many sessions, wherever they live, and returns those that are unknown.
func (r *Replicator) Heartbeats(ctx context.Context, ids []presence.SessionID) (unknown []presence.SessionID, err error) {
	const together = 256 // that wait for other nodes at the same time, and so travel together
	var (
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
		slot = make(chan struct{}, together)
	)
	renew := func(id presence.SessionID) {
		_, err := r.Heartbeat(ctx, id)
		if err == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(err, presence.ErrUnknownSession) {
			unknown = append(unknown, id)
			return
		}
		errs = append(errs, err)
	}
	for _, id := range ids {
		if r.tracker.Locate(id).Here {
			renew(id)
			continue
		}
		slot <- struct{}{}
		wg.Go(func() {
			defer func() { <-slot }()
			renew(id)
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return inOrder(unknown, ids), nil
}

// inOrder returns those of all that are in some, as they stand in all.
func inOrder(some, all []presence.SessionID) []presence.SessionID {
	in := make(map[presence.SessionID]bool, len(some))
	for _, id := range some {
		in[id] = true
	}
	some = some[:0]
	for _, id := range all {
		if in[id] {
			some = append(some, id)
		}
	}
	return some
}

// Attach is [presence.Tracker.Attach], after the session has been brought here if it lives elsewhere.
func (r *Replicator) Attach(ctx context.Context, q presence.AttachRequest) (binding *presence.Binding, err error) {
	if q.Session == "" {
		return r.tracker.Attach(q)
	}
	err = r.route(ctx, q.Session, route{
		op: Op{Kind: OpHandOver, Session: q.Session},
		here: func() (err error) {
			binding, err = r.tracker.Attach(q)
			return err
		},
		there: func(owner crdt.Replica, result OpResult) {
			if result.State != nil {
				r.tracker.Adopt(owner, *result.State)
			}
		},
		bring: true,
	})
	return binding, err
}

// route is one request for a session, here and there.
type route struct {
	op    Op                                        // asks its owner for the same
	here  func() error                              // does it on this node
	there func(owner crdt.Replica, result OpResult) // takes in the owner's answer, when it has done it; nil if there is nothing in it
	bring bool                                      // it must be done here: what the owner does is to hand the session over
}

// route does a request where the session lives, see DESIGN.md, "Sessions away from home".
func (r *Replicator) route(ctx context.Context, id presence.SessionID, q route) error {
	owner, certain := r.ownerOf(ctx, id)
	for range maxMoves {
		if owner == (crdt.Replica{}) {
			err := q.here()
			moved, ok := errors.AsType[*presence.MovedError](err)
			switch {
			case !certain && errors.Is(err, presence.ErrUnknownSession):
				return presence.ErrUnavailable
			case !ok:
				return err
			}
			owner = moved.Owner
		}
		result, err := r.ask(ctx, owner, q.op)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		moved, isMoved := errors.AsType[*presence.MovedError](result.Err)
		switch {
		case err != nil, isMoved && moved.Owner == r.self: // gone, or given to us, but that got lost
			r.tracker.AdoptKnown(id)
			owner = crdt.Replica{}
		case isMoved:
			owner = moved.Owner
		case errors.Is(result.Err, presence.ErrUnknownSession): // it has ended there, and may have begun anew elsewhere
			r.buried(id, result)
			r.tracker.Abandon(id)
			owner, certain = r.find(ctx, id)
		case q.bring:
			q.there(owner, result)
			owner = crdt.Replica{}
		default:
			if result.Err == nil && q.there != nil {
				q.there(owner, result)
			}
			return result.Err
		}
	}
	r.tracker.AdoptKnown(id)
	return q.here()
}

// buried takes in what another node says of a session that has ended.
func (r *Replicator) buried(id presence.SessionID, result OpResult) {
	if result.State != nil {
		r.tracker.Remember(id, result.State.Earlier)
	}
}

// ask has another replica do an operation. Its error means that it may have, but did not say so.
func (r *Replicator) ask(ctx context.Context, owner crdt.Replica, op Op) (OpResult, error) {
	if !r.reachable(owner) {
		return OpResult{}, errUnreachable
	}
	if op.Kind == OpHeartbeat {
		return r.batches.heartbeat(ctx, owner.Name, op)
	}
	results, err := r.call(ctx, owner.Name, []Op{op})
	if err != nil {
		return OpResult{}, err
	}
	return results[0], nil
}

var errUnreachable = errors.New("the node does not answer")

// call has another node do operations.
func (r *Replicator) call(ctx context.Context, node string, ops []Op) ([]OpResult, error) {
	addr := r.address(node)
	if addr == "" {
		return nil, errUnreachable
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	results, err := r.config.link.ops(limited, addr, Ops{From: r.self, Ops: ops})
	if ctx.Err() == nil { // else it was the client who did not wait
		r.contact(node, err)
	}
	if err != nil {
		r.logger.Debug("a request for a session was not answered", "node", node, "err", err)
	}
	return results, err
}

// ownerOf returns who has a session: the zero replica when that is we, or nobody, which is certain or not. A session whose owner does not answer is taken over.
func (r *Replicator) ownerOf(ctx context.Context, id presence.SessionID) (owner crdt.Replica, certain bool) {
	where := r.tracker.Locate(id)
	switch {
	case where.Here:
		return crdt.Replica{}, true
	case where.Owner == crdt.Replica{}:
		return r.find(ctx, id)
	case !r.reachable(where.Owner):
		r.tracker.AdoptKnown(id)
		return crdt.Replica{}, true
	default:
		return where.Owner, true
	}
}

// find asks other nodes for a session that this one has not heard of: it may be so new that its presences are still on their way, or have none. It is certain that
// nobody has it when everybody who is up, or who made its id, has said so.
func (r *Replicator) find(ctx context.Context, id presence.SessionID) (owner crdt.Replica, certain bool) {
	if id.MayBeFrom(r.self.Name) {
		return crdt.Replica{}, true // we made it, and it has ended
	}
	peers, silent := r.peers()
	certain = len(silent) == 0
	for _, peer := range append(slices.Clone(peers), silent...) {
		if id.MayBeFrom(peer) {
			certain = !slices.Contains(silent, peer)
			peers = slices.DeleteFunc(peers, func(other string) bool { return other != peer })
			break
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	type answer struct {
		owner crdt.Replica
		err   error
	}
	answers := make(chan answer, len(peers))
	for _, peer := range peers {
		go func() {
			results, err := r.call(ctx, peer, []Op{{Kind: OpFind, Session: id}})
			switch {
			case err != nil:
				answers <- answer{err: err}
			case results[0].Err == nil:
				answers <- answer{owner: r.present(peer)}
			default:
				r.buried(id, results[0])
				answers <- answer{}
			}
		}()
	}
	for range peers {
		a := <-answers
		if a.owner != (crdt.Replica{}) {
			return a.owner, true
		}
		certain = certain && a.err == nil
	}
	return crdt.Replica{}, certain
}

// present returns the run of a node that was heard of last.
func (r *Replicator) present(node string) crdt.Replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	replica, _ := r.view.Present(node)
	return replica
}

// doOp does an operation for another node, if the session lives here.
func (r *Replicator) doOp(from crdt.Replica, op Op) OpResult {
	t := r.tracker
	if op.Kind == OpAdopt {
		t.Adopt(from, *op.State)
		return OpResult{}
	}
	if where := t.Locate(op.Session); !where.Here {
		return r.elsewhere(from, op, where)
	}
	switch op.Kind {
	case OpTrack:
		tracked, err := t.Track(presence.TrackRequest{Topic: op.Topic, Key: op.Key, Session: op.Session, Meta: op.Meta, TTL: op.TTL})
		return trackedResult(tracked, false, err)
	case OpUpdate:
		tracked, created, err := t.Update(op.Topic, op.Key, op.Session, op.Meta)
		return trackedResult(tracked, created, err)
	case OpPatch:
		tracked, err := t.Patch(op.Topic, op.Key, op.Session, op.Meta)
		return trackedResult(tracked, false, err)
	case OpUntrack:
		return OpResult{Err: t.Untrack(op.Topic, op.Key, op.Session)}
	case OpLeave:
		return OpResult{Err: t.Leave(op.Session)}
	case OpHeartbeat:
		lease, err := t.Heartbeat(op.Session)
		if err != nil {
			return OpResult{Err: err}
		}
		return OpResult{Lease: &lease}
	case OpFind:
		return OpResult{}
	case OpHandOver:
		state, err := t.HandOver(op.Session, from)
		if err != nil {
			return OpResult{Err: err}
		}
		return OpResult{State: &state}
	default:
		return OpResult{Err: errUnknownOp}
	}
}

// elsewhere answers for a session that does not live here: who has it, as far as that is known, or that it has ended.
func (r *Replicator) elsewhere(from crdt.Replica, op Op, where presence.Location) OpResult {
	ended := r.tracker.Obituary(op.Session)
	switch {
	case where.Moved:
		return OpResult{Err: &presence.MovedError{Owner: where.Owner}}
	case len(ended) > 0:
		return OpResult{Err: presence.ErrUnknownSession, State: &presence.SessionState{ID: op.Session, Earlier: ended}}
	case where.Owner != (crdt.Replica{}) && where.Owner != from && op.Kind != OpFind:
		return OpResult{Err: &presence.MovedError{Owner: where.Owner}}
	default:
		return OpResult{Err: presence.ErrUnknownSession}
	}
}

// errUnknownOp answers an operation of a later version.
var errUnknownOp = errors.New("unknown operation")

func trackedResult(tracked presence.Tracked, created bool, err error) OpResult {
	if err != nil {
		return OpResult{Err: err}
	}
	return OpResult{Tracked: &tracked, Created: created}
}
