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
	added := a.Delta(a.Add("ann"))
	a.Remove(dot("a", 1))
	b.Merge(a.Delta(dot("a", 1)))
	if joined, left := b.Merge(added); len(joined) != 0 || len(left) != 0 {
		t.Fatalf("late add after its removal: joined %v, left %v, want nothing", joined, left)
	}
	if b.Len() != 0 {
		t.Fatalf("Len = %d, want 0", b.Len())
	}
}

func TestRemoveUnseenDot(t *testing.T) {
	a, b := NewSet[string](Replica{"a", 1}), NewSet[string](Replica{"b", 1})
	if _, wasLive := b.Remove(dot("a", 1)); wasLive {
		t.Fatal("Remove of an unseen dot says that it was live")
	}
	a.Add("ann")
	b.Merge(a.Snapshot())
	if b.Len() != 0 {
		t.Fatalf("add that arrives after its removal is live: %v", b.Items())
	}
}

func TestAddWins(t *testing.T) {
	a, b := NewSet[string](Replica{"a", 1}), NewSet[string](Replica{"b", 1})
	first := a.Add("ann")
	b.Merge(a.Snapshot())
	again := a.Add("ann") // concurrent with
	b.Remove(first)       // the removal of what b has seen
	a.Merge(b.Snapshot())
	b.Merge(a.Delta(again))
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
	added, removed := b.Merge(a.Snapshot())
	if want := a.Items(); !reflect.DeepEqual(added, want) || removed != nil {
		t.Fatalf("first merge: added %v, removed %v, want %v and nothing", added, removed, want)
	}
	for _, dot := range dots[5:10] {
		a.Remove(dot)
	}
	added, removed = b.Merge(a.Delta(dots[3:12]...))
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
	if c.CloudLen() != 2 || c.Upto(Replica{"a", 1}) != 1 {
		t.Errorf("CloudLen = %d, Upto = %d, want 2 and 1", c.CloudLen(), c.Upto(Replica{"a", 1}))
	}
	c.Union(ContextOf(dot("a", 2), dot("b", 1)))
	if c.CloudLen() != 0 || c.Upto(Replica{"a", 1}) != 3 {
		t.Errorf("after the gaps closed: CloudLen = %d, Upto = %d, want 0 and 3", c.CloudLen(), c.Upto(Replica{"a", 1}))
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
		clone := c.Clone()
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
		if !clone.Equal(ContextOf(first...)) {
			t.Fatalf("Union changed a clone")
		}
	})
}

// TestConvergence runs several replicas with deltas that are lost, doubled and reordered, then gives everyone everything.
// The reference says what must be live: a value whose dot nobody has removed.
func TestConvergence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 5).Draw(t, "replicas")
		var sets []*Set[int]
		for i := range n {
			sets = append(sets, NewSet[int](Replica{fmt.Sprint(i), 1}))
		}
		at := rapid.IntRange(0, n-1)
		var sent []Delta[int]
		live, added := map[Dot]int{}, 0
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				s := sets[at.Draw(t, "at")]
				added++
				d := s.Add(added)
				live[d] = added
				sent = append(sent, s.Delta(d))
			},
			"remove": func(t *rapid.T) {
				s := sets[at.Draw(t, "at")]
				if s.Len() == 0 {
					t.Skip("nothing to remove")
				}
				d := rapid.SampledFrom(s.Items()).Draw(t, "item").Dot
				s.Remove(d)
				delete(live, d)
				sent = append(sent, s.Delta(d))
			},
			"snapshot": func(t *rapid.T) { sent = append(sent, sets[at.Draw(t, "at")].Snapshot()) },
			"deliver": func(t *rapid.T) {
				if len(sent) == 0 {
					t.Skip("nothing was sent")
				}
				s, delta := sets[at.Draw(t, "to")], rapid.SampledFrom(sent).Draw(t, "delta")
				before := s.Items()
				joined, left := s.Merge(delta)
				checkChange(t, before, s.Items(), joined, left)
				if joined, left := s.Merge(delta); len(joined)+len(left) != 0 {
					t.Fatalf("merging again: added %v, removed %v", joined, left)
				}
			},
			"": func(t *rapid.T) {
				for _, s := range sets {
					if joined, left := s.Merge(s.Snapshot()); len(joined)+len(left) != 0 {
						t.Fatalf("merging itself: added %v, removed %v", joined, left)
					}
				}
			},
		})
		for _, to := range sets {
			for _, from := range sets {
				to.Merge(from.Snapshot())
			}
		}
		for _, s := range sets {
			got := map[Dot]int{}
			for _, item := range s.Items() {
				got[item.Dot] = item.Value
			}
			if !maps.Equal(got, live) {
				t.Fatalf("%v holds %v, want %v", s.self, got, live)
			}
			if !s.context.Equal(sets[0].context) {
				t.Fatalf("contexts differ after everyone has everything")
			}
			if s.context.CloudLen() != 0 {
				t.Fatalf("history is not compact: %d dots in the cloud", s.context.CloudLen())
			}
		}
	})
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
	for _, size := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("into=%d", size), func(b *testing.B) {
			remote, local := NewSet[int](Replica{"a", 1}), NewSet[int](Replica{"b", 1})
			for i := range size {
				remote.Add(i)
			}
			local.Merge(remote.Snapshot())
			for b.Loop() {
				var dots []Dot
				for i := range 100 {
					dots = append(dots, remote.Add(i))
				}
				local.Merge(remote.Delta(dots...))
				for _, d := range dots {
					remote.Remove(d)
				}
				local.Merge(remote.Delta(dots...))
			}
		})
	}
}
