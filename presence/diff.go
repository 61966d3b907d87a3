package presence

import (
	"slices"
	"strings"
)

// Diff is a topic's change: the metas that joined and those that left. A meta that was updated left under its old ref and joined under its new one.
type Diff struct {
	Joins, Leaves Members
}

// Empty tells whether nothing changed.
func (d Diff) Empty() bool { return len(d.Joins) == 0 && len(d.Leaves) == 0 }

// AppendJSON appends {"joins":{…},"leaves":{…}}.
func (d Diff) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"joins":`...)
	dst = d.Joins.AppendJSON(dst)
	dst = append(dst, `,"leaves":`...)
	dst = d.Leaves.AppendJSON(dst)
	return append(dst, '}')
}

// netDiff gathers changes such that a meta that joined and left, or left and came back, is in neither of the two.
type netDiff struct {
	joins, leaves map[Ref]*Presence
}

func newNetDiff() netDiff {
	return netDiff{joins: map[Ref]*Presence{}, leaves: map[Ref]*Presence{}}
}

// empty tells whether there is nothing in it.
func (n netDiff) empty() bool { return len(n.joins) == 0 && len(n.leaves) == 0 }

func (n netDiff) leave(p *Presence) {
	if _, ok := n.joins[p.Ref]; ok {
		delete(n.joins, p.Ref)
		return
	}
	n.leaves[p.Ref] = p
}

func (n netDiff) join(p *Presence) {
	if _, ok := n.leaves[p.Ref]; ok {
		delete(n.leaves, p.Ref)
		return
	}
	n.joins[p.Ref] = p
}

func (n netDiff) diff() Diff {
	return Diff{Joins: group(n.joins), Leaves: group(n.leaves)}
}

// group returns presences by key, both in order.
func group(presences map[Ref]*Presence) Members {
	flat := make(Metas, 0, len(presences))
	for _, p := range presences {
		flat = append(flat, p)
	}
	slices.SortFunc(flat, func(a, b *Presence) int {
		if c := strings.Compare(string(a.Key), string(b.Key)); c != 0 {
			return c
		}
		return compareRefs(a, b)
	})
	var members Members
	for start := 0; start < len(flat); {
		end := start + 1
		for end < len(flat) && flat[end].Key == flat[start].Key {
			end++
		}
		members = append(members, Member{Key: flat[start].Key, Metas: flat[start:end:end]})
		start = end
	}
	return members
}
