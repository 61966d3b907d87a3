package stream

import "time"

const (
	// writeCost is the server's CPU time to send one small event to one subscriber, and byteCost what each byte adds; measured, see DESIGN section 9.
	writeCost = 8 * time.Microsecond
	byteCost  = time.Nanosecond
	// fanoutShare is the reciprocal of the share of one core that a topic's fan-out may take.
	fanoutShare = 4
	// maxWindow bounds how late a change may be in the largest topic.
	maxWindow = 2 * time.Second
)

// fanout returns how far apart a topic's frames must be for their fan-out to keep to its share of a core: a join storm of N would else
// send N frames to N subscribers.
func fanout(subscribers, frameBytes int) time.Duration {
	each := writeCost + time.Duration(frameBytes)*byteCost
	return min(time.Duration(subscribers)*each*fanoutShare, maxWindow)
}

// window returns how long after a frame of frameBytes the next may follow. A base of 0 or less means no waiting, whatever it costs.
func window(base time.Duration, subscribers, frameBytes int) time.Duration {
	if base <= 0 {
		return 0
	}
	return max(base, fanout(subscribers, frameBytes))
}
