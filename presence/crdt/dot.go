package crdt

import (
	"cmp"
	"fmt"
	"strings"
)

// Replica names one run of one node. It never names another: a node raises its incarnation before each run.
type Replica struct {
	Name        string // the node's id
	Incarnation uint64 // raised at each start
}

// Compare orders replicas by name, then by incarnation.
func (r Replica) Compare(other Replica) int {
	if c := strings.Compare(r.Name, other.Name); c != 0 {
		return c
	}
	return cmp.Compare(r.Incarnation, other.Incarnation)
}

func (r Replica) String() string { return fmt.Sprintf("%s/%d", r.Name, r.Incarnation) }

// Dot is the unique name of one add: the Counter-th of its Replica, from 1.
type Dot struct {
	Replica Replica
	Counter uint64
}

// Compare orders dots by replica, then by counter.
func (d Dot) Compare(other Dot) int {
	if c := d.Replica.Compare(other.Replica); c != 0 {
		return c
	}
	return cmp.Compare(d.Counter, other.Counter)
}

func (d Dot) String() string { return fmt.Sprintf("%v:%d", d.Replica, d.Counter) }
