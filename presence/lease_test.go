package presence

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/presence/crdt"
)

const (
	lobby = Topic("lobby")
	s1    = SessionID("session-one-0001")
	s2    = SessionID("session-two-0002")
)

var replica = crdt.Replica{Name: "node", Incarnation: 1}

func openTracker(t *testing.T, config Config) *Tracker {
	t.Helper()
	config.Replica = replica
	tracker, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracker.Close)
	return tracker
}

func mustTrack(t *testing.T, tracker *Tracker, r TrackRequest) Tracked {
	t.Helper()
	tracked, err := tracker.Track(r)
	if err != nil {
		t.Fatalf("Track(%+v) = %v", r, err)
	}
	return tracked
}

func mustAttach(t *testing.T, tracker *Tracker, r AttachRequest) *Binding {
	t.Helper()
	b, err := tracker.Attach(r)
	if err != nil {
		t.Fatalf("Attach(%+v) = %v", r, err)
	}
	return b
}

// wantPresent checks who is in the lobby, and that no other index disagrees.
func wantPresent(t *testing.T, tracker *Tracker, key Key, want bool) {
	t.Helper()
	if got := len(tracker.Get(lobby, key)) > 0; got != want {
		t.Fatalf("at %v: %s present = %v, want %v", tracker.clock.now(), key, got, want)
	}
	if got := len(tracker.TopicsOf(key)) > 0; got != want {
		t.Fatalf("index of keys: %s = %v, want %v", key, got, want)
	}
}

// sleep lets fake time pass and everything that is due happen.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := openTracker(t, Config{})
		mustTrack(t, tracker, TrackRequest{Topic: lobby, Key: "ann", Session: s1})
		sleep(30*time.Second - time.Millisecond)
		wantPresent(t, tracker, "ann", true)
		sleep(sweepInterval + time.Millisecond)
		wantPresent(t, tracker, "ann", false)
		if _, err := tracker.Heartbeat(s1); !errors.Is(err, ErrUnknownSession) {
			t.Fatalf("Heartbeat = %v, want ErrUnknownSession", err)
		}
		if got := tracker.Stats(); got.Expired != 1 || got.Sessions != 0 || got.Presences != 0 || got.Topics != 0 {
			t.Fatalf("Stats = %+v, want one expired and nothing left", got)
		}
	})
}

func TestHeartbeatsKeepASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := openTracker(t, Config{})
		mustTrack(t, tracker, TrackRequest{Topic: lobby, Key: "ann", Session: s1, TTL: 2 * time.Second})
		for range 1000 { // far beyond the reach of the wheel
			sleep(1900 * time.Millisecond)
			if _, err := tracker.Heartbeat(s1); err != nil {
				t.Fatal(err)
			}
		}
		wantPresent(t, tracker, "ann", true)
		sleep(2*time.Second + sweepInterval)
		wantPresent(t, tracker, "ann", false)
	})
}

func TestLeasesOfEveryLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := openTracker(t, Config{})
		for _, ttl := range []time.Duration{time.Second, 102 * time.Second, 103 * time.Second, 10 * time.Minute, time.Hour} {
			id := tracker.newSessionID()
			mustTrack(t, tracker, TrackRequest{Topic: lobby, Key: "ann", Session: id, TTL: ttl})
			sleep(ttl - time.Millisecond)
			wantPresent(t, tracker, "ann", true)
			sleep(time.Millisecond + sweepInterval)
			wantPresent(t, tracker, "ann", false)
		}
	})
}

func TestShorterTTLTakesEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := openTracker(t, Config{})
		mustTrack(t, tracker, TrackRequest{Topic: lobby, Key: "ann", Session: s1, TTL: time.Hour})
		mustTrack(t, tracker, TrackRequest{Topic: lobby, Key: "ann2", Session: s1, TTL: time.Second})
		sleep(time.Second + sweepInterval)
		wantPresent(t, tracker, "ann", false)
	})
}

// TestHeartbeatAtTheMomentOfExpiry lets heartbeats and the sweeper meet: either the session goes on with its ref, or it is wholly gone.
func TestHeartbeatAtTheMomentOfExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := openTracker(t, Config{})
		saved, lost := 0, 0
		for i := range 300 {
			ref := mustTrack(t, tracker, TrackRequest{Topic: lobby, Key: "ann", Session: s1, TTL: time.Second}).Ref
			time.Sleep(time.Second + time.Duration(rand.N(int64(sweepInterval))))
			var wg sync.WaitGroup
			var err error
			wg.Go(func() { _, err = tracker.Heartbeat(s1) })
			wg.Go(func() { tracker.sweep(tracker.clock.now()) })
			wg.Wait()
			metas := tracker.Get(lobby, "ann")
			switch {
			case err == nil:
				saved++
				if len(metas) != 1 || metas[0].Ref != ref {
					t.Fatalf("round %d: heartbeat was taken, yet the presence is %v, want ref %s", i, metas, ref)
				}
				sleep(900 * time.Millisecond)
				wantPresent(t, tracker, "ann", true)
				tracker.Leave(s1)
			case errors.Is(err, ErrUnknownSession):
				lost++
				if len(metas) != 0 {
					t.Fatalf("round %d: heartbeat was refused, yet the presence is there", i)
				}
			default:
				t.Fatal(err)
			}
		}
		t.Logf("saved %d, lost %d", saved, lost)
	})
}

func TestWallClockJumpsExpireNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset time.Duration
		tracker := openTracker(t, Config{WallClock: func() time.Time { return time.Now().Add(offset) }})
		before := mustTrack(t, tracker, TrackRequest{Topic: lobby, Key: "ann", Session: s1}).Ref
		for _, offset = range []time.Duration{24 * 365 * time.Hour, -24 * 365 * time.Hour, 0} {
			sleep(10 * time.Second)
			wantPresent(t, tracker, "ann", true)
			lease, err := tracker.Heartbeat(s1)
			if want := time.Now().Add(offset).Add(30 * time.Second); err != nil || !lease.ExpiresAt.Equal(want) {
				t.Fatalf("ExpiresAt = %v, %v, want %v", lease.ExpiresAt, err, want)
			}
			after := mustTrack(t, tracker, TrackRequest{Topic: lobby, Key: "bob"}).Ref
			if after <= before {
				t.Fatalf("with the wall clock off by %v, ref %s sorts before %s", offset, after, before)
			}
			before = after
		}
		sleep(30*time.Second + sweepInterval)
		wantPresent(t, tracker, "ann", false)
	})
}

func TestStoppedProcessExpiresNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		for range 100 {
			time.Sleep(sweepInterval)
			c.now()
		}
		before := c.now()
		time.Sleep(time.Hour) // nobody reads the clock: as when the process is stopped
		if passed := c.now() - before; passed > stall {
			t.Fatalf("%v passed while the process was stopped", passed)
		}
		before = c.now()
		time.Sleep(time.Second)
		if passed := c.now() - before; passed != time.Second {
			t.Fatalf("then %v passed in a second", passed)
		}
	})
}

func TestLinger(t *testing.T) {
	for name, c := range map[string]struct {
		linger, want time.Duration
	}{"default": {-1, DefaultLinger}, "long": {MaxLinger, MaxLinger}, "none": {0, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracker := openTracker(t, Config{})
				b := mustAttach(t, tracker, AttachRequest{Topics: []Topic{lobby}, Key: "ann", Linger: c.linger})
				sleep(time.Hour) // an open stream renews
				wantPresent(t, tracker, "ann", true)
				b.Close()
				b.Close()
				if c.want > 0 {
					sleep(c.want - time.Millisecond)
					wantPresent(t, tracker, "ann", true)
					sleep(sweepInterval + time.Millisecond)
				}
				wantPresent(t, tracker, "ann", false)
			})
		})
	}
}

func TestStreamComesBackInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := openTracker(t, Config{})
		sub := tracker.Subscribe(lobby, Net, func() {})
		attach := AttachRequest{Topics: []Topic{lobby}, Key: "ann", Session: s1, Linger: -1, Meta: Meta(`{"device":"phone"}`)}
		b := mustAttach(t, tracker, attach)
		_, err := tracker.Patch(lobby, "ann", s1, Meta(`{"status":"away"}`))
		if err != nil {
			t.Fatal(err)
		}
		want := tracker.List(lobby)
		sub.Take()
		for range 20 {
			b.Close()
			sleep(4 * time.Second)
			b = mustAttach(t, tracker, attach)
			sleep(time.Minute)
		}
		if diff := sub.Take(); !diff.Empty() {
			t.Fatalf("watchers saw %s", diff.AppendJSON(nil))
		}
		if got := tracker.List(lobby); string(got.JSON) != string(want.JSON) || got.Version != want.Version {
			t.Fatalf("List = %s, want %s as before", got.JSON, want.JSON)
		}
		b.Close()
		sleep(4 * time.Second)
		if _, err := tracker.Heartbeat(s1); err != nil {
			t.Fatalf("heartbeat within linger: %v", err)
		}
		sleep(29 * time.Second)
		wantPresent(t, tracker, "ann", true)
		sleep(time.Second + sweepInterval)
		wantPresent(t, tracker, "ann", false)
	})
}

// TestOneStreamOfSeveralEnds: a presence ends with its own stream although another stream keeps the session.
func TestOneStreamOfSeveralEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := openTracker(t, Config{})
		other := mustAttach(t, tracker, AttachRequest{Topics: []Topic{"attic"}, Key: "ann", Session: s1, Linger: -1})
		mine := mustAttach(t, tracker, AttachRequest{Topics: []Topic{lobby}, Key: "ann", Session: s1, Linger: -1})
		mustTrack(t, tracker, TrackRequest{Topic: "cellar", Key: "ann", Session: s1})
		mine.Close()
		sleep(DefaultLinger - time.Second)
		if len(tracker.Get(lobby, "ann")) == 0 {
			t.Fatal("gone before linger was over")
		}
		sleep(time.Second + sweepInterval)
		if got := tracker.TopicsOf("ann"); len(got) != 2 {
			t.Fatalf("ann is in %v, want attic and cellar", got)
		}
		other.Close()
		sleep(DefaultLinger + sweepInterval)
		if got := tracker.TopicsOf("ann"); got != nil {
			t.Fatalf("ann is in %v after the last stream", got)
		}
	})
}

// TestStreamComesBackForFewerTopics: what only the earlier stream held does not live on with the new one.
func TestStreamComesBackForFewerTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := openTracker(t, Config{})
		mustAttach(t, tracker, AttachRequest{Topics: []Topic{lobby, "attic"}, Key: "ann", Session: s1, Linger: -1}).Close()
		b := mustAttach(t, tracker, AttachRequest{Topics: []Topic{lobby}, Key: "ann", Session: s1, Linger: -1})
		sleep(DefaultLinger + sweepInterval)
		if got := tracker.TopicsOf("ann"); len(got) != 1 || got[0] != lobby {
			t.Fatalf("ann is in %v, want the lobby alone", got)
		}
		b.Close()
	})
}

func TestLeaveWithAStreamOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := openTracker(t, Config{})
		b := mustAttach(t, tracker, AttachRequest{Topics: []Topic{lobby}, Key: "ann", Session: s1, Linger: -1})
		tracker.Leave(s1)
		wantPresent(t, tracker, "ann", false)
		mustTrack(t, tracker, TrackRequest{Topic: lobby, Key: "ann", Session: s1}) // a new session under the old id
		b.Close()
		sleep(DefaultLinger + time.Second)
		wantPresent(t, tracker, "ann", true) // has a lease of its own
	})
}

func TestAttachUnknownSession(t *testing.T) {
	tracker := openTracker(t, Config{})
	if _, err := tracker.Attach(AttachRequest{Topics: []Topic{lobby}, Session: s1}); !errors.Is(err, ErrUnknownSession) {
		t.Fatalf("Attach = %v, want ErrUnknownSession", err)
	}
	if got := tracker.Stats().Sessions; got != 0 {
		t.Fatalf("%d sessions after it", got)
	}
}

// TestManyLeases: a million would take the same steps; what it guards is that the wheel neither loses nor doubles any.
func TestManyLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := openTracker(t, Config{})
		const n = 5000
		for i := range n {
			mustTrack(t, tracker, TrackRequest{Topic: lobby, Key: "ann", TTL: time.Duration(1+i%200) * time.Second})
		}
		for second := range 200 {
			if got, want := tracker.Stats().Sessions, n-n/200*second; got != want {
				t.Fatalf("%d sessions after %d s, want %d", got, second, want)
			}
			sleep(time.Second)
			if second == 0 {
				sleep(sweepInterval)
			}
		}
		sleep(time.Second)
		if got := tracker.Stats(); got.Sessions != 0 || got.Presences != 0 || got.Expired != n {
			t.Fatalf("Stats = %+v, want all %d expired", got, n)
		}
	})
}

func BenchmarkTrackLeave(b *testing.B) {
	tracker, err := Open(Config{Replica: replica})
	if err != nil {
		b.Fatal(err)
	}
	defer tracker.Close()
	meta := Meta(`{"device":"phone"}`)
	for b.Loop() {
		tracked, err := tracker.Track(TrackRequest{Topic: lobby, Key: "ann", Meta: meta})
		if err != nil {
			b.Fatal(err)
		}
		tracker.Leave(tracked.Session)
	}
}

func BenchmarkHeartbeatAmongAMillion(b *testing.B) {
	tracker, err := Open(Config{Replica: replica})
	if err != nil {
		b.Fatal(err)
	}
	defer tracker.Close()
	ids := make([]SessionID, 1_000_000)
	for i := range ids {
		ids[i] = tracker.newSessionID()
		if _, err := tracker.Track(TrackRequest{Topic: lobby, Key: "ann", Session: ids[i], TTL: time.Hour}); err != nil {
			b.Fatal(err)
		}
	}
	i := 0
	for b.Loop() {
		if _, err := tracker.Heartbeat(ids[i%len(ids)]); err != nil {
			b.Fatal(err)
		}
		i += 7919
	}
}
