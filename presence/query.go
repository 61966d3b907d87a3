package presence

import (
	"slices"
	"strings"
)

// Listing is a topic's state, encoded.
type Listing struct {
	Version uint64 // changes whenever the topic does; 0 when nobody is there
	JSON    []byte // as [Members.AppendJSON]; shared, not to be changed
}

var emptyListing = Listing{JSON: []byte("{}")}

// List returns a topic's state. It is encoded once for each version of the topic.
func (t *Tracker) List(name Topic) Listing {
	s := t.shard(name)
	s.mu.Lock()
	now, ok := s.topics.Get(name)
	if !ok {
		s.mu.Unlock()
		return emptyListing
	}
	if now.listing != nil {
		defer s.mu.Unlock()
		return *now.listing
	}
	version, members := now.version, now.members.Copy()
	s.mu.Unlock()

	listing := Listing{Version: version, JSON: all(members).AppendJSON(nil)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.version == version {
		now.listing = &listing
	}
	return listing
}

// Page returns up to limit members of a topic whose keys are after a given one, whether there are more, and the topic's version.
func (t *Tracker) Page(name Topic, after string, limit int) (page Members, more bool, version uint64) {
	s := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	now, ok := s.topics.Get(name)
	if !ok {
		return nil, false, 0
	}
	now.members.Ascend(Key(after), func(key Key, metas Metas) bool {
		if string(key) == after {
			return true
		}
		if len(page) == limit {
			more = true
			return false
		}
		page = append(page, Member{key, metas})
		return true
	})
	return page, more, now.version
}

// Get returns the metas of a key in a topic; none when it is not present.
func (t *Tracker) Get(name Topic, key Key) Metas {
	s := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	now, ok := s.topics.Get(name)
	if !ok {
		return nil
	}
	metas, _ := now.members.Get(key)
	return metas
}

// Count counts a topic, in constant time.
func (t *Tracker) Count(name Topic) Count {
	s := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	now, ok := s.topics.Get(name)
	if !ok {
		return Count{}
	}
	return now.count()
}

// TopicCount is a topic with its counts.
type TopicCount struct {
	Topic Topic
	Count
}

// Topics returns, in byte order, up to limit topics that begin with prefix and are after a given one, and whether there are more. A topic that comes or goes
// meanwhile may be missed.
func (t *Tracker) Topics(prefix, after string, limit int) (topics []TopicCount, more bool) {
	for _, s := range t.shards {
		topics = append(topics, s.page(prefix, after, limit+1)...)
	}
	slices.SortFunc(topics, func(a, b TopicCount) int { return strings.Compare(string(a.Topic), string(b.Topic)) })
	if len(topics) > limit {
		return topics[:limit], true
	}
	return topics, false
}

func (s *shard) page(prefix, after string, limit int) (topics []TopicCount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topics.Ascend(Topic(max(prefix, after)), func(name Topic, t *topic) bool {
		if string(name) == after {
			return true
		}
		if len(topics) == limit || !strings.HasPrefix(string(name), prefix) {
			return false
		}
		topics = append(topics, TopicCount{name, t.count()})
		return true
	})
	return topics
}

// Whereabouts is a topic with one key's metas in it.
type Whereabouts struct {
	Topic Topic
	Metas Metas
}

// WhereIs returns the topics that key is in, in byte order, with its metas.
func (t *Tracker) WhereIs(key Key) []Whereabouts {
	var places []Whereabouts
	for _, topic := range t.TopicsOf(key) {
		if metas := t.Get(topic, key); len(metas) > 0 { // else it left meanwhile
			places = append(places, Whereabouts{topic, metas})
		}
	}
	return places
}

// TopicsOf returns the topics that key is in, in byte order.
func (t *Tracker) TopicsOf(key Key) []Topic { return t.keys.topics(key) }

// Stats are figures for metrics: what there is now, and what happened since the tracker was opened.
type Stats struct {
	Topics, Presences, Sessions int

	Tracks, Updates, Untracks uint64 // presences that began, were updated, ended
	Expired                   uint64 // sessions whose lease or linger ran out
	Heartbeats                uint64
	Adopted                   uint64 // sessions that came from other nodes

	// Held are the presences of the sessions that live on this node.
	Held int
}

// Stats returns the tracker's figures. They are not of one moment.
func (t *Tracker) Stats() Stats {
	stats := Stats{
		Tracks: t.tracks.Load(), Updates: t.updates.Load(), Untracks: t.untracks.Load(),
		Expired: t.expired.Load(), Heartbeats: t.heartbeats.Load(), Adopted: t.adopted.Load(),
	}
	for _, s := range t.shards {
		s.mu.Lock()
		stats.Topics += s.topics.Len()
		stats.Presences += len(s.records)
		stats.Held += s.set.LenOf(t.config.Replica)
		s.mu.Unlock()
	}
	for i := range t.stripes {
		st := &t.stripes[i]
		st.mu.Lock()
		stats.Sessions += len(st.sessions)
		st.mu.Unlock()
	}
	return stats
}
