package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
)

func TestABackendTracksAUserAndFindsHer(t *testing.T) {
	t.Parallel()
	n := serve(t)
	response := n.call(http.StatusCreated, "POST", presences("room:lobby"), `{"key":"Alice Ö/1","meta":{"device":"phone"},"ttl":60}`)
	alice := decode[rollcallclient.Presence](t, response.body)
	if alice.Topic != "room:lobby" || alice.Key != "Alice Ö/1" || alice.Ttl != 60 || string(alice.Meta) != `{"device":"phone"}` {
		t.Errorf("tracked %+v", alice)
	}
	if left := time.Until(alice.ExpiresAt); left < 20*time.Second || left > 61*time.Second {
		t.Errorf("expires in %v, want about a minute", left)
	}
	if location := response.header.Get("Location"); location != presenceOf("room:lobby", "Alice Ö/1") {
		t.Errorf("Location is %q", location)
	}

	one := get[rollcallclient.Metas](n, response.header.Get("Location"))
	state := n.list("room:lobby")
	where := get[rollcallclient.Whereabouts](n, "/v1/keys/Alice%20%C3%96%2F1")
	for name, metas := range map[string]rollcallclient.Metas{
		"getPresence": one, "listPresences": state["Alice Ö/1"], "whereIs": where.Topics["room:lobby"],
	} {
		if len(metas.Metas) != 1 || metas.Metas[0].PhxRef != alice.Ref || metas.Metas[0].AdditionalProperties["device"] != "phone" {
			t.Errorf("%s: %+v, want one meta with ref %s", name, metas, alice.Ref)
		}
	}
	if len(state) != 1 || !where.Online || len(where.Topics) != 1 {
		t.Errorf("listed %v, found %+v; want Alice alone", state, where)
	}
	if count := get[rollcallclient.Count](n, "/v1/topics/room:lobby/count"); count != (rollcallclient.Count{Keys: 1, Metas: 1}) {
		t.Errorf("counted %+v", count)
	}
	topics := get[rollcallclient.TopicPage](n, "/v1/topics")
	if want := []rollcallclient.TopicCount{{Topic: "room:lobby", Keys: 1, Metas: 1}}; !slices.Equal(topics.Topics, want) || topics.Next != nil {
		t.Errorf("topics are %+v", topics)
	}
	online := decode[rollcallclient.KeysOnline](t, n.call(http.StatusOK, "POST", "/v1/keys/query", `{"keys":["Alice Ö/1","Carol"]}`).body)
	if want := (rollcallclient.KeysOnline{
		"Alice Ö/1": {Online: true, Topics: []string{"room:lobby"}},
		"Carol":     {Online: false, Topics: []string{}},
	}); !reflect.DeepEqual(online, want) {
		t.Errorf("online are %+v, want %+v", online, want)
	}
}

func TestOnePersonOnTwoDevicesCountsOnce(t *testing.T) {
	t.Parallel()
	n := serve(t)
	phone := n.track("room:lobby", `{"key":"Alice","meta":{"device":"phone"}}`)
	laptop := n.track("room:lobby", `{"key":"Alice","meta":{"device":"laptop"},"session":"alice-laptop-0001"}`)
	if laptop.Session != "alice-laptop-0001" || phone.Session == laptop.Session || phone.Ref == laptop.Ref {
		t.Errorf("phone %+v, laptop %+v", phone, laptop)
	}
	metas := n.list("room:lobby")["Alice"].Metas
	if len(metas) != 2 || metas[0].PhxRef != phone.Ref || metas[1].PhxRef != laptop.Ref {
		t.Errorf("metas are %+v, want the phone's, then the laptop's", metas)
	}
	count := func() rollcallclient.Count { return get[rollcallclient.Count](n, "/v1/topics/room:lobby/count") }
	if got := count(); got != (rollcallclient.Count{Keys: 1, Metas: 2}) {
		t.Errorf("counted %+v", got)
	}
	n.leave(phone.Session)
	if got := count(); got != (rollcallclient.Count{Keys: 1, Metas: 1}) {
		t.Errorf("without the phone, counted %+v", got)
	}
	n.leave(laptop.Session)
	if got := count(); got != (rollcallclient.Count{}) {
		t.Errorf("without either, counted %+v", got)
	}
	n.refused(http.StatusNotFound, "not_present", "GET", presenceOf("room:lobby", "Alice"), "")
}

func TestTrackingTwiceIsAConflictThatNamesTheRef(t *testing.T) {
	t.Parallel()
	n := serve(t)
	const body = `{"key":"Alice","session":"alice-phone-00001"}`
	first := n.track("room:lobby", body)
	problem := n.refused(http.StatusConflict, "already_tracked", "POST", presences("room:lobby"), body)
	if problem.Ref == nil || *problem.Ref != first.Ref {
		t.Errorf("the ref is %v, want %s", problem.Ref, first.Ref)
	}
	n.track("room:attic", body) // the same session elsewhere is no conflict, nor under another key
	n.track("room:lobby", `{"key":"Alicia","session":"alice-phone-00001"}`)
	where := get[rollcallclient.Whereabouts](n, "/v1/keys/Alice")
	if got := slices.Sorted(maps.Keys(where.Topics)); !slices.Equal(got, []string{"room:attic", "room:lobby"}) {
		t.Errorf("Alice is in %v", got)
	}
}

func TestAnUpdateMakesANewRefUnlessNothingChanges(t *testing.T) {
	t.Parallel()
	n := serve(t)
	const session = "alice-phone-00001"
	put := func(status int, meta string) rollcallclient.Presence {
		t.Helper()
		body := fmt.Sprintf(`{"session":%q,"meta":%s}`, session, meta)
		return decode[rollcallclient.Presence](t, n.call(status, "PUT", presenceOf("room:lobby", "Alice"), body).body)
	}
	first := put(http.StatusCreated, `{"status":"here","n":1}`)
	same := put(http.StatusOK, ` { "n" : 1, "status":"here", "phx_ref":"forged" }`)
	if same.Ref != first.Ref {
		t.Errorf("an equal meta made ref %s of %s", same.Ref, first.Ref)
	}
	away := put(http.StatusOK, `{"status":"away"}`)
	if away.Ref <= first.Ref {
		t.Errorf("ref %s does not sort after %s", away.Ref, first.Ref)
	}
	meta := n.list("room:lobby")["Alice"].Metas[0]
	if meta.PhxRef != away.Ref || meta.PhxRefPrev == nil || *meta.PhxRefPrev != first.Ref || meta.AdditionalProperties["status"] != "away" {
		t.Errorf("listed as %+v, want ref %s after %s", meta, away.Ref, first.Ref)
	}
	if _, stays := meta.AdditionalProperties["n"]; stays {
		t.Error("PUT has merged")
	}
}

func TestAPatchMergesByRFC7386(t *testing.T) {
	t.Parallel()
	n := serve(t)
	const session = "alice-phone-00001"
	patch := func(meta string) rollcallclient.Presence {
		t.Helper()
		body := fmt.Sprintf(`{"session":%q,"meta":%s}`, session, meta)
		return decode[rollcallclient.Presence](t, n.call(http.StatusOK, "PATCH", presenceOf("room:lobby", "Alice"), body).body)
	}
	before := n.track("room:lobby", `{"key":"Alice","session":"alice-phone-00001","meta":{"a":{"x":1,"y":[1,2]},"b":"stays","c":true}}`)
	for _, step := range []struct{ patch, want string }{
		{`{"a":{"x":null,"z":2},"c":null}`, `{"a":{"y":[1,2],"z":2},"b":"stays"}`},
		{`{"a":{"y":[3]}}`, `{"a":{"y":[3],"z":2},"b":"stays"}`},
		{`{"a":"plain","none":null}`, `{"a":"plain","b":"stays"}`},
	} {
		after := patch(step.patch)
		if string(after.Meta) != step.want || after.Ref == before.Ref {
			t.Errorf("%s made %s with ref %s, want %s and a ref after %s", step.patch, after.Meta, after.Ref, step.want, before.Ref)
		}
		before = after
	}
	if again := patch(`{"a":"plain"}`); again.Ref != before.Ref {
		t.Errorf("a patch that changes nothing made a new ref")
	}
	other := `{"session":"bobs-phone-000001","meta":{}}`
	n.refused(http.StatusNotFound, "unknown_session", "PATCH", presenceOf("room:lobby", "Alice"), other)
	n.refused(http.StatusNotFound, "not_present", "PATCH", presenceOf("room:attic", "Alice"), `{"session":"alice-phone-00001","meta":{}}`)
}

func TestUntrackingEndsOnePresenceAndMayBeRepeated(t *testing.T) {
	t.Parallel()
	n := serve(t)
	n.track("room:lobby", `{"key":"Alice","session":"alice-phone-00001"}`)
	n.track("room:attic", `{"key":"Alice","session":"alice-phone-00001"}`)
	for range 2 {
		n.call(http.StatusNoContent, "DELETE", presenceOf("room:lobby", "Alice")+"?session=alice-phone-00001", "")
	}
	n.call(http.StatusNoContent, "DELETE", presenceOf("room:lobby", "Alice")+"?session=never-seen-before", "")
	if state := n.list("room:lobby"); len(state) != 0 {
		t.Errorf("in the lobby is %v, want nobody", state)
	}
	if got := devices(n.list("room:attic")); got["Alice"] != 1 {
		t.Errorf("in the attic are %v, want Alice", got)
	}
	n.call(http.StatusOK, "POST", "/v1/sessions/alice-phone-00001/heartbeat", "")
}

func TestLeavingEndsAllPresencesOfASession(t *testing.T) {
	t.Parallel()
	n := serve(t)
	for name, leave := range map[string]func(session string){
		"DELETE": func(session string) {
			n.call(http.StatusNoContent, "DELETE", "/v1/sessions/"+session, "")
		},
		"POST without a body": func(session string) {
			n.call(http.StatusNoContent, "POST", "/v1/sessions/"+session+"/leave", "")
		},
		"POST as sendBeacon": func(session string) {
			n.callWith(http.StatusNoContent, "POST", "/v1/sessions/"+session+"/leave", "bye\x00",
				http.Header{"Content-Type": {"text/plain;charset=UTF-8"}})
		},
	} {
		alice := n.track("room:lobby", `{"key":"Alice"}`)
		n.track("room:attic", fmt.Sprintf(`{"key":"Alice","session":%q}`, alice.Session))
		n.track("room:attic", fmt.Sprintf(`{"key":"Alicia","session":%q}`, alice.Session))
		leave(alice.Session)
		leave(alice.Session)
		if page := get[rollcallclient.TopicPage](n, "/v1/topics"); len(page.Topics) != 0 {
			t.Errorf("%s: somebody is still in %v", name, page.Topics)
		}
		n.refused(http.StatusNotFound, "unknown_session", "POST", "/v1/sessions/"+alice.Session+"/heartbeat", "")
	}
}
