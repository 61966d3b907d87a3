package presence

import (
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/tidwall/btree"
)

const indexStripes = 16

// keyIndex knows the topics of each key.
type keyIndex struct {
	stripes [indexStripes]indexStripe
}

type indexStripe struct {
	mu     sync.Mutex
	places *btree.BTreeG[place] // by key, then by topic: a key's topics stand together
}

// place is a key in a topic.
type place struct {
	key   Key
	topic Topic
}

func newKeyIndex() *keyIndex {
	x := &keyIndex{}
	for i := range x.stripes {
		x.stripes[i].places = btree.NewBTreeGOptions(placeLess, btree.Options{NoLocks: true})
	}
	return x
}

func placeLess(a, b place) bool {
	if a.key != b.key {
		return a.key < b.key
	}
	return a.topic < b.topic
}

func (x *keyIndex) stripe(key Key) *indexStripe {
	return &x.stripes[xxhash.Sum64String(string(key))%indexStripes]
}

func (x *keyIndex) add(key Key, topic Topic) {
	s := x.stripe(key)
	s.mu.Lock()
	s.places.Set(place{key, topic})
	s.mu.Unlock()
}

func (x *keyIndex) remove(key Key, topic Topic) {
	s := x.stripe(key)
	s.mu.Lock()
	s.places.Delete(place{key, topic})
	s.mu.Unlock()
}

// topics returns the topics that key is in, in byte order.
func (x *keyIndex) topics(key Key) []Topic {
	s := x.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	var topics []Topic
	s.places.Ascend(place{key: key}, func(p place) bool {
		if p.key != key {
			return false
		}
		topics = append(topics, p.topic)
		return true
	})
	return topics
}
