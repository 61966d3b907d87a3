package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rollcall/api"
	"rollcall/presence"
)

func TestTrackAnswersWithThePresenceAndItsLease(t *testing.T) {
	n := start(t)
	a := n.do("POST", "/v1/topics/room:lobby/presences", `{"key":"Alice","meta":{"html":"<b>&","n":1e400},"ttl":60}`).want(http.StatusCreated)
	p := decode[api.Presence](a)
	if p.Topic != "room:lobby" || p.Key != "Alice" || len(p.Session) < 16 || len(p.Ref) != 16 || p.Ttl != 60 {
		t.Errorf("presence = %+v", p)
	}
	if want := `{"html":"<b>&","n":1e400}`; string(p.Meta) != want {
		t.Errorf("meta = %s, want %s as it was sent", p.Meta, want)
	}
	if left := time.Until(p.ExpiresAt); left < 50*time.Second || left > 61*time.Second {
		t.Errorf("the lease ends in %v, want a minute", left)
	}
	if !regexp.MustCompile(`"expires_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z"`).MatchString(a.body) {
		t.Errorf("expires_at is not UTC in milliseconds: %s", a.body)
	}
	if got, want := a.Header.Get("Location"), "/v1/topics/room:lobby/presences/Alice"; got != want {
		t.Errorf("Location = %s, want %s", got, want)
	}
	again := n.do("POST", "/v1/topics/room:lobby/presences", fmt.Sprintf(`{"key":"Alice","session":%q}`, p.Session))
	problem := again.wantProblem(http.StatusConflict, api.ProblemCodeAlreadyTracked, "")
	if problem.Ref == nil || *problem.Ref != p.Ref {
		t.Errorf("the conflict's ref = %v, want %s", problem.Ref, p.Ref)
	}
}

func TestPresenceLivesItsLife(t *testing.T) {
	n := start(t)
	const path = "/v1/topics/lobby/presences/Alice"
	body := func(meta string) string { return fmt.Sprintf(`{"session":%q,"meta":%s}`, session1, meta) }

	n.do("PATCH", path, body(`{}`)).wantProblem(http.StatusNotFound, api.ProblemCodeUnknownSession, "")
	created := n.do("PUT", path, body(`{"a":1,"b":2}`)).want(http.StatusCreated)
	if created.Header.Get("Location") != path {
		t.Errorf("Location = %s, want %s", created.Header.Get("Location"), path)
	}
	first := decode[api.Presence](created)
	same := n.do("PUT", path, body(`{"b":2,"a":1}`)).want(http.StatusOK)
	if got := decode[api.Presence](same).Ref; got != first.Ref {
		t.Errorf("an equal meta has the ref %s, want %s still", got, first.Ref)
	}
	if same.Header.Get("Location") != "" {
		t.Error("an update has a Location")
	}
	patched := decode[api.Presence](n.do("PATCH", path, body(`{"a":null,"c":3}`)).want(http.StatusOK))
	if string(patched.Meta) != `{"b":2,"c":3}` || patched.Ref == first.Ref {
		t.Errorf("patched = %+v, want b and c under a new ref", patched)
	}
	if got := n.get(path).want(http.StatusOK).body; !strings.Contains(got, `"phx_ref_prev":"`+first.Ref+`"`) {
		t.Errorf("metas %s, want phx_ref_prev %s", got, first.Ref)
	}
	n.do("PATCH", "/v1/topics/attic/presences/Alice", body(`{}`)).wantProblem(http.StatusNotFound, api.ProblemCodeNotPresent, "")

	for range 2 { // the second finds nothing, which is a success as well
		n.do("DELETE", path+"?session="+session1, "").want(http.StatusNoContent)
	}
	n.get(path).wantProblem(http.StatusNotFound, api.ProblemCodeNotPresent, "")
	if got := n.get("/v1/topics/lobby/presences").want(http.StatusOK).body; got != "{}" {
		t.Errorf("an empty topic = %s, want {}", got)
	}
	if got := decode[api.Count](n.get("/v1/topics/lobby/count").want(http.StatusOK)); got != (api.Count{}) {
		t.Errorf("count of an empty topic = %+v", got)
	}
}

func TestListIsSentAgainOnlyWhenTheTopicHasChanged(t *testing.T) {
	n := start(t)
	const path = "/v1/topics/lobby/presences"
	empty := n.get(path).want(http.StatusOK).Header.Get("ETag")
	n.get(path, "If-None-Match", empty).want(http.StatusNotModified)
	n.track("lobby", "Alice", session1)

	a := n.get(path, "If-None-Match", empty).want(http.StatusOK)
	etag := a.Header.Get("ETag")
	if !regexp.MustCompile(`^"[a-z0-9-]+"$`).MatchString(etag) || etag == empty {
		t.Fatalf("ETag = %s, was %s", etag, empty)
	}
	for header, status := range map[string]int{
		etag:                            http.StatusNotModified,
		"W/" + etag:                     http.StatusNotModified,
		`"x", ` + etag:                  http.StatusNotModified,
		`"x,y" ,W/"z" , W/` + etag:      http.StatusNotModified,
		"*":                             http.StatusNotModified,
		`"x"`:                           http.StatusOK,
		"":                              http.StatusOK,
		strings.Trim(etag, `"`):         http.StatusOK,
		etag[:len(etag)-1] + `9"`:       http.StatusOK,
		strings.ToUpper("w/") + `"x"`:   http.StatusOK,
		`garbage " , , ,,` + "\t" + `"`: http.StatusOK,
	} {
		got := n.get(path, "If-None-Match", header)
		if got.StatusCode != status {
			t.Errorf("If-None-Match %s = %d, want %d", header, got.StatusCode, status)
		}
		if got.Header.Get("ETag") != etag {
			t.Errorf("If-None-Match %s: ETag %s, want %s", header, got.Header.Get("ETag"), etag)
		}
		if status == http.StatusNotModified && got.body != "" {
			t.Errorf("304 with a body: %s", got.body)
		}
	}
	page := n.get(path + "?limit=10").want(http.StatusOK)
	n.get(path+"?limit=10", "If-None-Match", page.Header.Get("ETag")).want(http.StatusNotModified)

	n.track("lobby", "Bob", session1)
	n.get(path, "If-None-Match", etag).want(http.StatusOK)
	other := start(t) // another run, which may well have the same version
	other.track("lobby", "Alice", session1)
	other.get(path, "If-None-Match", etag).want(http.StatusOK)
}

func TestPagesOfATopicMakeUpTheWhole(t *testing.T) {
	n := start(t)
	for i, key := range slices.Concat(names, []string{"a", "b", "c"}) {
		if _, err := n.tracker.Track(presence.TrackRequest{Topic: "room/a b", Key: presence.Key(key)}); err != nil {
			t.Fatalf("key %d: %v", i, err)
		}
	}
	const path = "/v1/topics/room%2Fa%20b/presences"
	whole := decode[api.PresenceState](n.get(path).want(http.StatusOK))
	for _, limit := range []int{1, 2, 7, len(whole), len(whole) + 1, 10000} {
		got := api.PresenceState{}
		pages := 0
		for next := fmt.Sprintf("%s?limit=%d", path, limit); next != ""; pages++ {
			a := n.get(next).want(http.StatusOK)
			page := decode[api.PresenceState](a)
			if len(page) > limit || len(page) == 0 {
				t.Fatalf("a page of %d keys, limit %d", len(page), limit)
			}
			for key := range page {
				if _, again := got[key]; again {
					t.Errorf("%q is on two pages", key)
				}
			}
			maps.Copy(got, page)
			next = nextLink(t, a)
		}
		if fmt.Sprint(got) != fmt.Sprint(whole) {
			t.Errorf("limit %d: the pages have %d keys, the whole %d", limit, len(got), len(whole))
		}
		if want := (len(whole) + limit - 1) / limit; pages != want {
			t.Errorf("limit %d: %d pages, want %d", limit, pages, want)
		}
	}
	if got := decode[api.PresenceState](n.get(path + "?after=c").want(http.StatusOK)); got["c"].Metas != nil || got["count"].Metas == nil {
		t.Errorf("after=c has c %v, count %v", got["c"], got["count"])
	}
}

// nextLink returns where the Link header says the next page is, or "".
func nextLink(t *testing.T, a answer) string {
	t.Helper()
	header := a.Header.Get("Link")
	if header == "" {
		return ""
	}
	match := regexp.MustCompile(`^<([^<>]*)>; rel="next"$`).FindStringSubmatch(header)
	if match == nil {
		t.Fatalf("Link = %s", header)
	}
	next, err := a.Request.URL.Parse(match[1])
	if err != nil {
		t.Fatal(err)
	}
	return next.RequestURI()
}

func TestPagesOfTopicsMakeUpTheWhole(t *testing.T) {
	n := start(t)
	for _, topic := range names {
		if _, err := n.tracker.Track(presence.TrackRequest{Topic: presence.Topic(topic), Key: "Alice"}); err != nil {
			t.Fatal(err)
		}
	}
	want := slices.Sorted(slices.Values(names))
	for _, limit := range []int{1, 3, 1000} {
		var got []string
		for after, more := "", true; more; {
			page := decode[api.TopicPage](n.get(fmt.Sprintf("/v1/topics?limit=%d&after=%s", limit, url.QueryEscape(after))).want(http.StatusOK))
			for _, topic := range page.Topics {
				if topic.Keys != 1 || topic.Metas != 1 {
					t.Errorf("%+v, want one key and one meta", topic)
				}
				got = append(got, topic.Topic)
			}
			if more = page.Next != nil; more {
				after = *page.Next
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: topics %q, want %q", limit, got, want)
		}
	}
	page := decode[api.TopicPage](n.get("/v1/topics?prefix=room").want(http.StatusOK))
	if len(page.Topics) != 2 || page.Topics[0].Topic != "room/lobby" || page.Topics[1].Topic != "room:lobby" || page.Next != nil {
		t.Errorf("topics that begin with room = %+v", page)
	}
	if got := n.get("/v1/topics?prefix=nobody").want(http.StatusOK).body; strings.TrimSpace(got) != `{"topics":[]}` {
		t.Errorf("no topics = %s", got)
	}
}
