package presence

import "time"

// holding is one presence as its session sees it.
type holding struct {
	place
	byStream bool          // tracked for the life of a stream
	streams  int           // open ones that hold it
	until    time.Duration // on the tracker's clock: when it ends, with no stream that holds it; 0 when it ends with its session
}

// manyHoldings is the number from which on a session's presences are found by a map: most sessions have one or two.
const manyHoldings = 16

// holdings are the presences of one session.
type holdings struct {
	list  []holding
	index map[place]int // into list; nil while there are few
}

// get returns the holding at p, or nil. It is valid until the next add or remove.
func (h *holdings) get(p place) *holding {
	if i := h.find(p); i >= 0 {
		return &h.list[i]
	}
	return nil
}

func (h *holdings) find(p place) int {
	if h.index != nil {
		if i, ok := h.index[p]; ok {
			return i
		}
		return -1
	}
	for i := range h.list {
		if h.list[i].place == p {
			return i
		}
	}
	return -1
}

// add puts in a place that is not there and returns its holding, valid until the next add or remove.
func (h *holdings) add(p place) *holding {
	h.list = append(h.list, holding{place: p})
	switch {
	case h.index != nil:
		h.index[p] = len(h.list) - 1
	case len(h.list) > manyHoldings:
		h.index = make(map[place]int, 2*len(h.list))
		for i := range h.list {
			h.index[h.list[i].place] = i
		}
	}
	return &h.list[len(h.list)-1]
}

// remove takes a place out, if it is there, and tells whether it was.
func (h *holdings) remove(p place) bool {
	i := h.find(p)
	if i < 0 {
		return false
	}
	last := len(h.list) - 1
	h.list[i] = h.list[last]
	h.list[last] = holding{}
	h.list = h.list[:last]
	if h.index != nil {
		delete(h.index, p)
		if i != last {
			h.index[h.list[i].place] = i
		}
	}
	return true
}

// due returns the places whose time has come.
func (h *holdings) due(now time.Duration) []place {
	var due []place
	for _, held := range h.list {
		if held.until != 0 && held.until <= now {
			due = append(due, held.place)
		}
	}
	return due
}

// nextEnd returns when the next of them ends before its session.
func (h *holdings) nextEnd() (until time.Duration, ok bool) {
	for _, held := range h.list {
		if held.until != 0 && (!ok || held.until < until) {
			until, ok = held.until, true
		}
	}
	return until, ok
}
