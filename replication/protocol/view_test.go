package protocol

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"rollcall/presence/crdt"
)

const start = 100 * time.Second

func rep(name string, incarnation uint64) crdt.Replica {
	return crdt.Replica{Name: name, Incarnation: incarnation}
}

func beat(name string, incarnation, count uint64, age time.Duration) Beat {
	return Beat{Replica: rep(name, incarnation), Count: count, Age: age}
}

// newView returns the view of a/1 with these other members, which ticks every second, misses others after 8 s and forgets them after 40 s.
func newView(others ...string) *View {
	v := New(Config{Self: rep("a", 1), Shards: shards, DownAfter: downAfter, ForgetAfter: forgetAfter, Interval: interval}, start)
	v.SetMembers(append([]string{"a"}, others...), start)
	return v
}

// tickUntil ticks every second, and returns all events with the time of each.
func tickUntil(v *View, from, to time.Duration) []string {
	var log []string
	for now := from + interval; now <= to; now += interval {
		for _, e := range v.Tick(now, Status{}) {
			log = append(log, fmt.Sprintf("%v: %v", now-start, e))
		}
	}
	return log
}

func wantEvents(t *testing.T, what string, got []Event, want ...Event) {
	t.Helper()
	if !reflect.DeepEqual(got, slices.Clip(want)) && len(got)+len(want) > 0 {
		t.Errorf("%s: events %+v, want %+v", what, got, want)
	}
}

func TestSilence(t *testing.T) {
	v := newView("b", "c")
	wantEvents(t, "b's first beat", v.Receive([]Beat{beat("b", 1, 1, 0)}, start), StateChanged{rep("b", 1), Unknown, Up})
	got := tickUntil(v, start, start+41*time.Second)
	want := []string{
		"8s: {b/1 up down}", "8s: {c/0 unknown down}", "40s: {b/1 down permdown}", "40s: {c/0 down permdown}",
	}
	if !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	now := start + 41*time.Second
	wantEvents(t, "b is heard again", v.Receive([]Beat{beat("b", 1, 2, time.Second)}, now), StateChanged{rep("b", 1), PermDown, Up})
	wantEvents(t, "c is heard of, old", v.Receive([]Beat{beat("c", 5, 9, 20*time.Second)}, now), StateChanged{rep("c", 5), Unknown, Down})
}

func TestOnlyHigherCountsAreNews(t *testing.T) {
	for name, test := range map[string]struct {
		beat Beat
		want time.Duration // from start until b is down
	}{
		"nothing more":                  {beat("c", 1, 1, 0), 8 * time.Second},
		"the same beat, younger":        {beat("b", 1, 10, 0), 8 * time.Second},
		"an earlier beat":               {beat("b", 1, 9, 0), 8 * time.Second},
		"a later beat":                  {beat("b", 1, 11, 0), 12 * time.Second},
		"a later beat that lay for 3 s": {beat("b", 1, 11, 3*time.Second), 9 * time.Second},
		"a later beat that lay for ever, which takes nothing back": {beat("b", 1, 11, time.Hour), 8 * time.Second},
		"one from the future":     {beat("b", 1, 11, -time.Hour), 12 * time.Second},
		"an absurd age":           {beat("b", 1, 11, 1<<63-1), 8 * time.Second},
		"nobody's beat":           {beat("b", 1, 0, 0), 8 * time.Second},
		"an impossible replica's": {beat("b", 0, 99, 0), 8 * time.Second},
	} {
		v := newView("b", "c")
		v.Receive([]Beat{beat("b", 1, 10, 0)}, start)
		tickUntil(v, start, start+4*time.Second)
		v.Receive([]Beat{test.beat}, start+4*time.Second)
		for now := start + 5*time.Second; ; now += time.Second {
			v.Tick(now, Status{})
			if v.StateOf(rep("b", 1)) == Down {
				if got := now - start; got != test.want {
					t.Errorf("%s: down after %v, want %v", name, got, test.want)
				}
				break
			}
		}
	}
}

func TestAgesAreToldWithTheTimeHere(t *testing.T) {
	v := newView("b")
	v.Receive([]Beat{beat("b", 3, 10, 2*time.Second)}, start)
	if got := v.Beats(start); len(got) != 1 {
		t.Errorf("before its first tick a tells of %v, want of b alone", got)
	}
	v.Tick(start+time.Second, Status{Sessions: 7})
	got := v.Beats(start + 3*time.Second)
	want := []Beat{
		{Replica: rep("a", 1), Count: 1, Age: 2 * time.Second, Status: Status{Sessions: 7}},
		{Replica: rep("b", 3), Count: 10, Age: 5 * time.Second},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Beats = %+v, want %+v", got, want)
	}
}

// TestStopped stops the process: nobody is blamed, but to others the beats are as old as they are, and nothing once they are too old.
func TestStopped(t *testing.T) {
	v := newView("b")
	v.Receive([]Beat{beat("b", 1, 10, 0)}, start)
	now := start + 30*time.Second
	wantEvents(t, "after half a minute's stop", v.Tick(now, Status{}))
	if got := v.Beats(now)[1].Age; got != 30*time.Second {
		t.Errorf("age told %v, want 30s", got)
	}
	now = start + time.Hour
	wantEvents(t, "after an hour's stop", v.Tick(now, Status{}))
	if got := v.Beats(now); len(got) != 1 {
		t.Errorf("tells of %+v, want of itself alone", got)
	}
	if got := tickUntil(v, now, now+6*time.Second); !slices.Equal(got, []string{"1h0m6s: {b/1 up down}"}) {
		t.Errorf("after that: %q, want b down when 8 s that count are over", got)
	}
}

func TestNewIncarnation(t *testing.T) {
	v := newView("b")
	v.Receive([]Beat{beat("b", 1, 50, 0)}, start)
	wantEvents(t, "the next", v.Receive([]Beat{beat("b", 4, 1, 0)}, start+time.Second),
		NewIncarnation{rep("b", 1), rep("b", 4)}, StateChanged{rep("b", 4), Unknown, Up})
	wantEvents(t, "beats of earlier ones", v.Receive([]Beat{beat("b", 1, 51, 0), beat("b", 4, 1, 0)}, start+2*time.Second))
	wantEvents(t, "one between that was not heard of", v.Receive([]Beat{beat("b", 2, 9, time.Second)}, start+2*time.Second),
		StateChanged{rep("b", 2), Unknown, Up})
	v.Receive([]Beat{beat("b", 4, 2, 0)}, start+2*time.Second)
	got := tickUntil(v, start+2*time.Second, start+9*time.Second)
	if want := []string{"8s: {b/1 up down}", "9s: {b/2 up down}"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if present, ok := v.Present("b"); !ok || present != rep("b", 4) {
		t.Errorf("Present = %v, %v, want b/4", present, ok)
	}
	for incarnation, want := range map[uint64]bool{1: true, 3: true, 4: false, 5: false} {
		if got := v.Superseded(rep("b", incarnation)); got != want {
			t.Errorf("Superseded(b/%d) = %v, want %v", incarnation, got, want)
		}
	}
}

func TestRetire(t *testing.T) {
	none := func(int, crdt.Replica) uint64 { return 0 }
	for name, test := range map[string]struct {
		restored []uint64
		upto     []uint64
		want     []int
	}{
		"restored nothing, says nothing":  {nil, []uint64{0, 0}, []int{0, 1}},
		"restored nothing":                {[]uint64{0, 0}, []uint64{0, 0}, []int{0, 1}},
		"says less than there are shards": {[]uint64{3}, []uint64{0, 0}, []int{1}},
		"says more":                       {[]uint64{0, 3, 5}, []uint64{0, 0}, []int{0}},
		"some is here":                    {[]uint64{3, 3}, []uint64{3, 2}, []int{0}},
		"more is here":                    {[]uint64{3, 3}, []uint64{9, 2}, []int{0}},
		"all is here":                     {[]uint64{3, 3}, []uint64{3, 4}, []int{0, 1}},
	} {
		v := newView("b")
		v.Receive([]Beat{beat("b", 1, 50, 0)}, start)
		v.Learn([]crdt.Replica{rep("b", 2)}, start)
		wantEvents(t, name+", before the beat", v.Retire(func(int, crdt.Replica) uint64 { return 99 }, start))
		next := beat("b", 2, 1, 0)
		next.Restored = test.restored
		v.Receive([]Beat{next}, start)
		got := v.Retire(func(shard int, replica crdt.Replica) uint64 {
			if replica != rep("b", 2) {
				t.Errorf("%s: asked about %v", name, replica)
			}
			return test.upto[shard]
		}, start)
		var want []Event
		for _, shard := range test.want {
			want = append(want, Retired{shard, rep("b", 1), rep("b", 2)})
		}
		if len(test.want) == shards {
			want = append(want, StateChanged{rep("b", 1), Up, PermDown})
		}
		wantEvents(t, name, got, want...)
		wantEvents(t, name+", again", v.Retire(none, start))
	}
}

// TestRetireChain restarts a node again before the data of its second run is here.
func TestRetireChain(t *testing.T) {
	v := newView("b")
	second, third := beat("b", 2, 1, 0), beat("b", 3, 1, 0)
	second.Restored, third.Restored = []uint64{5, 5}, []uint64{6, 6}
	v.Receive([]Beat{beat("b", 1, 50, 0), second}, start)
	have := map[crdt.Replica][shards]uint64{rep("b", 2): {5, 0}}
	upto := func(shard int, replica crdt.Replica) uint64 { return have[replica][shard] }
	wantEvents(t, "one shard of the second", v.Retire(upto, start), Retired{0, rep("b", 1), rep("b", 2)})
	v.Receive([]Beat{third}, start)
	wantEvents(t, "nothing of the third", v.Retire(upto, start))
	have[rep("b", 3)] = [shards]uint64{6, 6}
	wantEvents(t, "all of the third", v.Retire(upto, start),
		Retired{1, rep("b", 1), rep("b", 3)}, StateChanged{rep("b", 1), Up, PermDown},
		Retired{0, rep("b", 2), rep("b", 3)}, Retired{1, rep("b", 2), rep("b", 3)}, StateChanged{rep("b", 2), Up, PermDown})
}

func TestOwnEarlierRunsAreRetired(t *testing.T) {
	v := New(Config{Self: rep("a", 3), Shards: shards}, start)
	v.SetMembers([]string{"a", "b"}, start)
	upto := func(int, crdt.Replica) uint64 { return 2 }
	wantEvents(t, "what b still knows", v.Receive([]Beat{beat("a", 2, 70, 0)}, start), StateChanged{rep("a", 2), Unknown, Up})
	wantEvents(t, "before it is settled what was restored", v.Retire(upto, start))
	v.Tick(start, Status{Restored: []uint64{2, 1}})
	wantEvents(t, "at once", v.Retire(upto, start),
		Retired{0, rep("a", 2), rep("a", 3)}, Retired{1, rep("a", 2), rep("a", 3)}, StateChanged{rep("a", 2), Up, PermDown})
}

func TestSelfSuperseded(t *testing.T) {
	v := newView("b")
	v.Tick(start, Status{})
	wantEvents(t, "our own beat", v.Receive([]Beat{beat("a", 1, 1, 0)}, start))
	wantEvents(t, "one that we never made", v.Receive([]Beat{beat("a", 1, 2, 0)}, start), SelfSuperseded{rep("a", 1)})
	wantEvents(t, "a later run", v.Receive([]Beat{beat("a", 7, 2, 0)}, start), SelfSuperseded{rep("a", 7)})
	wantEvents(t, "the same, and its data", append(v.Receive([]Beat{beat("a", 7, 3, 0)}, start), v.Learn([]crdt.Replica{rep("a", 6)}, start)...))
	wantEvents(t, "data of a later one", v.Learn([]crdt.Replica{rep("a", 9)}, start), SelfSuperseded{rep("a", 9)})
	if got := v.StateOf(rep("a", 1)); got != Up {
		t.Errorf("we are %v, want up", got)
	}
}

func TestLeaving(t *testing.T) {
	v := newView("b", "c")
	v.Receive([]Beat{beat("b", 1, 5, 0), beat("c", 1, 5, 0)}, start)
	last := beat("b", 1, 6, 0)
	last.Leaving = true
	wantEvents(t, "b leaves", v.Receive([]Beat{last}, start), StateChanged{rep("b", 1), Up, PermDown})
	if !v.Complete() {
		t.Error("not complete without one that left")
	}
	if got := v.Beats(start + time.Second); len(got) != 2 || !got[0].Leaving {
		t.Errorf("told of others: %+v, want that b left, and c", got)
	}
	wantEvents(t, "an earlier beat", v.Receive([]Beat{beat("b", 1, 4, 0)}, start))
	wantEvents(t, "b is back", v.Receive([]Beat{beat("b", 2, 1, 0)}, start),
		NewIncarnation{rep("b", 1), rep("b", 2)}, StateChanged{rep("b", 2), Unknown, Up})
	wantEvents(t, "what left needs no retiring", v.Retire(nil, start))
}

func TestMembers(t *testing.T) {
	v := newView("b", "c")
	v.Receive([]Beat{beat("b", 1, 5, 0), beat("d", 1, 5, 0)}, start)
	wantEvents(t, "data of e, which is no member", v.Learn([]crdt.Replica{rep("e", 1)}, start), StateChanged{rep("e", 1), Unknown, PermDown})
	if v.Superseded(rep("e", 1)) {
		t.Error("e, which was not heard of, is superseded")
	}
	if got := v.StateOf(rep("d", 1)); got != PermDown {
		t.Errorf("one that is no member is %v, want permdown", got)
	}
	wantEvents(t, "b out, d in", v.SetMembers([]string{"a", "c", "d"}, start),
		StateChanged{rep("b", 1), Up, PermDown}, StateChanged{rep("d", 1), PermDown, Up})
	if got := len(v.Beats(start)); got != 1 {
		t.Errorf("tells of %d, want of d alone", got)
	}
	wantEvents(t, "b in again", v.SetMembers([]string{"b", "c", "d"}, start), StateChanged{rep("b", 1), PermDown, Up})
	var got []string
	for _, m := range v.Members(start + time.Second) {
		got = append(got, fmt.Sprintf("%v %v self=%v silent=%v", m.Replica, m.State, m.Self, m.Silent))
	}
	want := []string{"a/1 up self=true silent=1s", "b/1 up self=false silent=1s", "c/0 unknown self=false silent=1s", "d/1 up self=false silent=1s"}
	if !slices.Equal(got, want) {
		t.Errorf("Members = %q, want %q", got, want)
	}
}

// TestForgottenStrangersAreDropped: what is dropped was told to be recalled, so that nothing stays behind anywhere.
func TestForgottenStrangersAreDropped(t *testing.T) {
	v := newView("b")
	v.Receive([]Beat{beat("b", 1, 5, 0)}, start)
	v.SetMembers([]string{"a"}, start)
	if got, want := tickUntil(v, start, start+3*forgetAfter), []string{"1m21s: {b/1 permdown unknown}"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if len(v.nodes) != 1 {
		t.Errorf("%d nodes are known, want ourselves alone", len(v.nodes))
	}
}

// TestDoneIsDone has a message about a predecessor come when that is long dropped.
func TestDoneIsDone(t *testing.T) {
	v := newView("b")
	v.Receive([]Beat{beat("b", 2, 50, 0), beat("b", 3, 1, 0)}, start)
	v.Retire(nil, start)
	tickUntil(v, start, start+3*forgetAfter)
	if n := len(v.nodes["b"].others); n != 0 {
		t.Fatalf("%d predecessors are kept", n)
	}
	now := start + 3*forgetAfter
	late := append(v.Receive([]Beat{beat("b", 1, 9, 0), beat("b", 2, 51, 0)}, now), v.Learn([]crdt.Replica{rep("b", 1), rep("b", 2)}, now)...)
	wantEvents(t, "late words", append(late, v.Retire(nil, now)...))
}

func TestComplete(t *testing.T) {
	v := newView("b")
	if v.Complete() {
		t.Error("complete although b was never heard of")
	}
	v.Receive([]Beat{beat("b", 1, 5, 0)}, start)
	if !v.Complete() {
		t.Error("not complete although b is up")
	}
	tickUntil(v, start, start+downAfter)
	if v.Complete() {
		t.Error("complete although b is down")
	}
	tickUntil(v, start+downAfter, start+forgetAfter)
	if !v.Complete() {
		t.Error("not complete although b is forgotten")
	}
}

func TestTargets(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	v := newView("b", "c", "d", "e", "left")
	last := beat("left", 1, 1, 0)
	last.Leaving = true
	v.Receive([]Beat{beat("b", 1, 1, 0), beat("c", 1, 1, 0), beat("d", 1, 1, 0), last}, start)
	v.Failed("d")
	picked := map[string]int{}
	const ticks = 1000
	for range ticks {
		targets := v.Targets(start, rng)
		if !slices.IsSorted(targets) || slices.Contains(targets, "b") == slices.Contains(targets, "c") {
			t.Fatalf("Targets = %v, want one of b and c, and sorted", targets)
		}
		for _, id := range targets {
			picked[id]++
		}
	}
	if picked["d"] != ticks || picked["e"] != ticks {
		t.Errorf("picked %v: want d, which does not answer, and e, which was not heard of, always", picked)
	}
	if picked["b"] < ticks/3 || picked["c"] < ticks/3 {
		t.Errorf("picked %v: want b and c about equally often", picked)
	}
	if n := picked["left"]; n < ticks/20 || n > ticks/5 {
		t.Errorf("picked %v: want the one that left now and then", picked)
	}
}

func TestReachable(t *testing.T) {
	v := newView("b")
	check := func(what string, after time.Duration, want bool) {
		t.Helper()
		if got := v.Reachable("b", start+after); got != want {
			t.Errorf("%s: Reachable = %v, want %v", what, got, want)
		}
	}
	check("never tried", 0, true)
	v.Targets(start, rand.New(rand.NewPCG(1, 1)))
	check("asked", 2*time.Second, true)
	tickUntil(v, start, start+3*time.Second)
	check("asked long ago", 3*time.Second, false)
	v.Answered("b")
	check("answered", time.Minute, true)
	v.Failed("b")
	check("failed", time.Minute, false)
	v.Answered("b")
	check("answered again", time.Minute, true)
	v.SetMembers(nil, start)
	check("no member", time.Minute, false)
	if v.Reachable("z", start) || !v.Reachable("a", start) {
		t.Error("z is reachable, or we ourselves are not")
	}
}

func TestDefaultInterval(t *testing.T) {
	for downAfter, want := range map[time.Duration]time.Duration{0: time.Second, 800 * time.Millisecond: 100 * time.Millisecond, time.Minute: time.Second} {
		if got := New(Config{Self: rep("a", 1), DownAfter: downAfter}, 0).config.Interval; got != want {
			t.Errorf("down after %v: interval %v, want %v", downAfter, got, want)
		}
	}
}
