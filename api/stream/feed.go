package stream

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/presence"
)

// feed follows one topic for all its subscribers.
type feed struct {
	hub   *Hub
	topic presence.Topic
	sub   *presence.Subscription
	head  atomic.Uint64 // number of the last frame, or the feed's own when there was none

	mu          sync.Mutex
	closed      bool
	subscribers map[*subscriber]struct{}
	log         []*frame // in order of their numbers
	floor       uint64   // the log has every frame with a number above it
	state       *frame   // what was published so far; nil until somebody needs it
	published   time.Time
	lastSize    int         // of the last frame, in bytes
	stateSize   int         // of the last state frame
	next        *time.Timer // set while a frame waits for its window

	refs   int         // subscribers, also those about to register; guarded by the hub's lock
	retire *time.Timer // set while there are none; guarded by the hub's lock
}

// changed is called by the tracker, under its lock, when there is something to publish.
func (f *feed) changed() { f.hub.publishers.Go(f.publish) }

// publish publishes now or, within the window, when that is over.
func (f *feed) publish() {
	defer f.hub.trim()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	wait := time.Until(f.published.Add(window(f.hub.config.Window, len(f.subscribers), f.lastSize)))
	if wait <= 0 {
		f.publishLocked()
		return
	}
	if f.next == nil {
		f.next = time.AfterFunc(wait, f.windowOver)
	}
}

// windowOver publishes what has waited.
func (f *feed) windowOver() {
	defer f.hub.trim()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = nil
	if !f.closed {
		f.publishLocked()
	}
}

// publishLocked puts what the tracker has for the feed into the log and wakes the subscribers.
func (f *feed) publishLocked() {
	news := false
	for diff := f.sub.Take(); !diff.Empty(); diff = f.sub.Take() {
		fr := newFrame(f.topic, diffHead, diff.AppendJSON)
		f.hub.commit(f, fr)
		f.log = append(f.log, fr)
		f.lastSize = len(fr.plain)
		news = true
	}
	if !news {
		return
	}
	f.state = nil
	f.published = time.Now()
	for s := range f.subscribers {
		s.wakeUp()
	}
}

// since returns the frames with numbers above after and up to upto, unless the log no longer reaches back so far, or they are more than the
// state that would do in their place.
func (f *feed) since(after, upto uint64) (frames []*frame, ok bool) {
	if f.head.Load() <= after {
		return nil, true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.floor > after {
		return nil, false
	}
	frames = f.log[f.after(after):f.after(upto)]
	if backlog := sizeOf(frames); backlog > f.hub.maxBatch && backlog > f.stateSize {
		return nil, false
	}
	return slices.Clone(frames), true
}

func sizeOf(frames []*frame) (bytes int) {
	for _, fr := range frames {
		bytes += len(fr.plain)
	}
	return bytes
}

// after returns the index of the first frame in the log with a number above seq.
func (f *feed) after(seq uint64) int {
	i, found := slices.BinarySearchFunc(f.log, seq, func(fr *frame, seq uint64) int { return cmp.Compare(fr.seq, seq) })
	if found {
		return i + 1
	}
	return i
}

// current returns the state frame of what was published so far, and publishes first what waits, if the topic's share of the machine allows.
func (f *feed) current() *frame {
	defer f.hub.trim()
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.published) >= fanout(len(f.subscribers), f.lastSize) {
		f.publishLocked()
	}
	if f.state == nil {
		f.state = newFrame(f.topic, stateHead, f.sub.State().AppendJSON)
		f.state.number(f.hub.epoch, f.head.Load())
		f.stateSize = len(f.state.plain)
	}
	return f.state
}

// forget drops the frames with numbers up to seq and returns the memory that this frees.
func (f *feed) forget(seq uint64) (freed int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.after(seq)
	for _, fr := range f.log[:n] {
		freed += fr.size()
	}
	f.log = slices.Delete(f.log, 0, n)
	f.floor = max(f.floor, seq)
	return freed
}

// add registers a subscriber, remove takes it out.
func (f *feed) add(s *subscriber) {
	f.mu.Lock()
	f.subscribers[s] = struct{}{}
	f.mu.Unlock()
}

func (f *feed) remove(s *subscriber) {
	f.mu.Lock()
	delete(f.subscribers, s)
	f.mu.Unlock()
}

// close ends the feed and returns the memory of its log, which it frees.
func (f *feed) close() (freed int64) {
	f.mu.Lock()
	f.closed = true
	f.sub.Close()
	if f.next != nil {
		f.next.Stop()
	}
	f.mu.Unlock()
	return f.forget(f.head.Load())
}
