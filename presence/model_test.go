package presence

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rollcall/clients/go"
)

// inBubble runs one check on a fake clock of its own. Rapid itself stays outside, as it takes its seeds and limits from the clock.
func inBubble(t *testing.T, check *rapid.T, property func(*rapid.T)) {
	var failure any
	synctest.Test(t, func(*testing.T) {
		defer func() { failure = recover() }()
		property(check)
	})
	if failure != nil {
		panic(failure) // is how rapid ends a check
	}
}

// model is the reference: DESIGN section 3 in the simplest words, with no index and no cleverness.
type model struct {
	now      time.Duration
	sessions map[SessionID]*modelSession
}

type modelSession struct {
	ttl      time.Duration
	deadline time.Duration
	streams  int
	held     map[place]*modelPresence
}

type modelPresence struct {
	meta     string
	byStream bool
	streams  int
	until    time.Duration // 0: none
}

type modelStream struct {
	session SessionID
	life    *modelSession // the session that it was bound to
	places  []place
	linger  time.Duration
	binding *Binding
}

func (m *model) open(id SessionID) *modelSession {
	s := m.sessions[id]
	if s == nil {
		s = &modelSession{ttl: 30 * time.Second, held: map[place]*modelPresence{}}
		m.sessions[id] = s
	}
	return s
}

func (m *model) attach(stream *modelStream, meta string) {
	s := m.open(stream.session)
	stream.life = s
	for _, p := range stream.places {
		if s.held[p] == nil {
			s.held[p] = &modelPresence{meta: meta, byStream: true}
		}
		s.held[p].streams++
		s.held[p].until = 0
	}
	s.streams++
	s.abandon(m.now + stream.linger)
	m.expire()
}

func (m *model) detach(stream *modelStream) {
	s := stream.life
	if m.sessions[stream.session] != s {
		return
	}
	s.streams--
	for _, p := range stream.places {
		if h := s.held[p]; h != nil && h.streams > 0 {
			h.streams--
		}
	}
	if s.streams > 0 {
		s.abandon(m.now + stream.linger)
	} else {
		s.deadline = m.now + stream.linger
	}
	m.expire()
}

func (s *modelSession) abandon(until time.Duration) {
	for _, h := range s.held {
		if h.byStream && h.streams == 0 && h.until == 0 {
			h.until = until
		}
	}
}

func (m *model) expire() {
	for id, s := range m.sessions {
		if s.streams == 0 && s.deadline <= m.now {
			delete(m.sessions, id)
		}
		maps.DeleteFunc(s.held, func(_ place, h *modelPresence) bool { return h.until != 0 && h.until <= m.now })
	}
}

// lists returns the sorted metas of every key of every topic.
func (m *model) lists() map[Topic]map[Key][]string {
	lists := map[Topic]map[Key][]string{}
	for _, s := range m.sessions {
		for p, h := range s.held {
			if lists[p.topic] == nil {
				lists[p.topic] = map[Key][]string{}
			}
			lists[p.topic][p.key] = append(lists[p.topic][p.key], h.meta)
			slices.Sort(lists[p.topic][p.key])
		}
	}
	return lists
}

// watcher is a subscriber that applies what it gets with Phoenix's rules.
type watcher struct {
	topic Topic
	sub   *Subscription
	state rollcallclient.PresenceState
}

// run is one random history: the tracker, the model, and who watches.
type run struct {
	tracker  *Tracker
	model    *model
	streams  []*modelStream
	watchers []*watcher
	refs     map[Ref]string // every ref that was ever seen, with its meta
}

var (
	topicGen   = rapid.SampledFrom([]Topic{"lobby", "attic", `"odd" \ topic`})
	keyGen     = rapid.SampledFrom([]Key{"ann", "bob", "__proto__"})
	sessionGen = rapid.SampledFrom([]SessionID{s1, s2, "session-three-03"})
	metaGen    = rapid.SampledFrom([]string{`{}`, `{"status":"away"}`, `{"device":"phone","n":1}`})
	lingerGen  = rapid.SampledFrom([]time.Duration{0, 3 * time.Second, 10 * time.Second})
)

// TestHistories runs random histories of everything that a tracker can do on a fake clock, and after each step holds every query against the model, and every
// watcher's applied state against the list.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(check *rapid.T) {
		inBubble(t, check, func(t *rapid.T) {
			tracker, err := Open(Config{Replica: replica})
			if err != nil {
				t.Fatal(err)
			}
			defer tracker.Close()
			r := &run{tracker: tracker, model: &model{now: tracker.clock.now(), sessions: map[SessionID]*modelSession{}}, refs: map[Ref]string{}}
			t.Repeat(map[string]func(*rapid.T){
				"track": r.track, "update": r.update, "patch": r.patch, "untrack": r.untrack, "leave": r.leave, "heartbeat": r.heartbeat,
				"attach": r.attach, "detach": r.detach, "time passes": r.pass, "watch": r.watch, "take": r.take, "": r.check,
			})
			for _, w := range r.watchers {
				r.catchUp(t, w)
			}
		})
	})
}

func (r *run) track(t *rapid.T) {
	topic, key, id, meta := topicGen.Draw(t, "topic"), keyGen.Draw(t, "key"), sessionGen.Draw(t, "session"), metaGen.Draw(t, "meta")
	ttl := rapid.SampledFrom([]time.Duration{0, 2 * time.Second, 200 * time.Second}).Draw(t, "ttl")
	_, err := r.tracker.Track(TrackRequest{Topic: topic, Key: key, Session: id, Meta: Meta(meta), TTL: ttl})
	s := r.model.open(id)
	if ttl != 0 {
		s.ttl = ttl
	}
	s.deadline = r.model.now + s.ttl
	conflict := s.held[place{key, topic}] != nil
	if _, ok := err.(*AlreadyTrackedError); ok != conflict || (err != nil) != conflict {
		t.Fatalf("Track = %v, want a conflict: %v", err, conflict)
	}
	if !conflict {
		s.held[place{key, topic}] = &modelPresence{meta: meta}
	}
}

func (r *run) update(t *rapid.T) {
	topic, key, id, meta := topicGen.Draw(t, "topic"), keyGen.Draw(t, "key"), sessionGen.Draw(t, "session"), metaGen.Draw(t, "meta")
	_, created, err := r.tracker.Update(topic, key, id, Meta(meta))
	s := r.model.open(id)
	s.deadline = r.model.now + s.ttl
	h := s.held[place{key, topic}]
	if err != nil || created != (h == nil) {
		t.Fatalf("Update = %v, created %v, want created %v", err, created, h == nil)
	}
	if h == nil {
		s.held[place{key, topic}] = &modelPresence{meta: meta}
		return
	}
	h.meta = meta
}

func (r *run) patch(t *rapid.T) {
	topic, key, id := topicGen.Draw(t, "topic"), keyGen.Draw(t, "key"), sessionGen.Draw(t, "session")
	tracked, err := r.tracker.Patch(topic, key, id, Meta(`{"status":"back"}`))
	s := r.model.sessions[id]
	switch {
	case s == nil:
		if err != ErrUnknownSession {
			t.Fatalf("Patch = %v, want ErrUnknownSession", err)
		}
	case s.held[place{key, topic}] == nil:
		if err != ErrNotPresent {
			t.Fatalf("Patch = %v, want ErrNotPresent", err)
		}
	default:
		if err != nil {
			t.Fatalf("Patch = %v", err)
		}
		s.deadline = r.model.now + s.ttl
		s.held[place{key, topic}].meta = string(tracked.Meta)
	}
}

func (r *run) untrack(t *rapid.T) {
	topic, key, id := topicGen.Draw(t, "topic"), keyGen.Draw(t, "key"), sessionGen.Draw(t, "session")
	r.tracker.Untrack(topic, key, id)
	if s := r.model.sessions[id]; s != nil {
		delete(s.held, place{key, topic})
	}
}

func (r *run) leave(t *rapid.T) {
	id := sessionGen.Draw(t, "session")
	r.tracker.Leave(id)
	delete(r.model.sessions, id)
}

func (r *run) heartbeat(t *rapid.T) {
	id := sessionGen.Draw(t, "session")
	_, err := r.tracker.Heartbeat(id)
	s := r.model.sessions[id]
	if (err == nil) != (s != nil) {
		t.Fatalf("Heartbeat = %v, want known: %v", err, s != nil)
	}
	if s != nil {
		s.deadline = r.model.now + s.ttl
	}
}

func (r *run) attach(t *rapid.T) {
	stream := &modelStream{session: sessionGen.Draw(t, "session"), linger: lingerGen.Draw(t, "linger")}
	request := AttachRequest{Session: stream.session, Linger: stream.linger}
	meta := metaGen.Draw(t, "meta")
	if rapid.Bool().Draw(t, "with a key") {
		request.Key, request.Meta = keyGen.Draw(t, "key"), Meta(meta)
		request.Topics = rapid.SliceOfNDistinct(topicGen, 1, 3, rapid.ID).Draw(t, "topics")
		for _, topic := range request.Topics {
			stream.places = append(stream.places, place{request.Key, topic})
		}
	}
	binding, err := r.tracker.Attach(request)
	if unknown := request.Key == "" && r.model.sessions[stream.session] == nil; unknown {
		if err != ErrUnknownSession {
			t.Fatalf("Attach = %v, want ErrUnknownSession", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	stream.binding = binding
	r.model.attach(stream, meta)
	r.streams = append(r.streams, stream)
}

func (r *run) detach(t *rapid.T) {
	if len(r.streams) == 0 {
		t.Skip("no stream is open")
	}
	i := rapid.IntRange(0, len(r.streams)-1).Draw(t, "stream")
	r.streams[i].binding.Close()
	r.model.detach(r.streams[i])
	r.streams = slices.Delete(r.streams, i, i+1)
}

// pass lets whole seconds go by, so that the sweeper is never between two of the model's moments.
func (r *run) pass(t *rapid.T) {
	d := time.Duration(rapid.SampledFrom([]int{1, 2, 5, 29, 31, 150}).Draw(t, "seconds")) * time.Second
	sleep(d)
	r.model.now += d
	r.model.expire()
}

func (r *run) watch(t *rapid.T) {
	topic := topicGen.Draw(t, "topic")
	grouping := rapid.SampledFrom([]Grouping{Net, Each}).Draw(t, "grouping")
	w := &watcher{topic: topic, sub: r.tracker.Subscribe(topic, grouping, func() {}), state: rollcallclient.PresenceState{}}
	w.state.SyncState(decodeJSON[rollcallclient.PresenceState](t, w.sub.State().AppendJSON(nil)), nil, nil)
	r.watchers = append(r.watchers, w)
	r.sameAsList(t, w)
}

func (r *run) take(t *rapid.T) {
	if len(r.watchers) == 0 {
		t.Skip("nobody watches")
	}
	r.catchUp(t, rapid.SampledFrom(r.watchers).Draw(t, "watcher"))
}

func (r *run) catchUp(t *rapid.T, w *watcher) {
	for diff := w.sub.Take(); !diff.Empty(); diff = w.sub.Take() {
		w.mustHave(t, diff.Joins, false)
		w.mustHave(t, diff.Leaves, true)
		w.state.SyncDiff(decodeJSON[rollcallclient.PresenceDiff](t, diff.AppendJSON(nil)), nil, nil)
	}
	r.sameAsList(t, w)
}

// mustHave checks that the watcher has all of these metas, or none: what joins is news, and what leaves was there.
func (w *watcher) mustHave(t *rapid.T, members Members, want bool) {
	for _, member := range members {
		for _, p := range member.Metas {
			has := slices.ContainsFunc(w.state[string(member.Key)].Metas, func(meta rollcallclient.TrackedMeta) bool {
				return meta.PhxRef == string(p.Ref)
			})
			if has != want {
				t.Fatalf("the watcher has ref %s of %s: %v, want %v", p.Ref, p.Key, has, want)
			}
		}
	}
}

func (r *run) sameAsList(t *rapid.T, w *watcher) {
	want := decodeJSON[rollcallclient.PresenceState](t, r.tracker.List(w.topic).JSON)
	if !reflect.DeepEqual(w.state, want) {
		t.Fatalf("the watcher of %s has %v, the list is %v", w.topic, w.state, want)
	}
}

// check holds every query against the model.
func (r *run) check(t *rapid.T) {
	synctest.Wait()
	want := r.model.lists()
	topics, more := r.tracker.Topics("", "", 10)
	if more || len(topics) != len(want) {
		t.Fatalf("Topics = %v, more %v, want %v", topics, more, want)
	}
	for _, topic := range topics {
		r.checkTopic(t, topic, want[topic.Topic])
	}
	for _, w := range r.watchers { // what a new watcher that shares the subscription would start from
		state := decodeJSON[rollcallclient.PresenceState](t, w.sub.State().AppendJSON(nil))
		if !reflect.DeepEqual(w.state, state) {
			t.Fatalf("State of %s = %v, watchers that took everything have %v", w.topic, state, w.state)
		}
	}
	for _, key := range []Key{"ann", "bob", "__proto__"} {
		got := map[Topic]int{}
		for _, at := range r.tracker.WhereIs(key) {
			got[at.Topic] = len(at.Metas)
		}
		wantAt := map[Topic]int{}
		for topic, list := range want {
			if metas := list[key]; len(metas) > 0 {
				wantAt[topic] = len(metas)
			}
		}
		if !maps.Equal(got, wantAt) {
			t.Fatalf("WhereIs(%s) = %v, want %v", key, got, wantAt)
		}
	}
	if got := r.tracker.Stats().Sessions; got != len(r.model.sessions) {
		t.Fatalf("%d sessions, want %d", got, len(r.model.sessions))
	}
}

func (r *run) checkTopic(t *rapid.T, topic TopicCount, want map[Key][]string) {
	got, total := map[Key][]string{}, 0
	page, more, _ := r.tracker.Page(topic.Topic, "", 10)
	if more {
		t.Fatal("more than there are keys")
	}
	for _, member := range page {
		if !slices.IsSortedFunc(member.Metas, compareRefs) {
			t.Fatalf("metas of %s are not oldest first", member.Key)
		}
		for _, p := range member.Metas {
			got[member.Key] = append(got[member.Key], string(p.Meta))
			total++
			if meta, seen := r.refs[p.Ref]; seen && meta != string(p.Meta) {
				t.Fatalf("ref %s named %s and now names %s", p.Ref, meta, p.Meta)
			}
			r.refs[p.Ref] = string(p.Meta)
		}
		slices.Sort(got[member.Key])
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s has %v, want %v", topic.Topic, got, want)
	}
	if count := r.tracker.Count(topic.Topic); count != topic.Count || count != (Count{Keys: len(want), Metas: total}) {
		t.Fatalf("Count = %+v, in Topics %+v, want %d keys and %d metas", count, topic.Count, len(want), total)
	}
	if list := r.tracker.List(topic.Topic).JSON; string(list) != string(page.AppendJSON(nil)) {
		t.Fatalf("List = %s, pages are %s", list, page.AppendJSON(nil))
	}
}

func decodeJSON[T any](t *rapid.T, data []byte) T {
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("decode %s: %v", data, err)
	}
	return v
}

func TestPagesMakeTheWhole(t *testing.T) {
	tracker := openTracker(t, Config{})
	for i := range 57 {
		mustTrack(t, tracker, TrackRequest{Topic: lobby, Key: Key(fmt.Sprint("user-", i))})
		mustTrack(t, tracker, TrackRequest{Topic: Topic(fmt.Sprint("room-", i)), Key: "ann"})
	}
	var members Members
	for after, more := "", true; more; {
		var page Members
		page, more, _ = tracker.Page(lobby, after, 10)
		if len(page) == 0 {
			t.Fatal("an empty page")
		}
		members, after = append(members, page...), string(page[len(page)-1].Key)
	}
	if got, want := string(members.AppendJSON(nil)), string(tracker.List(lobby).JSON); got != want {
		t.Errorf("pages = %s, want the list %s", got, want)
	}
	rooms := 0
	for after, more := "", true; more; {
		var page []TopicCount
		page, more = tracker.Topics("room-", after, 10)
		rooms, after = rooms+len(page), string(page[len(page)-1].Topic)
	}
	if rooms != 57 {
		t.Errorf("pages of topics have %d rooms, want 57", rooms)
	}
}
