package replication

import (
	"context"
	"sync"
)

// maxBatch bounds how many heartbeats travel together.
const maxBatch = 1000

// batches gathers the heartbeats for each node while one request with earlier ones is under way.
type batches struct {
	r  *Replicator
	mu sync.Mutex
	of map[string]*batch
}

type batch struct {
	waiting []*heartbeat
	busy    bool // a goroutine brings them
}

// heartbeat waits for its result.
type heartbeat struct {
	op     Op
	result OpResult
	err    error
	done   chan struct{} // closed when there is a result
}

func newBatches(r *Replicator) *batches { return &batches{r: r, of: map[string]*batch{}} }

// heartbeat has another node renew a lease.
func (b *batches) heartbeat(ctx context.Context, node string, op Op) (OpResult, error) {
	h := &heartbeat{op: op, done: make(chan struct{})}
	b.mu.Lock()
	waiting := b.of[node]
	if waiting == nil {
		waiting = &batch{}
		b.of[node] = waiting
	}
	waiting.waiting = append(waiting.waiting, h)
	if !waiting.busy {
		waiting.busy = true
		b.r.wg.Go(func() { b.bring(node, waiting) })
	}
	b.mu.Unlock()
	select {
	case <-h.done:
		return h.result, h.err
	case <-ctx.Done():
		return OpResult{}, context.Cause(ctx)
	}
}

// bring is a goroutine that brings a node what waits for it, until nothing does.
func (b *batches) bring(node string, waiting *batch) {
	for {
		b.mu.Lock()
		n := min(len(waiting.waiting), maxBatch)
		if n == 0 {
			waiting.busy = false
			b.mu.Unlock()
			return
		}
		together := waiting.waiting[:n:n]
		waiting.waiting = waiting.waiting[n:]
		b.mu.Unlock()

		ops := make([]Op, n)
		for i, h := range together {
			ops[i] = h.op
		}
		results, err := b.r.call(b.r.ctx, node, ops)
		for i, h := range together {
			if h.err = err; err == nil {
				h.result = results[i]
			}
			close(h.done)
		}
	}
}
