package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/replication/protocol"
)

// handOverBatch is how many sessions go to a peer in one request.
const handOverBatch = 200

// HandOver gives every session that lives here to a peer, each with all it has, so that nobody sees a diff when this node stops. It returns how many went, and an
// error when there is nobody who took the others: those stay here.
func (r *Replicator) HandOver(ctx context.Context) (handed int, err error) {
	for {
		ids := r.tracker.Sessions()
		peers, _ := r.peers()
		if len(ids) == 0 {
			return handed, nil
		}
		if len(peers) == 0 {
			return handed, fmt.Errorf("%d sessions stay, as no other node answers", len(ids))
		}
		went := r.handOverTo(ctx, peers, ids)
		handed += went
		switch {
		case ctx.Err() != nil:
			return handed, context.Cause(ctx)
		case went == 0:
			return handed, fmt.Errorf("%d sessions stay, as no other node takes them", len(ids))
		}
	}
}

// handOverTo gives sessions to peers in turn, and returns how many went. What a peer did not take is here again.
func (r *Replicator) handOverTo(ctx context.Context, peers []string, ids []presence.SessionID) (went int) {
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	const abreast = 4
	slot := make(chan struct{}, abreast)
	for i := 0; len(ids) > 0; i++ {
		batch := ids[:min(handOverBatch, len(ids))]
		ids = ids[len(batch):]
		slot <- struct{}{}
		wg.Go(func() {
			defer func() { <-slot }()
			n := r.handOverBatch(ctx, peers[i%len(peers)], batch)
			mu.Lock()
			went += n
			mu.Unlock()
		})
	}
	wg.Wait()
	return went
}

func (r *Replicator) handOverBatch(ctx context.Context, peer string, ids []presence.SessionID) (went int) {
	to := r.present(peer)
	var ops []Op
	for _, id := range ids {
		if state, err := r.tracker.HandOver(id, to); err == nil { // else it has ended or moved meanwhile
			ops = append(ops, Op{Kind: OpAdopt, Session: id, State: &state})
		}
	}
	if len(ops) == 0 {
		return 0
	}
	results, err := r.call(ctx, peer, ops)
	for i, op := range ops {
		if err == nil && results[i].Err == nil {
			went++
			continue
		}
		r.tracker.AdoptKnown(op.Session)
	}
	return went
}

// Farewell tells all peers that this node stops and has nothing left, so that nobody waits for it. Before that it makes sure that they know who has its sessions now.
func (r *Replicator) Farewell(ctx context.Context) {
	peers, _ := r.peers()
	r.withAll(peers, func(id string) error { return r.exchangeOnce(ctx, id) })
	r.withAll(peers, func(id string) error { return r.exchangeOnce(ctx, id) }) // with what the first round brought from others
	if r.tracker.Stats().Held > 0 {
		return // somebody did not take his share: it is hidden when this node is missed, and comes back with it
	}
	r.statusMu.Lock()
	r.leaving = true
	r.statusMu.Unlock()
	r.tick(r.status())
	r.withAll(peers, func(id string) error { return r.exchangeOnce(ctx, id) })
}

func (r *Replicator) withAll(peers []string, do func(id string) error) {
	var wg sync.WaitGroup
	for _, id := range peers {
		wg.Go(func() {
			if err := do(id); err != nil {
				r.logger.Debug("a farewell was not heard", "node", id, "err", err)
			}
		})
	}
	wg.Wait()
}

// Greet asks other nodes, before this one has a tracker, for the highest incarnation of it that they have heard of: 0 when they know none, or do not answer. A disk that was
// set back to an earlier state would otherwise make this node repeat itself.
func Greet(ctx context.Context, config Config, self crdt.Replica, addrs []string) (highest uint64) {
	config.setDefaults()
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, addr := range addrs {
		wg.Go(func() {
			err := config.link.exchange(ctx, addr, Digests{From: self}, func(d Digests) {
				mu.Lock()
				defer mu.Unlock()
				highest = max(highest, incarnationOf(self.Name, d.Beats))
			}, func(Part) {})
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				config.Logger.Debug("a greeting was not answered", "addr", addr, "err", err)
			}
		})
	}
	wg.Wait()
	return highest
}

func incarnationOf(node string, beats []protocol.Beat) (highest uint64) {
	for _, beat := range beats {
		if beat.Replica.Name == node {
			highest = max(highest, beat.Replica.Incarnation)
		}
	}
	return highest
}
