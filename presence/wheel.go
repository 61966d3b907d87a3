package presence

import "time"

const (
	// sweepInterval is how often sessions that have run out are ended, and so how late an end may be.
	sweepInterval = 100 * time.Millisecond
	// wheelSlots times sweepInterval is how far ahead the wheel reaches: most leases are shorter. What is later is looked at on the way.
	wheelSlots = 1024
)

// wheel tells when to look at which session: a timing wheel (Varghese and Lauck, 1987) in which nothing is ever moved. A renewed
// session stays where it is and is put in anew when its slot comes up.
type wheel struct {
	slots [wheelSlots][]*session
	tick  int64 // of the slot that was collected last
}

// schedule asks to look at s no earlier than at, and no later than sweepInterval after it, if that is sooner than what was asked before.
func (w *wheel) schedule(s *session, at time.Duration) {
	tick := int64((at + sweepInterval - 1) / sweepInterval)
	tick = max(tick, w.tick+1)
	tick = min(tick, w.tick+wheelSlots-1)
	if s.tick != 0 && s.tick <= tick {
		return
	}
	s.tick = tick
	slot := &w.slots[tick%wheelSlots]
	*slot = append(*slot, s)
}

// collect returns the sessions to look at until now. They are no longer scheduled.
func (w *wheel) collect(now time.Duration) []*session {
	var due []*session
	for upto := int64(now / sweepInterval); w.tick < upto; {
		w.tick++
		slot := &w.slots[w.tick%wheelSlots]
		for _, s := range *slot {
			if s.tick == w.tick { // else it was asked for sooner, and that was done
				s.tick = 0
				due = append(due, s)
			}
		}
		*slot = nil
	}
	return due
}
