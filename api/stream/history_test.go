package stream

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rollcall/clients/go"
	"rollcall/presence"
)

var topics = []presence.Topic{"lobby", "attic", `"odd" \ topic`}

// reader is a client that lives through reconnects and applies what it gets with Phoenix's rules.
type reader struct {
	topics []presence.Topic
	client *client // nil while it is away
	lastID string
	states map[presence.Topic]rollcallclient.PresenceState
	at     map[presence.Topic]int // which version of the topic it has seen last
	idle   bool                   // whether it has stopped reading
}

// history is one random run of a hub and its readers.
type history struct {
	hub      *Hub
	tracker  *presence.Tracker
	versions map[presence.Topic][]string // every list that a topic has had
	readers  []*reader
}

// TestHistories runs random histories of changes, of readers that come, go, return with the last id or without, and stop reading for a while, with logs that are mostly
// too short. After every single event a reader has a state that the topic had, later than the one before; whatever joins is new to it and whatever
// leaves was there; and when all is quiet, it has the list.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(check *rapid.T) {
		inBubble(t, check, func(t *rapid.T) {
			h := &history{versions: map[presence.Topic][]string{}}
			h.hub, h.tracker = openHub(t, Config{
				Window:       rapid.SampledFrom([]time.Duration{-1, 50 * time.Millisecond}).Draw(t, "window"),
				ResumeBytes:  rapid.SampledFrom([]int64{1, 1500, 64 << 20}).Draw(t, "resume bytes"),
				WriteTimeout: 24 * time.Hour,
			})
			h.hub.maxBatch = rapid.SampledFrom([]int{1, 500, defaultMaxBatch}).Draw(t, "max batch")
			defer h.close(t)
			for _, topic := range topics {
				h.record(t, topic)
			}
			t.Repeat(map[string]func(*rapid.T){
				"track": h.track, "update": h.update, "untrack": h.untrack, "connect": h.connect, "disconnect": h.disconnect,
				"reconnect": h.reconnect, "stop or go on reading": h.stall, "time passes": h.pass, "": h.check,
			})
			h.settle(t)
		})
	})
}

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

func (h *history) close(t *rapid.T) {
	for _, r := range h.readers {
		if r.client != nil {
			_ = r.client.close()
		}
	}
	h.hub.Close()
	h.tracker.Close()
	if got := h.hub.Stats(); got.Streams != 0 || got.Feeds != 0 {
		t.Fatalf("after Close: %+v, want no streams and no feeds", got)
	}
}

// canonical returns a state in the one form in which equal states are equal texts.
func canonical(t *rapid.T, state rollcallclient.PresenceState) string {
	text, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (h *history) list(t *rapid.T, topic presence.Topic) string {
	return canonical(t, decode[rollcallclient.PresenceState](t, string(h.tracker.List(topic).JSON)))
}

func (h *history) record(t *rapid.T, topic presence.Topic) {
	h.versions[topic] = append(h.versions[topic], h.list(t, topic))
}

var (
	topicGen   = rapid.SampledFrom(topics)
	sessionGen = rapid.SampledFrom([]presence.SessionID{"session-of-ann-1", "session-of-ann-2", "session-of-proto"})
	keys       = map[presence.SessionID]presence.Key{"session-of-ann-1": "ann", "session-of-ann-2": "ann", "session-of-proto": "__proto__"}
	metaGen    = rapid.SampledFrom([]string{`{}`, `{"status":"away"}`, `{"device":"phone","n":1}`})
)

func (h *history) track(t *rapid.T) {
	topic, session := topicGen.Draw(t, "topic"), sessionGen.Draw(t, "session")
	_, _ = h.tracker.Track(presence.TrackRequest{Topic: topic, Key: keys[session], Session: session}) // a conflict changes nothing
	h.record(t, topic)
}

func (h *history) update(t *rapid.T) {
	topic, session := topicGen.Draw(t, "topic"), sessionGen.Draw(t, "session")
	if _, _, err := h.tracker.Update(topic, keys[session], session, presence.Meta(metaGen.Draw(t, "meta"))); err != nil {
		t.Fatal(err)
	}
	h.record(t, topic)
}

func (h *history) untrack(t *rapid.T) {
	topic, session := topicGen.Draw(t, "topic"), sessionGen.Draw(t, "session")
	h.tracker.Untrack(topic, keys[session], session)
	h.record(t, topic)
}

func (h *history) connect(t *rapid.T) {
	r := &reader{topics: rapid.SliceOfNDistinct(topicGen, 1, 3, rapid.ID).Draw(t, "topics")}
	r.states, r.at = map[presence.Topic]rollcallclient.PresenceState{}, map[presence.Topic]int{}
	for _, topic := range r.topics {
		r.states[topic] = rollcallclient.PresenceState{}
	}
	h.readers = append(h.readers, r)
	h.open(r)
}

func (h *history) open(r *reader) {
	r.client = open(h.hub, Request{Topics: r.topics, Wrapped: len(r.topics) > 1, LastEventID: r.lastID})
	r.idle = false
}

func (h *history) pick(t *rapid.T, connected bool) *reader {
	var candidates []*reader
	for _, r := range h.readers {
		if (r.client != nil) == connected {
			candidates = append(candidates, r)
		}
	}
	if len(candidates) == 0 {
		t.Skip("no such reader")
	}
	return rapid.SampledFrom(candidates).Draw(t, "reader")
}

// disconnect cuts a connection; what was sent and not read by then is lost to the client or not.
func (h *history) disconnect(t *rapid.T) {
	r := h.pick(t, true)
	synctest.Wait()
	if rapid.Bool().Draw(t, "reads what was sent") {
		h.read(t, r)
	}
	if err := r.client.close(); err != nil {
		t.Fatalf("Serve = %v", err)
	}
	r.client = nil
}

func (h *history) reconnect(t *rapid.T) {
	r := h.pick(t, false)
	if rapid.IntRange(0, 4).Draw(t, "forgets the id") == 0 {
		r.lastID = rapid.SampledFrom([]string{"", "garbage", h.hub.epoch + "-99999", h.hub.epoch + "-0", h.hub.epoch + "-x"}).Draw(t, "id")
	}
	h.open(r)
}

func (h *history) stall(t *rapid.T) {
	r := h.pick(t, true)
	r.idle = !r.idle
	r.client.stall(r.idle)
}

func (h *history) pass(t *rapid.T) {
	time.Sleep(rapid.SampledFrom([]time.Duration{time.Millisecond, 49 * time.Millisecond, time.Second, resumeFor + time.Second}).Draw(t, "time"))
	synctest.Wait()
}

// check lets the readers that read take what was sent.
func (h *history) check(t *rapid.T) {
	synctest.Wait()
	for _, r := range h.readers {
		if r.client != nil {
			h.read(t, r)
		}
	}
}

func (h *history) read(t *rapid.T, r *reader) {
	events, _ := r.client.take()
	for _, e := range events {
		topic, payload := r.topics[0], e.data
		if len(r.topics) > 1 {
			wrapped := decode[struct {
				Topic   presence.Topic
				Payload json.RawMessage
			}](t, e.data)
			topic, payload = wrapped.Topic, string(wrapped.Payload)
		}
		switch e.name {
		case "presence_state":
			r.states[topic].SyncState(decode[rollcallclient.PresenceState](t, payload), nil, nil)
		case "presence_diff":
			diff := decode[rollcallclient.PresenceDiff](t, payload)
			mustHave(t, r.states[topic], diff.Joins, false)
			mustHave(t, r.states[topic], diff.Leaves, true)
			r.states[topic].SyncDiff(diff, nil, nil)
		default:
			t.Fatalf("unknown event %+v", e)
		}
		if e.id != "" {
			r.lastID = e.id
		}
		h.mustHaveBeen(t, r, topic, e)
	}
}

// mustHave checks that the reader has all of these metas, or none.
func mustHave(t *rapid.T, state, metas rollcallclient.PresenceState, want bool) {
	for key, changed := range metas {
		for _, meta := range changed.Metas {
			has := slices.ContainsFunc(state[key].Metas, func(m rollcallclient.TrackedMeta) bool { return m.PhxRef == meta.PhxRef })
			if has != want {
				t.Fatalf("the reader has ref %s of %s: %v, want %v", meta.PhxRef, key, has, want)
			}
		}
	}
}

// mustHaveBeen checks that the reader's state is one that the topic had, and no earlier one than before.
func (h *history) mustHaveBeen(t *rapid.T, r *reader, topic presence.Topic, e event) {
	got := canonical(t, r.states[topic])
	i := slices.Index(h.versions[topic][r.at[topic]:], got)
	if i < 0 {
		t.Fatalf("after %+v the reader of %s has %s, which the topic did not have since %s", e, topic, got, h.versions[topic][r.at[topic]])
	}
	r.at[topic] += i
}

// settle waits until all is quiet, and everybody must have everything.
func (h *history) settle(t *rapid.T) {
	for _, r := range h.readers {
		if r.client == nil {
			h.open(r)
		}
		if r.idle {
			r.idle = false
			r.client.stall(false)
		}
	}
	time.Sleep(2 * maxWindow)
	h.check(t)
	for _, r := range h.readers {
		for _, topic := range r.topics {
			if got, want := canonical(t, r.states[topic]), h.list(t, topic); got != want {
				t.Fatalf("when all is quiet, the reader of %s has %s, want %s", topic, got, want)
			}
		}
	}
}
