package stream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/presence"
)

// ErrDraining is returned by [Hub.Serve], before it has written anything, when the hub takes no new streams.
var ErrDraining = errors.New("draining")

// resumeFor is how long frames are kept, and a feed without subscribers.
const resumeFor = time.Minute

// Config configures a [Hub]. Only Tracker must be set.
type Config struct {
	Tracker *presence.Tracker
	// Window is how far apart a topic's diffs are at least, while it changes. Default 50 ms; negative sends each change by itself, at once.
	Window time.Duration
	// KeepAlive is how long a stream is silent before it gets a comment. Default 15 s.
	KeepAlive time.Duration
	// WriteTimeout is how long a client may take nothing before it is cut off; it may be half as long again. Default 10 s.
	WriteTimeout time.Duration
	// ResumeBytes bounds the memory of the diffs kept for clients that reconnect or are slow. Default 64 MiB.
	ResumeBytes int64
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.Window, 50 * time.Millisecond}, {&c.KeepAlive, 15 * time.Second}, {&c.WriteTimeout, 10 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.ResumeBytes == 0 {
		c.ResumeBytes = 64 << 20
	}
}

func (c *Config) validate() error {
	var errs []error
	if c.Tracker == nil {
		errs = append(errs, errors.New("there is no tracker"))
	}
	if c.KeepAlive < 0 || c.WriteTimeout < 0 || c.ResumeBytes < 0 {
		errs = append(errs, errors.New("keep-alive, write timeout and resume bytes must not be negative"))
	}
	return errors.Join(errs...)
}

// Hub serves the streams of one node.
type Hub struct {
	config   Config
	epoch    string
	maxBatch int           // bytes; see defaultMaxBatch
	seq      atomic.Uint64 // of the last frame; all up to it are in the logs

	mu          sync.Mutex
	feeds       map[presence.Topic]*feed
	subscribers map[*subscriber]struct{}
	draining    bool
	drained     chan struct{} // closed when draining and no subscriber is left
	drainedOnce sync.Once

	commitMu sync.Mutex
	kept     []keptFrame // every frame in a log, oldest first
	keptSize atomic.Int64

	publishers sync.WaitGroup
	counters
}

// keptFrame names a frame in a feed's log.
type keptFrame struct {
	feed *feed
	seq  uint64
	at   time.Time
}

type counters struct {
	opened, resumed, frames, events, bytes, resets, cutOff atomic.Uint64
}

// Open returns a hub that serves.
func Open(config Config) (*Hub, error) {
	config.setDefaults()
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("stream: config: %w", err)
	}
	var epoch [4]byte
	rand.Read(epoch[:]) // never fails
	return &Hub{
		config:      config,
		epoch:       hex.EncodeToString(epoch[:]),
		maxBatch:    defaultMaxBatch,
		feeds:       map[presence.Topic]*feed{},
		subscribers: map[*subscriber]struct{}{},
		drained:     make(chan struct{}),
	}, nil
}

// subscribe registers a stream that begins.
func (h *Hub) subscribe(topics []presence.Topic, lastID string) (*subscriber, error) {
	s := &subscriber{hub: h, fresh: true, wake: make(chan struct{}, 1), end: make(chan struct{})}
	if seq := parseID(lastID, h.epoch); seq <= h.seq.Load() {
		s.cursor = seq
	}
	h.mu.Lock()
	if h.draining {
		h.mu.Unlock()
		return nil, ErrDraining
	}
	h.subscribers[s] = struct{}{}
	for _, topic := range topics {
		s.feeds = append(s.feeds, h.acquireLocked(topic))
	}
	h.mu.Unlock()
	for _, f := range s.feeds {
		f.add(s)
	}
	h.opened.Add(1)
	return s, nil
}

// acquireLocked returns the topic's feed, made now if there is none, for one more subscriber.
func (h *Hub) acquireLocked(topic presence.Topic) *feed {
	f := h.feeds[topic]
	if f == nil {
		f = h.newFeed(topic)
		h.feeds[topic] = f
	}
	if f.retire != nil {
		f.retire.Stop()
		f.retire = nil
	}
	f.refs++
	return f
}

func (h *Hub) newFeed(topic presence.Topic) *feed {
	f := &feed{hub: h, topic: topic, subscribers: map[*subscriber]struct{}{}}
	f.mu.Lock() // changed may run before the rest is set
	defer f.mu.Unlock()
	grouping := presence.Net
	if h.config.Window < 0 {
		grouping = presence.Each
	}
	f.sub = h.config.Tracker.Subscribe(topic, grouping, f.changed)
	h.commitMu.Lock()
	defer h.commitMu.Unlock()
	f.floor = h.seq.Load() + 1 // taken by the feed itself, so that no cursor from before it is within its log
	f.head.Store(f.floor)
	h.seq.Store(f.floor)
	return f
}

// unsubscribe takes a stream out that has ended.
func (h *Hub) unsubscribe(s *subscriber) {
	for _, f := range s.feeds {
		f.remove(s)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range s.feeds {
		if f.refs--; f.refs == 0 && h.feeds[f.topic] == f {
			f.retire = time.AfterFunc(resumeFor, func() { h.retire(f) })
		}
	}
	delete(h.subscribers, s)
	h.endIfDrainedLocked()
}

// retire ends a feed that has had no subscriber for long.
func (h *Hub) retire(f *feed) {
	h.mu.Lock()
	unused := f.refs == 0 && h.feeds[f.topic] == f
	if unused {
		delete(h.feeds, f.topic)
	}
	h.mu.Unlock()
	if unused {
		h.keptSize.Add(-f.close())
	}
}

// commit gives a frame the next number. The feed must put it into its log before it lets go of its lock.
func (h *Hub) commit(f *feed, fr *frame) {
	h.commitMu.Lock()
	seq := h.seq.Load() + 1
	fr.number(h.epoch, seq)
	h.kept = append(h.kept, keptFrame{f, seq, time.Now()})
	f.head.Store(seq)
	h.seq.Store(seq)
	h.commitMu.Unlock()
	h.frames.Add(1)
	h.keptSize.Add(fr.size())
}

// trim forgets the frames that are too old or too many. The latest is always kept.
func (h *Hub) trim() {
	for {
		h.commitMu.Lock()
		if len(h.kept) < 2 || h.keptSize.Load() <= h.config.ResumeBytes && time.Since(h.kept[0].at) < resumeFor {
			h.commitMu.Unlock()
			return
		}
		oldest := h.kept[0]
		h.kept = h.kept[1:]
		h.commitMu.Unlock()
		h.keptSize.Add(-oldest.feed.forget(oldest.seq))
	}
}

// Drain refuses new streams and ends the open ones at random moments within spread, or sooner when they are few, so that their clients do
// not all come back at once. It returns when all have ended, or with ctx's error.
func (h *Hub) Drain(ctx context.Context, spread time.Duration) error {
	const apart = 5 * time.Millisecond // on average: what any next node can take
	h.mu.Lock()
	h.drainLocked()
	spread = min(spread, time.Duration(len(h.subscribers))*apart)
	for s := range h.subscribers {
		time.AfterFunc(mathrand.N(spread+1), s.stop)
	}
	h.mu.Unlock()
	select {
	case <-h.drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stream: drain: %w", context.Cause(ctx))
	}
}

func (h *Hub) drainLocked() {
	h.draining = true
	h.endIfDrainedLocked()
}

// endIfDrainedLocked announces that the last stream has ended.
func (h *Hub) endIfDrainedLocked() {
	if h.draining && len(h.subscribers) == 0 {
		h.drainedOnce.Do(func() { close(h.drained) })
	}
}

// Close stops publishing and makes what is left end at once. It does not wait for streams that are within a write.
func (h *Hub) Close() {
	h.mu.Lock()
	h.drainLocked()
	for s := range h.subscribers {
		s.stop()
	}
	feeds := slices.Collect(maps.Values(h.feeds))
	for _, f := range feeds {
		if f.retire != nil {
			f.retire.Stop()
		}
	}
	clear(h.feeds)
	h.mu.Unlock()
	for _, f := range feeds {
		f.close()
	}
	h.publishers.Wait()
}

// Stats are figures for metrics: what there is now, and what happened since the hub was opened.
type Stats struct {
	Streams   int
	Feeds     int   // topics that are followed
	KeptBytes int64 // of diffs

	Opened  uint64 // streams
	Resumed uint64 // streams that began with diffs alone
	Frames  uint64 // diffs that were encoded
	Events  uint64 // that were sent
	Bytes   uint64 // that were sent
	Resets  uint64 // states that were sent in place of diffs, to clients that were too slow
	CutOff  uint64 // streams whose client took nothing for too long
}

// Stats returns the hub's figures. They are not of one moment.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	streams, feeds := len(h.subscribers), len(h.feeds)
	h.mu.Unlock()
	return Stats{
		Streams: streams, Feeds: feeds, KeptBytes: h.keptSize.Load(),
		Opened: h.opened.Load(), Resumed: h.resumed.Load(), Frames: h.frames.Load(), Events: h.events.Load(), Bytes: h.bytes.Load(),
		Resets: h.resets.Load(), CutOff: h.cutOff.Load(),
	}
}
