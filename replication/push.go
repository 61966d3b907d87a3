package replication

import (
	"context"
	"sync"
	"time"
)

const (
	// pushInterval is how far apart pushes are at least, while there are changes. The first one after a quiet time goes at once.
	pushInterval = 5 * time.Millisecond
	// maxPushItems bounds a push. What is more is left to an exchange, which cuts it into parts.
	maxPushItems = 5000
	// maxQueued bounds the pushes that wait for one member, and maxInFlight those that are under way to it.
	maxQueued   = 64
	maxInFlight = 4
)

// broadcaster sends every member what changes here.
type broadcaster struct {
	r    *Replicator
	wake chan struct{}

	mu      sync.Mutex
	senders map[string]*sender
}

// sender brings pushes to one member. Its goroutines live while there are any.
type sender struct {
	queue    [][]byte // encoded
	inFlight int
}

func newBroadcaster(r *Replicator) *broadcaster {
	return &broadcaster{r: r, wake: make(chan struct{}, 1), senders: map[string]*sender{}}
}

// changed tells the broadcaster that there is something to take. It does not block.
func (b *broadcaster) changed() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// run is the broadcaster's goroutine.
func (b *broadcaster) run() {
	for {
		select {
		case <-b.r.ctx.Done():
			return
		case <-b.wake:
		}
		b.flush()
		select {
		case <-b.r.ctx.Done():
			return
		case <-time.After(pushInterval):
		}
	}
}

// flush sends what has changed.
func (b *broadcaster) flush() {
	parts := b.r.tracker.TakeChanges()
	peers, _ := b.r.peers()
	if len(parts) == 0 || len(peers) == 0 {
		return
	}
	items := 0
	for _, part := range parts {
		items += len(part.Delta.Items) + len(part.Delta.Removals)
	}
	if items > maxPushItems {
		for _, id := range peers {
			b.r.wg.Go(func() { b.r.exchangeWith(id) })
		}
		return
	}
	encoded, err := marshalPush(Push{From: b.r.self, Parts: parts})
	if err != nil {
		b.r.logger.Error("a change cannot be encoded; other nodes get it later", "err", err)
		return
	}
	for _, id := range peers {
		b.offer(id, encoded)
	}
}

// offer queues a push for a member. One that does not keep up loses its oldest, and gets it by an exchange.
func (b *broadcaster) offer(id string, encoded []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.senders[id]
	if s == nil {
		s = &sender{}
		b.senders[id] = s
	}
	if len(s.queue) == maxQueued {
		s.queue = s.queue[1:]
	}
	s.queue = append(s.queue, encoded)
	if s.inFlight < maxInFlight {
		s.inFlight++
		b.r.wg.Go(func() { b.send(id, s) })
	}
}

// send is a goroutine that empties a member's queue.
func (b *broadcaster) send(id string, s *sender) {
	for {
		b.mu.Lock()
		if len(s.queue) == 0 || b.r.ctx.Err() != nil {
			s.inFlight--
			b.mu.Unlock()
			return
		}
		encoded := s.queue[0]
		s.queue = s.queue[1:]
		b.mu.Unlock()
		b.r.pushTo(id, encoded)
	}
}

func (r *Replicator) pushTo(id string, encoded []byte) {
	addr := r.address(id)
	if addr == "" {
		return // it was removed meanwhile
	}
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	err := r.config.link.push(ctx, addr, encoded)
	if r.ctx.Err() != nil {
		return
	}
	r.contact(id, err)
	if err != nil {
		r.logger.Debug("push failed", "node", id, "err", err)
	}
}
