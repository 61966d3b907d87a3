package crdt

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func dot(name string, counter uint64) Dot {
	return Dot{Replica{name, 1}, counter}
}

func values[V any](items []Item[V]) []V {
	out := []V{}
	for _, item := range items {
		out = append(out, item.Value)
	}
	return out
}

func TestRemovalBeforeAdd(t *testing.T) {
	a, b := NewSet[string](Replica{"a", 1}), NewSet[string](Replica{"b", 1})
	added := a.Delta([]Dot{a.Add("ann")}, nil)
	b.Merge(a.Delta(nil, []Removal{a.Remove(dot("a", 1))}))
	if joined, left := b.Merge(added); len(joined) != 0 || len(left) != 0 {
		t.Fatalf("late add after its removal: joined %v, left %v, want nothing", joined, left)
	}
	if b.Len() != 0 {
		t.Fatalf("Len = %d, want 0", b.Len())
	}
}

func TestRemoveUnseenDot(t *testing.T) {
	a, b := NewSet[string](Replica{"a", 1}), NewSet[string](Replica{"b", 1})
	b.Remove(dot("a", 1))
	a.Add("ann")
	bring(b, a)
	if b.Len() != 0 {
		t.Fatalf("add that arrives after its removal is live: %v", b.Items())
	}
}

func TestAddWins(t *testing.T) {
	a, b := NewSet[string](Replica{"a", 1}), NewSet[string](Replica{"b", 1})
	first := a.Add("ann")
	bring(b, a)
	a.Add("ann")    // concurrent with
	b.Remove(first) // the removal of what b has seen
	bring(a, b)
	bring(b, a)
	for _, s := range []*Set[string]{a, b} {
		if got := values(s.Items()); !slices.Equal(got, []string{"ann"}) {
			t.Errorf("%v holds %v, want ann under its second dot", s.self, got)
		}
	}
}

func TestMergeReturnsChangesInOrder(t *testing.T) {
	a, b := NewSet[int](Replica{"a", 1}), NewSet[int](Replica{"b", 1})
	var dots []Dot
	for i := range 20 {
		dots = append(dots, a.Add(i))
	}
	added, removed := b.Merge(a.Delta(dots, nil))
	if want := a.Items(); !reflect.DeepEqual(added, want) || removed != nil {
		t.Fatalf("first merge: added %v, removed %v, want %v and nothing", added, removed, want)
	}
	added, removed = b.Merge(a.Delta(dots[3:12], []Removal{a.Remove(dots[5:10]...)}))
	if got, want := values(removed), []int{5, 6, 7, 8, 9}; !slices.Equal(got, want) || added != nil {
		t.Fatalf("second merge: added %v, removed %v, want nothing and %v", added, got, want)
	}
}

func TestContext(t *testing.T) {
	c := ContextOf(dot("a", 3), dot("a", 1), dot("b", 2))
	for d, want := range map[Dot]bool{
		dot("a", 1): true, dot("a", 2): false, dot("a", 3): true, dot("a", 4): false, dot("b", 1): false, dot("b", 2): true, dot("c", 1): false,
	} {
		if got := c.Has(d); got != want {
			t.Errorf("Has(%v) = %v, want %v", d, got, want)
		}
	}
	if c.Gaps() != 2 || c.Upto(Replica{"a", 1}) != 1 || c.Max(Replica{"a", 1}) != 3 || c.Len() != 3 {
		t.Errorf("Gaps = %d, Upto = %d, Max = %d, Len = %d, want 2, 1, 3 and 3", c.Gaps(), c.Upto(Replica{"a", 1}), c.Max(Replica{"a", 1}), c.Len())
	}
	c.Union(ContextOf(dot("a", 2), dot("b", 1)))
	if c.Gaps() != 0 || c.Upto(Replica{"a", 1}) != 3 {
		t.Errorf("after the gaps closed: Gaps = %d, Upto = %d, want 0 and 3", c.Gaps(), c.Upto(Replica{"a", 1}))
	}
}

// TestContextIsASet holds Context against a plain map of dots.
func TestContextIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Custom(func(t *rapid.T) Dot {
			return dot(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "replica"), rapid.Uint64Range(1, 12).Draw(t, "counter"))
		})
		first, second := rapid.SliceOf(draw).Draw(t, "first"), rapid.SliceOf(draw).Draw(t, "second")
		c, other := ContextOf(first...), ContextOf(second...)
		clone, rest := c.Clone(), c.Minus(other)
		for _, name := range []string{"a", "b"} {
			for counter := uint64(1); counter <= 13; counter++ {
				d := dot(name, counter)
				if want := c.Has(d) && !other.Has(d); rest.Has(d) != want {
					t.Fatalf("Minus: Has(%v) = %v, want %v", d, rest.Has(d), want)
				}
			}
		}
		c.Union(other)
		reference := map[Dot]bool{}
		for _, d := range append(slices.Clone(first), second...) {
			reference[d] = true
		}
		for _, name := range []string{"a", "b"} {
			for counter := uint64(1); counter <= 13; counter++ {
				if d := dot(name, counter); c.Has(d) != reference[d] {
					t.Fatalf("Has(%v) = %v, want %v", d, c.Has(d), reference[d])
				}
			}
		}
		if n := c.Upto(Replica{"a", 1}); c.Has(dot("a", n+1)) {
			t.Fatalf("not compact: Upto = %d although %d is there", n, n+1)
		}
		if !c.Equal(ContextOf(slices.Collect(maps.Keys(reference))...)) {
			t.Fatalf("union differs from a context built at once")
		}
		if got := slices.Collect(c.All()); len(got) != len(reference) || c.Len() != uint64(len(reference)) || !slices.IsSortedFunc(got, Dot.Compare) {
			t.Fatalf("All = %v, Len = %d, want the %d dots in order", got, c.Len(), len(reference))
		}
		if !clone.Equal(ContextOf(first...)) {
			t.Fatalf("Union changed a clone")
		}
	})
}

// bring merges into to what it lacks of from.
func bring[V any](to, from *Set[V]) {
	for part := range from.Repair(to.Digest()).Parts(3) {
		to.Merge(part)
	}
}

// history is one random run of several replicas, with messages that are lost, doubled and reordered. The reference says what must be
// live: a value whose dot nobody has removed.
type history struct {
	sets []*Set[int]
	sent []Delta[int]
	live map[Dot]int
	last int
}

func (h *history) add(t *rapid.T) {
	s := h.at(t, "at")
	h.last++
	d := s.Add(h.last)
	h.live[d] = h.last
	h.sent = append(h.sent, s.Delta([]Dot{d}, nil))
}

// remove removes some dots in one act, sometimes with an add in the same delta, as an update does.
func (h *history) remove(t *rapid.T) {
	s := h.at(t, "at")
	if s.Len() == 0 {
		t.Skip("nothing to remove")
	}
	var dots, added []Dot
	for _, item := range rapid.SliceOfNDistinct(rapid.SampledFrom(s.Items()), 1, min(3, s.Len()), func(i Item[int]) Dot { return i.Dot }).Draw(t, "items") {
		dots = append(dots, item.Dot)
		delete(h.live, item.Dot)
	}
	if rapid.Bool().Draw(t, "and add") {
		h.last++
		d := s.Add(h.last)
		h.live[d] = h.last
		added = append(added, d)
	}
	h.sent = append(h.sent, s.Delta(added, []Removal{s.Remove(dots...)}))
}

func (h *history) deliver(t *rapid.T) {
	if len(h.sent) == 0 {
		t.Skip("nothing was sent")
	}
	mergeTwice(t, h.at(t, "to"), rapid.SampledFrom(h.sent).Draw(t, "delta"))
}

// repair brings a replica what it lacks of another, or the first parts of it.
func (h *history) repair(t *rapid.T) {
	from, to := h.at(t, "from"), h.at(t, "to")
	parts := rapid.IntRange(0, 4).Draw(t, "parts")
	for part := range from.Repair(to.Digest()).Parts(rapid.IntRange(1, 3).Draw(t, "most")) {
		if parts--; parts < 0 {
			return
		}
		mergeTwice(t, to, part)
		h.sent = append(h.sent, part)
	}
}

func (h *history) at(t *rapid.T, label string) *Set[int] {
	return h.sets[rapid.IntRange(0, len(h.sets)-1).Draw(t, label)]
}

func mergeTwice(t *rapid.T, s *Set[int], delta Delta[int]) {
	before := s.Items()
	joined, left := s.Merge(delta)
	checkChange(t, before, s.Items(), joined, left)
	if joined, left := s.Merge(delta); len(joined)+len(left) != 0 {
		t.Fatalf("merging again: added %v, removed %v", joined, left)
	}
}

// converge lets every replica ask every other until nobody lacks anything.
func (h *history) converge(t *rapid.T) {
	for round := 0; ; round++ {
		busy := false
		for _, to := range h.sets {
			for _, from := range h.sets {
				if !from.Repair(to.Digest()).Empty() {
					busy = true
					bring(to, from)
				}
			}
		}
		if !busy {
			return
		}
		if round > 5 {
			t.Fatalf("not converged after %d rounds", round)
		}
	}
}

func (h *history) check(t *rapid.T) {
	for _, s := range h.sets {
		got := map[Dot]int{}
		for _, item := range s.Items() {
			got[item.Dot] = item.Value
		}
		if !maps.Equal(got, h.live) {
			t.Fatalf("%v holds %v, want %v", s.self, got, h.live)
		}
		if s.Len() != len(got) {
			t.Fatalf("Len = %d, want %d", s.Len(), len(got))
		}
		first := h.sets[0]
		if !s.seen.Equal(first.seen) || !s.applied.Equal(first.applied) || !maps.Equal(s.Digest().Prints, first.Digest().Prints) {
			t.Fatalf("digests differ after everyone has everything")
		}
		if s.Gaps() != 0 {
			t.Fatalf("history is not compact: %d gaps", s.Gaps())
		}
	}
}

func newHistory(t *rapid.T) *history {
	h := &history{live: map[Dot]int{}}
	for i := range rapid.IntRange(2, 7).Draw(t, "replicas") {
		s := NewSet[int](Replica{fmt.Sprint(i), 1})
		s.log.most = rapid.IntRange(0, 6).Draw(t, "log") // so short that it often does not reach back
		h.sets = append(h.sets, s)
	}
	return h
}

func TestConvergence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		t.Repeat(map[string]func(*rapid.T){
			"add": h.add, "remove": h.remove, "deliver": h.deliver, "repair": h.repair,
			"": func(t *rapid.T) {
				for _, s := range h.sets {
					if !s.Repair(s.Digest()).Empty() {
						t.Fatal("a set lacks something of itself")
					}
				}
			},
		})
		h.converge(t)
		h.check(t)
	})
}

// TestForgettingIsUndone lets replicas forget one another and recall. What was forgotten comes back as it is then, unless it was removed meanwhile.
func TestForgettingIsUndone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		t.Repeat(map[string]func(*rapid.T){
			"add": h.add, "remove": h.remove, "deliver": h.deliver, "repair": h.repair,
			"forget": func(t *rapid.T) {
				if s, other := h.at(t, "at"), h.at(t, "whom"); s != other {
					before := s.Items()
					checkChange(t, before, s.Items(), nil, nil)
					removed := s.Forget(other.self)
					checkChange(t, before, s.Items(), nil, removed)
				}
			},
			"recall": func(t *rapid.T) {
				if s, other := h.at(t, "at"), h.at(t, "whom"); s != other {
					s.Recall(other.self)
				}
			},
		})
		for _, s := range h.sets {
			for _, other := range h.sets {
				if s != other {
					s.Recall(other.self)
				}
			}
		}
		h.converge(t)
		h.check(t)
	})
}

func TestAnEarlierIncarnationIsForgotten(t *testing.T) {
	first, other := NewSet[string](Replica{"a", 1}), NewSet[string](Replica{"b", 1})
	first.Add("ann")
	bring(other, first)
	second := NewSet[string](Replica{"a", 2})
	bring(second, other)
	if second.Len() != 0 {
		t.Errorf("the new incarnation holds %v of its predecessor, want nothing", second.Items())
	}
	other.Retire(Replica{"a", 1})
	bring(other, first)
	if !first.Repair(other.Digest()).Empty() || other.Len() != 0 {
		t.Errorf("what was forgotten is still offered or taken: %v", other.Items())
	}
}

// checkChange checks that what Merge returned is exactly how the set changed.
func checkChange(t *rapid.T, before, after, joined, left []Item[int]) {
	got := map[Dot]int{}
	for _, item := range before {
		got[item.Dot] = item.Value
	}
	for _, item := range left {
		if _, ok := got[item.Dot]; !ok {
			t.Fatalf("removed %v was not live", item.Dot)
		}
		delete(got, item.Dot)
	}
	for _, item := range joined {
		if _, ok := got[item.Dot]; ok {
			t.Fatalf("added %v was live already", item.Dot)
		}
		got[item.Dot] = item.Value
	}
	want := map[Dot]int{}
	for _, item := range after {
		want[item.Dot] = item.Value
	}
	if !maps.Equal(got, want) {
		t.Fatalf("before + changes = %v, after = %v", got, want)
	}
}

// BenchmarkMerge merges a delta of 100 into sets of growing size: the cost must not grow with the set.
func BenchmarkMerge(b *testing.B) {
	for _, size := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("into=%d", size), func(b *testing.B) {
			remote, local := NewSet[int](Replica{"a", 1}), NewSet[int](Replica{"b", 1})
			for i := range size {
				remote.Add(i)
			}
			bring(local, remote)
			for b.Loop() {
				var dots []Dot
				for i := range 100 {
					dots = append(dots, remote.Add(i))
				}
				local.Merge(remote.Delta(dots, nil))
				local.Merge(remote.Delta(nil, []Removal{remote.Remove(dots...)}))
			}
		})
	}
}
