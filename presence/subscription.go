package presence

import (
	"slices"
	"strings"

	"github.com/tidwall/btree"
)

// Subscription follows one topic. It gathers the topic's net change until its owner takes it; so it is never behind by more than the
// topic's size, however long that is.
type Subscription struct {
	shard   *shard
	topic   Topic
	notify  func()
	pending netDiff // what [Subscription.Take] has not returned yet
}

// Subscribe follows topic from now on: [Subscription.State] is the topic as it is now, and [Subscription.Take] returns what changed since.
//
// notify is called when there is something to take and there was nothing before. It runs under a lock: it must not block, nor call the tracker.
func (t *Tracker) Subscribe(topic Topic, notify func()) *Subscription {
	s := &Subscription{shard: t.shard(topic), topic: topic, notify: notify, pending: newNetDiff()}
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	subs := s.shard.subs[topic]
	if subs == nil {
		subs = map[*Subscription]struct{}{}
		s.shard.subs[topic] = subs
	}
	subs[s] = struct{}{}
	return s
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	subs := s.shard.subs[s.topic]
	delete(subs, s)
	if len(subs) == 0 {
		delete(s.shard.subs, s.topic)
	}
}

// Take returns the topic's net change since the last Take, or since Subscribe. It may be empty, when what joined has left again.
func (s *Subscription) Take() Diff {
	s.shard.mu.Lock()
	pending := s.pending
	if !pending.empty() {
		s.pending = newNetDiff()
	}
	s.shard.mu.Unlock()
	return pending.diff()
}

// State returns the topic as it was at the last Take, or at Subscribe: what is there, less what is pending. State and the diffs taken after it
// together hold every change exactly once.
func (s *Subscription) State() Members {
	s.shard.mu.Lock()
	var now btree.Map[Key, Metas]
	if t, ok := s.shard.topics.Get(s.topic); ok {
		now = *t.members.Copy()
	}
	pending := s.pending.diff()
	s.shard.mu.Unlock()
	return revert(all(&now), pending)
}

// revert undoes diff in members, which it may change.
func revert(members Members, diff Diff) Members {
	for _, joined := range diff.Joins {
		i, _ := slices.BinarySearchFunc(members, joined.Key, compareKey)
		for _, p := range joined.Metas {
			members[i].Metas = members[i].Metas.without(p)
		}
	}
	for _, left := range diff.Leaves {
		i, found := slices.BinarySearchFunc(members, left.Key, compareKey)
		if !found {
			members = slices.Insert(members, i, Member{Key: left.Key})
		}
		metas := slices.Concat(members[i].Metas, left.Metas)
		slices.SortFunc(metas, compareRefs)
		members[i].Metas = metas
	}
	return slices.DeleteFunc(members, func(m Member) bool { return len(m.Metas) == 0 })
}

func compareKey(m Member, key Key) int { return strings.Compare(string(m.Key), string(key)) }

func (s *Subscription) changeLocked(left, joined *Presence) {
	idle := s.pending.empty()
	if left != nil {
		s.pending.leave(left)
	}
	if joined != nil {
		s.pending.join(joined)
	}
	if idle && !s.pending.empty() {
		s.notify()
	}
}
