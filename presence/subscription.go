package presence

import (
	"slices"
	"strings"

	"github.com/tidwall/btree"
)

// Grouping says how a [Subscription] gathers changes.
type Grouping int

const (
	// Net makes one diff of all changes, in which what joined and left, or left and came back, does not appear. It is never larger than the
	// topic was and is.
	Net Grouping = iota
	// Each keeps each change by itself, in order.
	Each
)

// Subscription follows one topic and gathers its changes until its owner takes them.
type Subscription struct {
	shard    *shard
	topic    Topic
	grouping Grouping
	notify   func()
	pending  []netDiff // what [Subscription.Take] has not returned yet, oldest first; at most one when grouped as Net
}

// Subscribe follows topic from now on: [Subscription.State] is the topic as it is now, and [Subscription.Take] returns what changed since.
//
// notify is called when there is something to take and there was nothing before. It runs under a lock: it must not block, nor call the tracker.
func (t *Tracker) Subscribe(topic Topic, grouping Grouping, notify func()) *Subscription {
	s := &Subscription{shard: t.shard(topic), topic: topic, grouping: grouping, notify: notify}
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

// Take returns the topic's oldest change that was not taken yet: with [Net] the whole change since the last Take, or since Subscribe. It is
// empty when there is none.
func (s *Subscription) Take() Diff {
	s.shard.mu.Lock()
	if len(s.pending) == 0 {
		s.shard.mu.Unlock()
		return Diff{}
	}
	oldest := s.pending[0]
	s.pending = s.pending[1:]
	s.shard.mu.Unlock()
	return oldest.diff()
}

// State returns the topic as it was at the last Take, or at Subscribe: what is there, less what is pending. State and the diffs taken after it
// together hold every change exactly once.
func (s *Subscription) State() Members {
	s.shard.mu.Lock()
	var now btree.Map[Key, Metas]
	if t, ok := s.shard.topics.Get(s.topic); ok {
		now = *t.members.Copy()
	}
	var pending []Diff
	for _, change := range s.pending {
		pending = append(pending, change.diff())
	}
	s.shard.mu.Unlock()
	members := all(&now)
	for _, diff := range slices.Backward(pending) {
		members = revert(members, diff)
	}
	return members
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
	idle := len(s.pending) == 0
	if idle || s.grouping == Each {
		s.pending = append(s.pending, newNetDiff())
	}
	last := s.pending[len(s.pending)-1]
	if left != nil {
		last.leave(left)
	}
	if joined != nil {
		last.join(joined)
	}
	if last.empty() {
		s.pending = nil // all of it has cancelled out
		return
	}
	if idle {
		s.notify()
	}
}
