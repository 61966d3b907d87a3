package presence

import "github.com/tidwall/btree"

// topic holds the visible members of one topic. It exists while it has any. The shard's lock guards it.
type topic struct {
	name    Topic
	members btree.Map[Key, Metas] // copied in constant time, then on write
	metas   int
	version uint64 // of the last change; no other version of any topic of this shard has had it
	listing *Listing
}

// Count is how many people are in a topic, on how many devices.
type Count struct {
	Keys  int
	Metas int
}

func (t *topic) count() Count { return Count{Keys: t.members.Len(), Metas: t.metas} }

// join adds p and tells whether its key is new to the topic.
func (t *topic) join(p *Presence) (newKey bool) {
	metas, _ := t.members.Get(p.Key)
	t.members.Set(p.Key, metas.with(p))
	t.metas++
	return len(metas) == 0
}

// leave removes p and tells whether its key has gone from the topic.
func (t *topic) leave(p *Presence) (goneKey bool) {
	metas, _ := t.members.Get(p.Key)
	metas = metas.without(p)
	t.metas--
	if len(metas) == 0 {
		t.members.Delete(p.Key)
		return true
	}
	t.members.Set(p.Key, metas)
	return false
}

// all returns the members of a tree in order.
func all(tree *btree.Map[Key, Metas]) Members {
	members := make(Members, 0, tree.Len())
	tree.Scan(func(key Key, metas Metas) bool {
		members = append(members, Member{key, metas})
		return true
	})
	return members
}
