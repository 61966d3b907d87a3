package presence

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/presence/crdt"
)

const anns = SessionID("session-of-ann-0001")

// pair is two nodes, each with somebody who watches the lobby.
type pair struct {
	t       *testing.T
	a, b    *Tracker
	watches [2]*Subscription
}

// inPair runs test on a fake clock.
func inPair(t *testing.T, test func(t *testing.T, p *pair)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pair{t: t, a: openReplica(t, "a", 1), b: openReplica(t, "b", 1)}
		for i, tracker := range []*Tracker{p.a, p.b} {
			p.watches[i] = tracker.Subscribe("lobby", Each, func() {})
		}
		test(t, p)
	})
}

func openReplica(t *testing.T, name string, incarnation uint64) *Tracker {
	t.Helper()
	tracker, err := Open(Config{Replica: crdt.Replica{Name: name, Incarnation: incarnation}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracker.Close)
	tracker.RecordChanges(func() {})
	return tracker
}

// tell merges into a tracker what it lacks of another.
func tell(to, from *Tracker) {
	for shard := range Shards {
		for delta := range from.Repair(shard, to.Digest(shard)).Parts(100) {
			to.Merge(shard, delta)
		}
	}
}

// sync lets both tell each other until there is nothing new.
func (p *pair) sync() {
	for range 3 {
		tell(p.b, p.a)
		tell(p.a, p.b)
	}
}

// quiet checks that no watcher has seen anything since the last call, and saw checks that each has seen this.
func (p *pair) quiet() { p.t.Helper(); p.saw("") }

func (p *pair) saw(want string) {
	p.t.Helper()
	for i, watch := range p.watches {
		got := ""
		for diff := watch.Take(); !diff.Empty(); diff = watch.Take() {
			for _, m := range diff.Joins {
				got += fmt.Sprintf("+%s", m.Key)
			}
			for _, m := range diff.Leaves {
				got += fmt.Sprintf("-%s", m.Key)
			}
		}
		if got != want {
			p.t.Errorf("the watcher at %s saw %q, want %q", "ab"[i:i+1], got, want)
		}
	}
}

// at checks where a session lives.
func (p *pair) at(id SessionID, a, b bool) {
	p.t.Helper()
	for i, want := range []bool{a, b} {
		tracker := []*Tracker{p.a, p.b}[i]
		if got := tracker.Locate(id).Here; got != want {
			p.t.Errorf("it lives at %s: %v, want %v", tracker.Replica(), got, want)
		}
	}
}

func (p *pair) track(tracker *Tracker, topic Topic, id SessionID, meta string) Ref {
	p.t.Helper()
	tracked, _, err := tracker.Update(topic, "ann", id, Meta(meta))
	if err != nil {
		p.t.Fatal(err)
	}
	return tracked.Ref
}

// handOver moves a session with its owner's consent.
func (p *pair) handOver(from, to *Tracker, id SessionID) {
	p.t.Helper()
	state, err := from.HandOver(id, to.Replica())
	if err != nil {
		p.t.Fatal(err)
	}
	to.Adopt(from.Replica(), state)
}

func TestHandedOverSessionKeepsItsRefs(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		ref := p.track(p.a, "lobby", anns, `{"v":1}`)
		p.sync()
		p.saw("+ann")
		late := p.track(p.a, "attic", anns, `{}`) // b has not heard of it when it takes over
		p.handOver(p.a, p.b, anns)
		p.at(anns, false, true)
		if _, err := p.a.Heartbeat(anns); !errors.As(err, new(*MovedError)) {
			t.Errorf("a heartbeat where it was: %v, want a MovedError", err)
		}
		p.sync()
		p.quiet()
		for topic, want := range map[Topic]Ref{"lobby": ref, "attic": late} {
			for _, tracker := range []*Tracker{p.a, p.b} {
				if metas := tracker.Get(topic, "ann"); len(metas) != 1 || metas[0].Ref != want {
					t.Errorf("%v shows %v in %s, want one meta with ref %s", tracker.Replica(), metas, topic, want)
				}
			}
		}
		time.Sleep(29 * time.Second)
		if _, err := p.b.Heartbeat(anns); err != nil {
			t.Errorf("a heartbeat within the lease, where it is now: %v", err)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		p.sync()
		p.saw("-ann")
	})
}

func TestSessionOfASilentOwnerIsAdopted(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		p.track(p.a, "lobby", anns, `{}`)
		p.sync()
		p.saw("+ann")
		if !p.b.AdoptKnown(anns) {
			t.Fatal("nothing was adopted")
		}
		if p.b.AdoptKnown("nobodys-session-0001") {
			t.Error("a session was adopted that nobody has")
		}
		p.b.Hide(p.a.Replica())
		p.at(anns, true, true) // until a hears of it
		p.sync()
		p.at(anns, false, true)
		p.b.Show(p.a.Replica())
		p.quiet()
	})
}

func TestTwoOwnersBecomeOne(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		p.track(p.a, "lobby", anns, `{"v":1}`)
		p.track(p.a, "attic", anns, `{}`)
		time.Sleep(time.Second)
		p.track(p.b, "lobby", anns, `{"v":2}`) // the network was cut
		p.sync()
		p.at(anns, false, true) // the later claim
		for _, tracker := range []*Tracker{p.a, p.b} {
			if metas := tracker.Get("lobby", "ann"); len(metas) != 1 || string(metas[0].Meta) != `{"v":2}` {
				t.Errorf("%v shows %v, want the later version alone", tracker.Replica(), metas)
			}
			if metas := tracker.Get("attic", "ann"); len(metas) != 1 {
				t.Errorf("%v shows %v in the attic, want what the other owner had", tracker.Replica(), metas)
			}
		}
		if err := p.b.Leave(anns); err != nil {
			t.Fatal(err)
		}
		p.sync()
		if n := p.a.Count("lobby").Metas + p.a.Count("attic").Metas; n != 0 {
			t.Errorf("%d presences are left of a session that has ended", n)
		}
	})
}

// TestWhatAnEarlierOwnerEndedStaysEnded brings a message late: it tells of a presence that has ended since, of a session that has moved since.
func TestWhatAnEarlierOwnerEndedStaysEnded(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		p.track(p.a, "attic", anns, `{}`)
		p.a.TakeChanges()
		p.track(p.a, "lobby", anns, `{}`)
		late := p.a.TakeChanges()
		if err := p.a.Untrack("lobby", "ann", anns); err != nil {
			t.Fatal(err)
		}
		p.handOver(p.a, p.b, anns)
		for _, change := range late {
			p.b.Merge(change.Shard, change.Delta)
		}
		p.sync()
		if n := p.b.Count("lobby").Metas; n != 0 {
			t.Errorf("%d presences in the lobby, which was left before the session moved", n)
		}
	})
}

func TestRestartedOwnerDoesNotBringBackWhatEnded(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		p.track(p.a, "lobby", anns, `{}`)
		p.track(p.a, "attic", anns, `{}`)
		p.sync()
		p.saw("+ann")
		stored, _, _ := p.a.Session(anns)
		p.b.AdoptKnown(anns) // a has crashed
		if err := p.b.Untrack("attic", "ann", anns); err != nil {
			t.Fatal(err)
		}
		again := openReplica(t, "a", 2)
		again.Restore(stored)
		if got := again.Get("lobby", "ann"); len(got) != 1 || got[0].Ref != stored.Presences[1].Entry.Ref {
			t.Errorf("restored are %v, want the ref of before", got)
		}
		for range 2 {
			tell(p.b, again)
			tell(again, p.b)
		}
		if n := p.b.Count("attic").Metas; n != 0 {
			t.Errorf("%d presences in the attic, which was left while a was down", n)
		}
		if again.Locate(anns).Here || !p.b.Locate(anns).Here {
			t.Error("the session is back where it was, want it where it went")
		}
		for shard := range Shards {
			p.b.Retire(shard, p.a.Replica())
		}
		p.watches[0].Take() // a's own is of the run that crashed
		if diff := p.watches[1].Take(); !diff.Empty() {
			t.Errorf("the watcher saw %+v, want nothing", diff)
		}
	})
}

func TestStreamKeepsASessionThatHasMoved(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		binding, err := p.a.Attach(AttachRequest{Session: anns, Key: "ann", Topics: []Topic{"lobby"}})
		if err != nil {
			t.Fatal(err)
		}
		p.handOver(p.a, p.b, anns)
		p.sync()
		p.saw("+ann")
		if got := p.a.Away(); !slices.Equal(got, []SessionID{anns}) {
			t.Errorf("Away = %v, want the session whose stream is here", got)
		}
		p.handOver(p.b, p.a, anns) // and back
		p.sync()
		if got := p.a.Away(); len(got) != 0 {
			t.Errorf("Away = %v after its return, want none", got)
		}
		time.Sleep(time.Minute)
		p.quiet() // its stream keeps it
		p.handOver(p.a, p.b, anns)
		p.sync()
		binding.Close()
		if got := p.a.Away(); len(got) != 0 {
			t.Errorf("Away = %v after its stream ended, want none", got)
		}
	})
}

func TestReplicaIsHiddenShownForgotten(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		for i := range 10 {
			p.track(p.a, "lobby", SessionID(fmt.Sprintf("session-number-%04d", i)), `{}`)
		}
		p.sync()
		p.watches[1].Close()
		notified := 0
		p.watches[1] = p.b.Subscribe("lobby", Net, func() { notified++ })
		for _, step := range []struct {
			name string
			do   func(crdt.Replica)
			want int
		}{{"Hide", p.b.Hide, 0}, {"Show", p.b.Show, 10}, {"Forget", p.b.Forget, 0}} {
			notified = 0
			step.do(p.a.Replica())
			p.watches[1].Take()
			if got := p.b.Count("lobby").Metas; got != step.want || notified != 1 {
				t.Errorf("after %s %d are shown, in %d diffs; want %d, in one", step.name, got, notified, step.want)
			}
		}
		tell(p.b, p.a)
		if got := p.b.Count("lobby").Metas; got != 0 {
			t.Errorf("%d are shown of a replica that is forgotten", got)
		}
		p.b.Show(p.a.Replica())
		tell(p.b, p.a)
		if got := p.b.Count("lobby").Metas; got != 10 {
			t.Errorf("%d are shown after it was heard again, want 10", got)
		}
	})
}

func TestRestoredLeaseGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := openReplica(t, "a", 1)
		tracker.RecordSessions()
		if _, err := tracker.Track(TrackRequest{Topic: "lobby", Key: "ann", Session: anns, TTL: time.Minute}); err != nil {
			t.Fatal(err)
		}
		if changed, renewed := tracker.TakeSessions(); !slices.Equal(changed, []SessionID{anns}) || len(renewed) != 0 {
			t.Errorf("TakeSessions = %v, %v, want the session changed", changed, renewed)
		}
		time.Sleep(20 * time.Second)
		_, _ = tracker.Heartbeat(anns)
		if changed, renewed := tracker.TakeSessions(); !slices.Equal(renewed, []SessionID{anns}) || len(changed) != 0 {
			t.Errorf("TakeSessions = %v, %v, want the session renewed", changed, renewed)
		}
		time.Sleep(20 * time.Second)
		state, bound, ok := tracker.Session(anns)
		if !ok || bound || state.Remaining != 40*time.Second {
			t.Fatalf("Session = %+v, %v, %v, want 40 s that remain", state, bound, ok)
		}
		again := openReplica(t, "a", 2)
		again.Restore(state)
		time.Sleep(39 * time.Second)
		synctest.Wait()
		if again.Count("lobby").Metas != 1 {
			t.Error("it has ended before its lease")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if again.Count("lobby").Metas != 0 {
			t.Error("it lives on after its lease")
		}
		if got := again.Sessions(); len(got) != 0 {
			t.Errorf("Sessions = %v, want none", got)
		}
	})
}
