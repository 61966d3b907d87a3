package e2e

import (
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"testing"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

func TestAWatcherGetsTheStateAndThenEveryChange(t *testing.T) {
	withReaders(t, func(t *testing.T, open opener) {
		n := serve(t)
		alice := n.track("room:lobby", `{"key":"Alice","meta":{"device":"phone"}}`)
		w := open(n, "/v1/topics/room:lobby/events", nil)
		state := w.nextState()
		if !reflect.DeepEqual(state, n.list("room:lobby")) || state["Alice"].Metas[0].PhxRef != alice.Ref {
			t.Errorf("the state is %v, want Alice as in the list", state)
		}

		bob := n.track("room:lobby", `{"key":"Bob","session":"bobs-phone-00001"}`)
		diff := w.nextDiff()
		if got := devices(diff.Joins); len(got) != 1 || diff.Joins["Bob"].Metas[0].PhxRef != bob.Ref || len(diff.Leaves) != 0 {
			t.Errorf("%+v, want the join of Bob alone", diff)
		}

		body := `{"session":"bobs-phone-00001","meta":{"status":"away"}}`
		away := decode[rollcallclient.Presence](t, n.call(http.StatusOK, "PUT", presenceOf("room:lobby", "Bob"), body).body)
		diff = w.nextDiff()
		if len(diff.Joins) != 1 || len(diff.Leaves) != 1 {
			t.Fatalf("%+v, want the join of one and the leave of one", diff)
		}
		joined, left := diff.Joins["Bob"].Metas[0], diff.Leaves["Bob"].Metas[0]
		if joined.PhxRef != away.Ref || *joined.PhxRefPrev != bob.Ref || joined.AdditionalProperties["status"] != "away" || left.PhxRef != bob.Ref {
			t.Errorf("%+v, want ref %s in place of %s", diff, away.Ref, bob.Ref)
		}
		n.call(http.StatusOK, "PUT", presenceOf("room:lobby", "Bob"), body) // equal: nobody hears of it

		n.leave(alice.Session)
		diff = w.nextDiff()
		if len(diff.Joins) != 0 || len(diff.Leaves) != 1 || diff.Leaves["Alice"].Metas[0].PhxRef != alice.Ref {
			t.Errorf("%+v, want the leave of Alice alone", diff)
		}
		if !reflect.DeepEqual(w.state, n.list("room:lobby")) {
			t.Errorf("the events make %v, the list is %v", w.state, n.list("room:lobby"))
		}
	})
}

func TestAnEmptyTopicHasAnEmptyStateAtOnce(t *testing.T) {
	withReaders(t, func(t *testing.T, open opener) {
		n := serve(t)
		if e := open(n, "/v1/topics/nobody%20here/events", nil).next(); e.name != stateEvent || e.data != "{}" || e.id == "" {
			t.Errorf("%+v, want the state {} with an id", e)
		}
	})
}

func TestStreamsTellProxiesAndBrowsersHowToTreatThem(t *testing.T) {
	t.Parallel()
	n := serve(t, "--keepalive=100ms")
	response, err := n.http.Get(n.URL + "/v1/topics/room:lobby/events")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no", "Content-Length": "",
	} {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	w := n.watch("/v1/topics/room:lobby/events")
	w.nextState()
	program.Eventually(t, func() bool { return w.comments.Load() >= 3 }, "three comments that keep a silent stream open")
	if retry := w.retry.Load(); retry < 1000 || retry > 3000 {
		t.Errorf("retry is %d ms, want 1 to 3 s", retry)
	}
	n.track("room:lobby", `{"key":"Alice"}`)
	if diff := w.nextDiff(); len(diff.Joins) != 1 {
		t.Errorf("after the comments: %+v, want Alice", diff)
	}
}

// wrapped is the data of an event of a stream of several topics.
type wrapped[T any] struct {
	Topic   string `json:"topic"`
	Payload T      `json:"payload"`
}

func TestManyTopicsOverOneConnection(t *testing.T) {
	withReaders(t, func(t *testing.T, open opener) {
		n := serve(t)
		n.track("room:attic", `{"key":"Alice"}`)
		w := open(n, "/v1/events?topic=room:lobby&topic=room%3Aattic&topic=room:lobby", nil)
		states := map[string]int{}
		for range 2 {
			e := w.next()
			state := decode[wrapped[rollcallclient.PresenceState]](t, []byte(e.data))
			if e.name != stateEvent {
				t.Fatalf("%+v, want a state", e)
			}
			states[state.Topic] = len(state.Payload)
		}
		if want := map[string]int{"room:lobby": 0, "room:attic": 1}; !reflect.DeepEqual(states, want) {
			t.Errorf("states with %v, want %v", states, want)
		}
		for _, topic := range []string{"room:lobby", "room:attic", "room:lobby"} {
			n.track("a room that nobody watches", `{"key":"Bob"}`)
			bob := n.track(topic, `{"key":"Bob"}`)
			e := w.next()
			diff := decode[wrapped[rollcallclient.PresenceDiff]](t, []byte(e.data))
			if e.name != diffEvent || diff.Topic != topic || diff.Payload.Joins["Bob"].Metas[0].PhxRef != bob.Ref {
				t.Errorf("%+v, want the join of Bob in %s", e, topic)
			}
		}
	})
}

func TestEverybodySeesTheSameAfterAStorm(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--diff-window=0", "--diff-window=50ms"} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			n := serve(t, flag)
			watch := func() (watchers []*watcher) {
				for _, r := range readers {
					watchers = append(watchers, r.open(n, "/v1/topics/room:lobby/events", nil))
				}
				return watchers
			}
			watchers := watch()
			var storm sync.WaitGroup
			for client := range 4 {
				storm.Go(func() { n.storm(client) })
			}
			watchers = append(watchers, watch()...) // in the midst of it
			storm.Wait()
			n.track("room:lobby", `{"key":"the last"}`)
			want := n.list("room:lobby")
			for i, w := range watchers {
				w.until("the last has come", func(state rollcallclient.PresenceState) bool { return len(state["the last"].Metas) > 0 })
				if !reflect.DeepEqual(w.state, want) {
					t.Errorf("watcher %d has seen %v, the list is %v", i, devices(w.state), devices(want))
				}
			}
		})
	}
}

// storm makes one client come, change and go many times, in a way that leaves something behind.
func (n *node) storm(client int) {
	for i := range 60 {
		session := fmt.Sprintf("session-%d-%08d", client, i%7)
		key := fmt.Sprintf("user %d", i%5)
		var err error
		switch i % 6 {
		case 0, 1, 2:
			body := fmt.Sprintf(`{"session":%q,"meta":{"i":%d}}`, session, i)
			_, err = n.send("PUT", presenceOf("room:lobby", key), body, nil)
		case 3, 4:
			_, err = n.send("DELETE", presenceOf("room:lobby", key)+"?session="+session, "", nil)
		case 5:
			_, err = n.send("DELETE", "/v1/sessions/"+session, "", nil)
		}
		if err != nil {
			n.t.Error(err)
		}
	}
}
