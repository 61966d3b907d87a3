package replication

import (
	"encoding/binary"
	"errors"
	"fmt"

	"rollcall/presence/crdt"
)

// Contexts, dots and removals are byte strings of unsigned LEB128 numbers: they have many numbers, most of them small.

const (
	// maxCounter keeps sums of counters far from overflow.
	maxCounter = 1 << 62
	// maxNumbers bounds a byte string of numbers: about a million ranges of dots that are neither all live nor all gone.
	maxNumbers = 4 << 20
)

// replicaTable numbers the replicas that a message names, so that each is spelt once.
type replicaTable struct {
	list  []wireReplica
	index map[crdt.Replica]uint64
}

type wireReplica struct {
	_           struct{} `cbor:",toarray"`
	Name        string
	Incarnation uint64
}

func newReplicaTable(first ...crdt.Replica) *replicaTable {
	t := &replicaTable{index: map[crdt.Replica]uint64{}}
	for _, replica := range first {
		t.number(replica)
	}
	return t
}

func (t *replicaTable) number(replica crdt.Replica) uint64 {
	n, ok := t.index[replica]
	if !ok {
		n = uint64(len(t.list))
		t.index[replica] = n
		t.list = append(t.list, wireReplica{Name: replica.Name, Incarnation: replica.Incarnation})
	}
	return n
}

// replicaList is a table that was read.
type replicaList []crdt.Replica

const maxNodeID = 255

func readReplicas(table []wireReplica) (replicaList, error) {
	list := make(replicaList, len(table))
	for i, r := range table {
		if r.Name == "" || len(r.Name) > maxNodeID || r.Incarnation == 0 {
			return nil, fmt.Errorf("replica %d of its table has no name, one that is too long, or no incarnation", i)
		}
		list[i] = crdt.Replica{Name: r.Name, Incarnation: r.Incarnation}
	}
	return list, nil
}

func (l replicaList) at(n uint64) (crdt.Replica, error) {
	if n >= uint64(len(l)) {
		return crdt.Replica{}, fmt.Errorf("replica %d is not in its table of %d", n, len(l))
	}
	return l[n], nil
}

// sender returns the replica that a message is from: the first of its table.
func (l replicaList) sender() (crdt.Replica, error) {
	if len(l) == 0 {
		return crdt.Replica{}, errors.New("it does not say who it is from")
	}
	return l[0], nil
}

// appendContext appends, for each replica, its number, how many ranges there are, and for each range how many counters lie between it and the last one, and by
// how much it ends after it begins. All dots 1 to n of a replica are thus 1, 0, n-1.
func appendContext(dst []byte, c crdt.Context, table *replicaTable) []byte {
	for _, replica := range c.Replicas() {
		ranges := c.Ranges(replica)
		dst = binary.AppendUvarint(dst, table.number(replica))
		dst = binary.AppendUvarint(dst, uint64(len(ranges)))
		end := uint64(0)
		for _, rng := range ranges {
			dst = binary.AppendUvarint(dst, rng.From-end-1)
			dst = binary.AppendUvarint(dst, rng.To-rng.From)
			end = rng.To
		}
	}
	return dst
}

// numbers reads what the append functions wrote. The first error stays; what is read after it is 0.
type numbers struct {
	rest     []byte
	replicas replicaList
	err      error
}

func readNumbers(encoded []byte, replicas replicaList) *numbers {
	n := &numbers{rest: encoded, replicas: replicas}
	if len(encoded) > maxNumbers {
		n.fail(fmt.Errorf("%d bytes of numbers are more than %d", len(encoded), maxNumbers))
	}
	return n
}

func (n *numbers) fail(err error) {
	if n.err == nil {
		n.err = err
	}
	n.rest = nil
}

func (n *numbers) more() bool { return len(n.rest) > 0 }

func (n *numbers) next() uint64 {
	value, size := binary.Uvarint(n.rest)
	if size <= 0 {
		n.fail(errors.New("its numbers end in the middle of one, or one is too large"))
		return 0
	}
	if size > 1 && n.rest[size-1] == 0 {
		n.fail(errNotShortest)
		return 0
	}
	n.rest = n.rest[size:]
	return value
}

// fixed reads a number of eight bytes.
func (n *numbers) fixed() uint64 {
	if len(n.rest) < 8 {
		n.fail(errors.New("its numbers end in the middle of one"))
		return 0
	}
	value := binary.BigEndian.Uint64(n.rest)
	n.rest = n.rest[8:]
	return value
}

func (n *numbers) replica() crdt.Replica {
	replica, err := n.replicas.at(n.next())
	if err != nil {
		n.fail(err)
	}
	return replica
}

// counter checks that a counter is one that a dot may have.
func (n *numbers) counter(value uint64) uint64 {
	if value == 0 || value > maxCounter {
		n.fail(fmt.Errorf("%d is no counter", value))
	}
	return value
}

// count returns how many things of two numbers each come next.
func (n *numbers) count() int {
	count := n.next()
	if count > uint64(len(n.rest)/2) {
		n.fail(fmt.Errorf("it says that there are %d more in %d bytes", count, len(n.rest)))
		return 0
	}
	return int(count)
}

func readContext(encoded []byte, replicas replicaList) (crdt.Context, error) {
	var c crdt.Context
	n := readNumbers(encoded, replicas)
	for n.more() {
		replica := n.replica()
		if len(c.Ranges(replica)) > 0 {
			n.fail(fmt.Errorf("%v is there twice", replica))
		}
		count, end := n.count(), uint64(0)
		if count == 0 {
			n.fail(fmt.Errorf("%v is there without a dot", replica))
		}
		for i := range count {
			skipped, length := n.next(), n.next()
			if i > 0 && skipped == 0 || skipped >= maxCounter || length >= maxCounter {
				n.fail(fmt.Errorf("ranges of %v overlap or touch, or are too long", replica))
				break
			}
			from := n.counter(end + 1 + skipped)
			end = n.counter(from + length)
			if n.err != nil {
				break
			}
			c.AddRange(replica, crdt.Range{From: from, To: end})
		}
	}
	if n.err != nil {
		return crdt.Context{}, fmt.Errorf("context: %w", n.err)
	}
	return c, nil
}

func appendDots(dst []byte, dots []crdt.Dot, table *replicaTable) []byte {
	for _, dot := range dots {
		dst = binary.AppendUvarint(dst, table.number(dot.Replica))
		dst = binary.AppendUvarint(dst, dot.Counter)
	}
	return dst
}

func (n *numbers) dot() crdt.Dot {
	return crdt.Dot{Replica: n.replica(), Counter: n.counter(n.next())}
}

func readDots(encoded []byte, replicas replicaList) ([]crdt.Dot, error) {
	var dots []crdt.Dot
	n := readNumbers(encoded, replicas)
	for n.more() {
		dots = append(dots, n.dot())
	}
	if n.err != nil {
		return nil, fmt.Errorf("dots: %w", n.err)
	}
	return dots, nil
}

// appendRemovals appends, for each, its event, how many dots it has, and the dots.
func appendRemovals(dst []byte, removals []crdt.Removal, table *replicaTable) []byte {
	for _, r := range removals {
		dst = appendDots(dst, []crdt.Dot{r.Event}, table)
		dst = binary.AppendUvarint(dst, uint64(len(r.Dots)))
		dst = appendDots(dst, r.Dots, table)
	}
	return dst
}

func readRemovals(encoded []byte, replicas replicaList) ([]crdt.Removal, error) {
	var removals []crdt.Removal
	n := readNumbers(encoded, replicas)
	for n.more() {
		r := crdt.Removal{Event: n.dot()}
		for range n.count() {
			r.Dots = append(r.Dots, n.dot())
		}
		removals = append(removals, r)
	}
	if n.err != nil {
		return nil, fmt.Errorf("removals: %w", n.err)
	}
	return removals, nil
}
