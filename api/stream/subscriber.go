package stream

import (
	"cmp"
	"slices"
	"sync"
)

// defaultMaxBatch is about how many bytes a subscriber takes from the logs at once, and so how much of them it can hold on to while its client is slow.
const defaultMaxBatch = 256 << 10

// subscriber is one open stream: a cursor into the logs of its feeds. Its connection's goroutine owns it, but for wake and end.
type subscriber struct {
	hub    *Hub
	feeds  []*feed
	cursor uint64        // the client has everything of its topics up to here
	fresh  bool          // until the first batch
	wake   chan struct{} // has one when a feed has news; never closed
	end    chan struct{} // closed by stop
	once   sync.Once
}

// stop makes the stream end.
func (s *subscriber) stop() { s.once.Do(func() { close(s.end) }) }

// wakeUp says that there is news. It never blocks.
func (s *subscriber) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default: // has not looked since the last time
	}
}

// batch is what a subscriber is to write next.
type batch struct {
	frames []*frame
	states int // how many of frames, at the beginning, are states
	upto   uint64
	more   bool // whether there is more to write at once
}

// nextBatch returns what the client does not have, and moves the cursor: it must be written whole or the stream end. When there is more, it
// wakes the subscriber.
func (s *subscriber) nextBatch() batch {
	b := batch{upto: s.hub.seq.Load()}
	var behind []*feed
	for _, f := range s.feeds {
		frames, ok := f.since(s.cursor, b.upto)
		if !ok {
			behind = append(behind, f)
		}
		b.frames = append(b.frames, frames...)
	}
	if len(behind) > 0 {
		return s.withStates(behind)
	}
	sortFrames(b.frames)
	if n := fitting(b.frames, s.hub.maxBatch); n < len(b.frames) {
		b.frames = b.frames[:n]
		b.upto, b.more = b.frames[n-1].seq, true
		s.wakeUp()
	}
	if s.fresh {
		s.hub.resumed.Add(1)
	}
	s.cursor, s.fresh = b.upto, false
	return b
}

// fitting returns how many of frames make a batch: at least one, if there is one.
func fitting(frames []*frame, maxBatch int) int {
	size := 0
	for i, f := range frames {
		if size += len(f.plain); size > maxBatch {
			return max(i, 1)
		}
	}
	return len(frames)
}

// withStates returns a batch that gives the feeds which are behind their states, and all topics everything up to the latest of those.
func (s *subscriber) withStates(behind []*feed) batch {
	b := batch{upto: s.hub.seq.Load()}
	states := map[*feed]*frame{}
	for len(behind) > 0 {
		for _, f := range behind {
			states[f] = f.current()
			b.upto = max(b.upto, states[f].seq)
		}
		behind, b.frames = nil, nil
		for _, f := range s.feeds {
			after := s.cursor
			if state := states[f]; state != nil {
				after = state.seq
			}
			frames, ok := f.since(after, b.upto)
			if !ok { // its log was cut meanwhile
				behind = append(behind, f)
			}
			b.frames = append(b.frames, frames...)
		}
	}
	sortFrames(b.frames)
	var first []*frame
	for _, f := range s.feeds {
		if state := states[f]; state != nil {
			first = append(first, state)
		}
	}
	b.states, b.frames = len(first), append(first, b.frames...)
	if !s.fresh {
		s.hub.resets.Add(uint64(b.states))
	}
	s.cursor, s.fresh = b.upto, false
	return b
}

func sortFrames(frames []*frame) {
	slices.SortFunc(frames, func(a, b *frame) int { return cmp.Compare(a.seq, b.seq) })
}
