package presence

import (
	"sync"
	"time"
)

// stall is the time without a reading from which on the process must have been stopped: the sweeper reads the clock far more often.
const stall = 2 * time.Second

// clock is what leases run on: the monotonic time since the tracker was opened, less the time in which the process did not run (a suspended
// machine, SIGSTOP). Clients could not renew then, so it does not count against them.
type clock struct {
	mu      sync.Mutex
	start   time.Time // carries the monotonic clock
	last    time.Duration
	stopped time.Duration
}

// newClock returns a clock that no longer reads 0, which stands for "never" elsewhere.
func newClock() *clock { return &clock{start: time.Now().Add(-sweepInterval)} }

// now returns the clock's reading. It never goes back.
func (c *clock) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Since(c.start)
	if gap := now - c.last; gap > stall {
		c.stopped += gap - sweepInterval
	}
	c.last = now
	return now - c.stopped
}
