package crdt

import "github.com/tidwall/btree"

// liveValues are the live values that one replica added, by counter.
type liveValues[V any] struct {
	values btree.Map[uint64, V] // in order, since repairs go by ranges; copied in constant time for those that are under way
	print  uint64               // the sum of the counters' hashes: equal for equal counters
}

func (l *liveValues[V]) put(counter uint64, value V) (replaced bool) {
	_, replaced = l.values.Set(counter, value)
	l.print += hash(counter)
	return replaced
}

func (l *liveValues[V]) drop(counter uint64) (value V, wasLive bool) {
	value, wasLive = l.values.Delete(counter)
	if wasLive {
		l.print -= hash(counter)
	}
	return value, wasLive
}

// hash is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func hash(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
