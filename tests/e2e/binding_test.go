package e2e

import (
	"net/http"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
)

const lobbyEvents = "/v1/topics/room:lobby/events"

func TestAStreamIsAPresenceWhileItIsOpenAndALittleLonger(t *testing.T) {
	withReaders(t, func(t *testing.T, open opener) {
		n := serve(t)
		other := n.watch(lobbyEvents)
		other.nextState()
		w := open(n, lobbyEvents+"?key=Alice&meta=%7B%22device%22%3A%22phone%22%7D&linger=1", nil)
		own := w.nextState()["Alice"].Metas
		if len(own) != 1 || own[0].AdditionalProperties["device"] != "phone" {
			t.Errorf("Alice sees herself as %+v, want one phone", own)
		}
		joined := other.nextDiff().Joins["Alice"].Metas
		if len(joined) != 1 || joined[0].PhxRef != own[0].PhxRef {
			t.Errorf("others see the join of %+v, want ref %s", joined, own[0].PhxRef)
		}
		closing := time.Now()
		w.close()
		left := other.nextDiff().Leaves["Alice"].Metas
		if lingered := time.Since(closing); lingered < time.Second {
			t.Errorf("left after %v, want at least a second", lingered)
		}
		if len(left) != 1 || left[0].PhxRef != own[0].PhxRef {
			t.Errorf("others see the leave of %+v, want ref %s", left, own[0].PhxRef)
		}
	})
}

func TestWhoReturnsInTimeWasNeverAway(t *testing.T) {
	t.Parallel()
	n := serve(t)
	other := n.watch(lobbyEvents)
	other.nextState()
	const stream = lobbyEvents + "?key=Alice&session=alice-tab-0000001&linger=3"
	w := n.watch(stream)
	ref := w.nextState()["Alice"].Metas[0].PhxRef
	other.nextDiff()
	w.close()
	n.track("room:lobby", `{"key":"clock","ttl":4}`) // leaves when Alice's linger is over
	if joins := other.nextDiff().Joins; len(joins) != 1 {
		t.Errorf("joined %v, want the clock alone", devices(joins))
	}
	w = n.watch(stream + "&meta=%7B%22ignored%22%3A1%7D")
	back := w.nextState()["Alice"].Metas
	if len(back) != 1 || back[0].PhxRef != ref || len(back[0].AdditionalProperties) != 0 {
		t.Errorf("back as %+v, want ref %s and the meta that was", back, ref)
	}
	diff := other.nextDiff()
	if len(diff.Joins) != 0 || len(diff.Leaves) != 1 || len(diff.Leaves["clock"].Metas) != 1 {
		t.Errorf("others have seen %+v, want only that the clock has left", diff)
	}
	if metas := n.list("room:lobby")["Alice"].Metas; len(metas) != 1 || metas[0].PhxRef != ref {
		t.Errorf("listed is %+v, want ref %s", metas, ref)
	}
}

func TestTwoTabsOfOnePersonAreTwoDevices(t *testing.T) {
	t.Parallel()
	n := serve(t)
	first := n.watch(lobbyEvents + "?key=Alice&linger=0")
	second := n.watch(lobbyEvents + "?key=Alice&linger=0")
	counting := func(want int) func(rollcallclient.PresenceState) bool {
		return func(state rollcallclient.PresenceState) bool { return len(state["Alice"].Metas) == want }
	}
	first.until("two devices", counting(2))
	second.until("two devices", counting(2))
	first.close()
	second.until("one device", counting(1))
	other := n.watch(lobbyEvents)
	other.until("one device", counting(1))
	second.close()
	other.until("nobody", counting(0))
}

func TestAStreamTracksInEachOfItsTopics(t *testing.T) {
	t.Parallel()
	n := serve(t)
	lobby, attic := n.watch(lobbyEvents), n.watch("/v1/topics/room:attic/events")
	w := n.watch("/v1/events?topic=room:lobby&topic=room:attic&key=Alice&linger=0")
	here := func(state rollcallclient.PresenceState) bool { return len(state["Alice"].Metas) == 1 }
	away := func(state rollcallclient.PresenceState) bool { return len(state) == 0 }
	lobby.until("Alice", here)
	attic.until("Alice", here)
	w.close()
	lobby.until("nobody", away)
	attic.until("nobody", away)
}

func TestAStreamKeepsASessionAliveThatABackendMade(t *testing.T) {
	t.Parallel()
	n := serve(t)
	n.track("room:lobby", `{"key":"Alice","session":"alice-tab-0000001","ttl":2}`)
	n.track("room:lobby", `{"key":"clock","ttl":3}`)
	w := n.watch("/v1/topics/elsewhere/events?session=alice-tab-0000001&linger=0")
	if state := w.nextState(); len(state) != 0 {
		t.Errorf("elsewhere is %v, want nobody: the stream tracks nothing", state)
	}
	other := n.watch(lobbyEvents)
	other.until("Alice alone", func(state rollcallclient.PresenceState) bool {
		return len(state["Alice"].Metas) == 1 && len(state["clock"].Metas) == 0
	})
	w.close()
	other.until("nobody", func(state rollcallclient.PresenceState) bool { return len(state) == 0 })
}

func TestAStreamForASessionThatIsUnknownIsRefused(t *testing.T) {
	t.Parallel()
	n := serve(t)
	n.refused(http.StatusNotFound, "unknown_session", "GET", lobbyEvents+"?session=never-seen-before", "")
	n.refused(http.StatusNotFound, "unknown_session", "GET", "/v1/events?topic=a&topic=b&session=never-seen-before", "")
}

func TestALeaveBeatsAnOpenStream(t *testing.T) {
	t.Parallel()
	n := serve(t)
	other := n.watch(lobbyEvents)
	w := n.watch(lobbyEvents + "?key=Alice&session=alice-tab-0000001&linger=60")
	other.until("Alice", func(state rollcallclient.PresenceState) bool { return len(state) == 1 })
	n.call(http.StatusNoContent, "POST", "/v1/sessions/alice-tab-0000001/leave", "")
	w.close()
	other.until("nobody", func(state rollcallclient.PresenceState) bool { return len(state) == 0 })
}
