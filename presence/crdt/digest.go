package crdt

import "maps"

// Digest says what a set has taken in. Sets with equal contexts are equal; Prints prove it.
type Digest struct {
	Seen     Context // the adds
	Removals Context // the events of the removals
	// Prints are fingerprints of the live dots, by the replica that added them; none for a replica without any.
	Prints map[Replica]uint64
	// Forgotten is, by name, the highest incarnation about which the set takes nothing in; all below are forgotten, too.
	Forgotten map[string]uint64
}

// Forgets tells whether the set takes nothing in about replica.
func (d Digest) Forgets(replica Replica) bool {
	return replica.Incarnation <= d.Forgotten[replica.Name]
}

// without returns the dots of c but for those of replicas that either of two sets has forgotten.
func (c Context) without(a, b Digest) Context {
	rest := Context{replicas: maps.Clone(c.replicas)}
	maps.DeleteFunc(rest.replicas, func(r Replica, _ ranges) bool { return a.Forgets(r) || b.Forgets(r) })
	return rest
}

// contradicts tells whether two sets that have taken in the same do not hold the same. That comes of forgetting: a set that has forgotten who removed something
// cannot pass the removal on.
func (d Digest) contradicts(other Digest) bool {
	if !d.Seen.without(d, other).Equal(other.Seen.without(d, other)) || !d.Removals.without(d, other).Equal(other.Removals.without(d, other)) {
		return false
	}
	for _, side := range []Digest{d, other} {
		for r := range side.Prints {
			if d.Prints[r] != other.Prints[r] && !d.Forgets(r) && !other.Forgets(r) {
				return true
			}
		}
	}
	return false
}
