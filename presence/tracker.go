package presence

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"rollcall/presence/crdt"
)

const (
	// Shards is how many parts the topics are in. Nodes that replicate to one another need the same number.
	Shards  = 16
	stripes = 64
)

// Config configures a [Tracker]. Only Replica must be set.
type Config struct {
	Replica    crdt.Replica
	DefaultTTL time.Duration // of a session that asks for none. Default 30 s
	MinTTL     time.Duration // default 1 s
	MaxTTL     time.Duration // default 1 h
	// MaxMetaBytes bounds one meta, as compact JSON. Default 4096.
	MaxMetaBytes int
	// WallClock tells the time for refs and for Lease.ExpiresAt, and for nothing else. Default time.Now.
	WallClock func() time.Time
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.DefaultTTL, 30 * time.Second}, {&c.MinTTL, time.Second}, {&c.MaxTTL, time.Hour}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.MaxMetaBytes == 0 {
		c.MaxMetaBytes = 4096
	}
	if c.WallClock == nil {
		c.WallClock = time.Now
	}
}

func (c *Config) validate() error {
	var errs []error
	if c.Replica.Name == "" {
		errs = append(errs, errors.New("the replica has no name"))
	}
	if c.MinTTL < sweepInterval {
		errs = append(errs, fmt.Errorf("min ttl %v is below %v", c.MinTTL, sweepInterval))
	}
	if c.MinTTL > c.DefaultTTL || c.DefaultTTL > c.MaxTTL {
		errs = append(errs, fmt.Errorf("default ttl %v is not between min ttl %v and max ttl %v", c.DefaultTTL, c.MinTTL, c.MaxTTL))
	}
	if c.MaxMetaBytes < len(emptyMeta) {
		errs = append(errs, fmt.Errorf("max meta %d bytes is below %d", c.MaxMetaBytes, len(emptyMeta)))
	}
	return errors.Join(errs...) // every mistake at once
}

// Tracker knows who is in which topic, and ends what is not renewed. Its methods may be called from any goroutine.
type Tracker struct {
	config   Config
	clock    *clock
	refs     *refClock
	hint     string // begins the ids of the sessions that this node makes
	keys     *keyIndex
	sessions *sessionIndex
	shards   [Shards]*shard
	stripes  [stripes]stripe
	counters
	replicated atomic.Bool // there may be other nodes
	frozen     atomic.Bool // nobody's time runs out any more

	stop chan struct{} // closed by Close
	wg   sync.WaitGroup
}

type counters struct {
	tracks, updates, untracks, expired, heartbeats, adopted atomic.Uint64
}

// Open returns a tracker that is running.
func Open(config Config) (*Tracker, error) {
	config.setDefaults()
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("presence: config: %w", err)
	}
	t := &Tracker{
		config:   config,
		clock:    newClock(),
		refs:     newRefClock(config.Replica, config.WallClock),
		hint:     hintOf(config.Replica.Name),
		keys:     newKeyIndex(),
		sessions: newSessionIndex(),
		stop:     make(chan struct{}),
	}
	for i := range t.shards {
		t.shards[i] = newShard(config.Replica, t.refs, t.keys, t.sessions)
	}
	for i := range t.stripes {
		t.stripes[i].sessions, t.stripes[i].away = map[SessionID]*session{}, map[SessionID]*session{}
	}
	t.wg.Go(t.sweepAll)
	return t, nil
}

// Close stops ending sessions and waits until that has stopped. Nobody leaves.
func (t *Tracker) Close() {
	close(t.stop)
	t.wg.Wait()
}

// Freeze lets no session run out from now on: the node is about to stop, and what it would end then is for those to decide who have it afterwards.
func (t *Tracker) Freeze() { t.frozen.Store(true) }

// sweepAll is the sweeper's goroutine.
func (t *Tracker) sweepAll() {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-ticker.C:
			t.sweep(t.clock.now())
		}
	}
}

// sweep looks at the sessions whose time may have come.
func (t *Tracker) sweep(now time.Duration) {
	const batch = 256 // so that nobody waits long for the lock when very many end at once
	for i := range t.stripes {
		st := &t.stripes[i]
		st.mu.Lock()
		for n, s := range st.wheel.collect(now) {
			if n%batch == batch-1 {
				st.mu.Unlock()
				st.mu.Lock()
			}
			t.sweepSessionLocked(st, s, now)
		}
		st.obituaries.expire(now)
		st.mu.Unlock()
	}
}

// sweepSessionLocked ends what has run out of one session, and sees to it that the rest is looked at in time.
func (t *Tracker) sweepSessionLocked(st *stripe, s *session, now time.Duration) {
	if t.frozen.Load() {
		return
	}
	if st.sweepLocked(s, now, t.untrack) {
		t.expired.Add(1)
		t.buryLocked(st, s, now)
	}
}

// ShardOf returns the shard that a topic is in, on every node.
func ShardOf(topic Topic) int { return int(xxhash.Sum64String(string(topic)) % Shards) }

func (t *Tracker) shard(topic Topic) *shard {
	return t.shards[ShardOf(topic)]
}

func (t *Tracker) stripe(session SessionID) *stripe {
	return &t.stripes[xxhash.Sum64String(string(session))%stripes]
}

// newSessionID returns an unguessable id that begins with a hint of the node that owns the session.
func (t *Tracker) newSessionID() SessionID { return SessionID(t.hint + rand.Text()) }

// hintOf returns what the ids of the sessions begin with that a node makes.
func hintOf(node string) string {
	sum := sha256.Sum256([]byte(node))
	return base32.StdEncoding.EncodeToString(sum[:5])[:4]
}

// untrack removes a presence, if it is there.
func (t *Tracker) untrack(id triple, onlyOurs bool) {
	t.shard(id.topic).remove(id, onlyOurs)
	t.untracks.Add(1)
}
