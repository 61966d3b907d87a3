package protocol

import "time"

// clock turns the caller's time into that on which silence is judged: it stands still while the process does.
type clock struct {
	stall   time.Duration // a time without a reading from which on the process must have been stopped
	step    time.Duration // what such a time counts
	last    time.Duration // the caller's
	stopped time.Duration
}

// read returns the time on which silence is judged. Callers that read their clocks before they take turns may come in a slightly wrong order.
func (c *clock) read(now time.Duration) time.Duration {
	now = max(now, c.last)
	if gap := now - c.last; gap > c.stall {
		c.stopped += gap - c.step
	}
	c.last = now
	return now - c.stopped
}
