package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	rollcallclient "rollcall/clients/go"
)

func lastEventID(id string) http.Header { return http.Header{"Last-Event-Id": {id}} }

func TestAReconnectGetsJustWhatItMissed(t *testing.T) {
	withReaders(t, func(t *testing.T, open opener) {
		n := serve(t)
		n.track("room:lobby", `{"key":"Alice","session":"alice-phone-0001"}`)
		w := open(n, lobbyEvents, nil)
		w.nextState()
		n.track("room:lobby", `{"key":"Bob"}`)
		w.nextDiff()
		w.close()

		for i := range 3 {
			n.track("room:lobby", fmt.Sprintf(`{"key":"missed %d"}`, i))
		}
		n.leave("alice-phone-0001")
		want := n.list("room:lobby")
		query := lobbyEvents + "?last_event_id=" + url.QueryEscape(w.lastID)
		for name, again := range map[string]*watcher{
			"header":              open(n, lobbyEvents, lastEventID(w.lastID)),
			"query":               open(n, query, nil),
			"header and query":    open(n, lobbyEvents+"?last_event_id=garbage", lastEventID(w.lastID)),
			"empty header, query": open(n, query, lastEventID("")),
			"several topics":      openWrapped(n, open, w.lastID),
		} {
			seen := clone(w.state)
			for !reflect.DeepEqual(seen, want) {
				diff := again.nextDiffUnwrapped()
				for key := range diff.Joins {
					if !strings.HasPrefix(key, "missed") {
						t.Errorf("%s: the join of %s again", name, key)
					}
				}
				seen.SyncDiff(diff, nil, nil)
			}
		}
		n.track("room:lobby", `{"key":"Carol"}`)
		again := open(n, lobbyEvents, lastEventID(w.lastID))
		again.state = clone(w.state)
		again.until("Carol", func(state rollcallclient.PresenceState) bool { return len(state["Carol"].Metas) == 1 })
	})
}

// openWrapped opens the lobby by the call for several topics.
func openWrapped(n *node, open opener, id string) *watcher {
	return open(n, "/v1/events?topic=room:lobby", lastEventID(id))
}

// nextDiffUnwrapped is nextDiff for a stream of one topic or of several.
func (w *watcher) nextDiffUnwrapped() rollcallclient.PresenceDiff {
	w.t.Helper()
	e := w.next()
	if e.name != diffEvent {
		w.t.Fatalf("%+v, want a diff", e)
	}
	if strings.HasPrefix(e.data, `{"topic":`) {
		return decode[wrapped[rollcallclient.PresenceDiff]](w.t, []byte(e.data)).Payload
	}
	return decode[rollcallclient.PresenceDiff](w.t, []byte(e.data))
}

func clone(state rollcallclient.PresenceState) rollcallclient.PresenceState {
	copied := rollcallclient.PresenceState{}
	copied.SyncState(state, nil, nil)
	return copied
}

func TestAReconnectWhoMissedNothingGetsOnlyWhatIsNew(t *testing.T) {
	withReaders(t, func(t *testing.T, open opener) {
		n := serve(t)
		w := open(n, lobbyEvents, nil)
		w.nextState()
		w.close()
		again := open(n, lobbyEvents, lastEventID(w.lastID))
		n.track("room:lobby", `{"key":"Alice"}`)
		if diff := again.nextDiff(); len(diff.Joins) != 1 || len(diff.Leaves) != 0 {
			t.Errorf("%+v, want the join of Alice alone", diff)
		}
		if opened, resumed := n.metric("rollcall_streams_opened_total"), n.metric("rollcall_streams_resumed_total"); opened != 2 || resumed != 1 {
			t.Errorf("metrics: %v opened, %v resumed; want 2 and 1", opened, resumed)
		}
	})
}

func TestAnEventIDThatMeansNothingGivesTheState(t *testing.T) {
	t.Parallel()
	n := serve(t)
	w := n.watch(lobbyEvents)
	w.nextState()
	n.track("room:lobby", `{"key":"Alice"}`)
	w.nextDiff()
	epoch, number, _ := strings.Cut(w.lastID, "-")
	for _, id := range []string{
		"", "0", "1", "x", "-", "--1", number, "-" + number, epoch, epoch + "-", epoch + "-0", epoch + "--1", epoch + "-x", epoch + "-+1",
		epoch + "-1.0", epoch + "-99999999", epoch + "-18446744073709551615", epoch + "-18446744073709551616", epoch + " - " + number,
		strings.ToUpper(epoch) + "x-" + number, "00000000-" + number, strings.Repeat("9", 5000), `"><script>`,
	} {
		for _, again := range []*watcher{
			openRaw(n, lobbyEvents, lastEventID(id)),
			openRaw(n, lobbyEvents+"?last_event_id="+url.QueryEscape(id), nil),
		} {
			if state := again.nextState(); len(state) != 1 {
				t.Errorf("Last-Event-ID %.40q: the state is %v, want Alice", id, state)
			}
			again.close()
		}
	}
	for _, id := range []string{"%00", "%0A%0Aevent%3A%20forged", "%F0%9F%98%80", "%FF%FE"} { // which no header can hold
		if state := openRaw(n, lobbyEvents+"?last_event_id="+id, nil).nextState(); len(state) != 1 {
			t.Errorf("last_event_id=%s: the state is %v, want Alice", id, state)
		}
	}
}

func TestDiffsThatAreNoLongerKeptGiveTheState(t *testing.T) {
	t.Parallel()
	n := serve(t, "--resume-memory=1MiB", "--max-meta=100KiB", "--diff-window=0")
	w := n.watch(lobbyEvents)
	w.nextState()
	w.close()
	n.track("room:lobby", `{"key":"Alice","session":"alice-phone-0001"}`)
	for i := range 8 { // each diff carries a leave and a join
		meta := strings.Repeat(fmt.Sprint(i), 99<<10)
		n.call(http.StatusOK, "PUT", presenceOf("room:lobby", "Alice"), fmt.Sprintf(`{"session":"alice-phone-0001","meta":{"text":%q}}`, meta))
	}
	if state := openRaw(n, lobbyEvents, lastEventID(w.lastID)).nextState(); len(state) != 1 {
		t.Errorf("the state is %v, want Alice", devices(state))
	}
	if kept := n.metric("rollcall_stream_kept_bytes"); kept > 1<<20 {
		t.Errorf("%v bytes of diffs are kept, want at most a MiB", kept)
	}
}

func TestARestartedNodeKnowsNoEventsFromBefore(t *testing.T) {
	withReaders(t, func(t *testing.T, open opener) {
		n := serve(t)
		w := open(n, lobbyEvents, nil)
		w.nextState()
		alice := n.track("room:lobby", `{"key":"Alice"}`)
		w.nextDiff()
		w.close()
		n.restart()
		bob := n.track("room:lobby", `{"key":"Bob"}`)
		for range 3 { // so that the number of the old id would be within the log
			n.track("room:lobby", `{"key":"Bob"}`)
		}
		for _, again := range []*watcher{
			open(n, lobbyEvents, lastEventID(w.lastID)),
			open(n, lobbyEvents+"?last_event_id="+w.lastID, nil),
		} {
			if state := again.nextState(); len(state) != 2 || state["Alice"].Metas[0].PhxRef != alice.Ref || state["Bob"].Metas[0].PhxRef != bob.Ref {
				t.Errorf("the state is %v, want Alice, who was restored, and Bob", state)
			}
			if again.lastID == w.lastID {
				t.Errorf("the id %s is used again", w.lastID)
			}
		}
	})
}
