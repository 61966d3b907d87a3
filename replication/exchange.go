package replication

import (
	"context"
	"sync"
	"time"
)

// patience is how long a request to another node may go without progress. It is longer than what a slow network needs, and short enough that what waits for it can be
// done otherwise.
const patience = 3 * time.Second

// exchangeWith asks a member for what we lack, and brings it what it lacks, unless that is under way. Several may wait for one member that does not answer: then the next is on
// a new connection, which works as soon as the network does.
func (r *Replicator) exchangeWith(id string) {
	if r.answering.has(id) {
		return
	}
	err := r.exchangeOnce(r.ctx, id)
	if r.ctx.Err() != nil {
		return
	}
	r.contact(id, err)
	if err != nil {
		r.logger.Debug("exchange failed", "node", id, "err", err)
	}
}

func (r *Replicator) exchangeOnce(ctx context.Context, id string) error {
	addr := r.address(id)
	if addr == "" {
		return nil // it was removed meanwhile
	}
	ctx, progress, stop := withPatience(ctx)
	defer stop()
	var (
		theirs Digests
		begun  bool
	)
	received := func() {}
	defer func() {
		if begun {
			r.answering.remove(id)
		}
		received()
	}()
	ask, whole := r.asking()
	err := r.config.link.exchange(ctx, addr, ask,
		func(d Digests) {
			progress()
			theirs, begun = d, true
			r.answering.add(id)
			if whole {
				received = r.receiving()
			}
			r.receive(d.Beats)
			r.contact(id, nil)
		},
		func(part Part) {
			progress()
			r.merge(part)
		})
	if err != nil {
		return err
	}
	received()
	if whole {
		r.sync()
	}
	empty := true
	for range r.repair(theirs) {
		empty = false
		break
	}
	if empty {
		return nil
	}
	return r.config.link.repair(ctx, addr, r.greeting(), func(yield func(Part) bool) {
		for part := range r.repair(theirs) {
			progress()
			if !yield(part) {
				return
			}
		}
	})
}

// answering counts the exchanges with each member in which it has begun to answer: a long answer need not be asked for again meanwhile.
type answering struct {
	mu sync.Mutex
	of map[string]int
}

func (a *answering) has(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.of[id] > 0
}

func (a *answering) add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = map[string]int{}
	}
	a.of[id]++
}

func (a *answering) remove(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of[id]--; a.of[id] == 0 {
		delete(a.of, id)
	}
}

// asking is what we say when we ask, and whether we ask for anything. What a node lacks everybody would bring it at the same time, and the longer that takes the more of
// them; so while one does, it asks no other.
func (r *Replicator) asking() (ask Digests, whole bool) {
	if r.incoming.Load() > 0 {
		return r.greeting(), false
	}
	return r.digests(), true
}

// receiving notes that another node brings what we lack, until the returned function is called.
func (r *Replicator) receiving() (received func()) {
	r.incoming.Add(1)
	return sync.OnceFunc(func() { r.incoming.Add(-1) })
}

// withPatience returns a context that ends when progress is not called for patience.
func withPatience(parent context.Context) (ctx context.Context, progress, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	timer := time.AfterFunc(patience, cancel)
	return ctx, func() { timer.Reset(patience) }, func() {
		timer.Stop()
		cancel()
	}
}
