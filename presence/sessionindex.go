package presence

import (
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// sessionIndex knows where the sessions of other nodes are present: the places with an entry of another replica.
type sessionIndex struct {
	stripes [indexStripes]sessionIndexStripe
}

type sessionIndexStripe struct {
	mu     sync.Mutex
	places map[SessionID][]place // unordered
}

func newSessionIndex() *sessionIndex {
	x := &sessionIndex{}
	for i := range x.stripes {
		x.stripes[i].places = map[SessionID][]place{}
	}
	return x
}

func (x *sessionIndex) stripe(id SessionID) *sessionIndexStripe {
	return &x.stripes[xxhash.Sum64String(string(id))%indexStripes]
}

// add puts in a place that is not there.
func (x *sessionIndex) add(id triple) {
	s := x.stripe(id.session)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places[id.session] = append(s.places[id.session], place{id.key, id.topic})
}

// remove takes out a place that is there.
func (x *sessionIndex) remove(id triple) {
	s := x.stripe(id.session)
	s.mu.Lock()
	defer s.mu.Unlock()
	places := s.places[id.session]
	i := slices.Index(places, place{id.key, id.topic})
	places[i] = places[len(places)-1]
	places = places[:len(places)-1]
	if len(places) == 0 {
		delete(s.places, id.session)
		return
	}
	s.places[id.session] = places
}

// of returns a session's places, in order.
func (x *sessionIndex) of(id SessionID) []place {
	s := x.stripe(id)
	s.mu.Lock()
	places := slices.Clone(s.places[id])
	s.mu.Unlock()
	slices.SortFunc(places, func(a, b place) int {
		switch {
		case placeLess(a, b):
			return -1
		case placeLess(b, a):
			return 1
		}
		return 0
	})
	return places
}
