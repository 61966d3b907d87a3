package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"testing"

	rollcallclient "rollcall/clients/go"
)

var nextLink = regexp.MustCompile(`^<(/[^>]+)>; rel="next"$`)

func TestALargeTopicIsReadInPages(t *testing.T) {
	t.Parallel()
	n := serve(t)
	var want []string
	sessions := map[string]string{}
	for i := range 57 {
		key := fmt.Sprintf("user %02d & Ö/?", i)
		want = append(want, key)
		sessions[key] = n.track("room:lobby", object(t, map[string]any{"key": key})).Session
	}
	var got []string
	for path, pages := presences("room:lobby")+"?limit=10", 1; path != ""; pages++ {
		response := n.call(http.StatusOK, "GET", path, "")
		page := slices.Sorted(maps.Keys(decode[rollcallclient.PresenceState](t, response.body)))
		got = append(got, page...)
		path = ""
		if link := nextLink.FindStringSubmatch(response.header.Get("Link")); link != nil {
			path = link[1]
		}
		if size := len(page); path != "" && size != 10 || path == "" && size != 7 {
			t.Fatalf("page %d has %d keys and goes on at %q", pages, size, path)
		}
		n.leave(sessions[page[0]]) // who leaves or comes before the page to come does not shift it
		n.track("room:lobby", object(t, map[string]any{"key": " before all others " + page[0]}))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the pages have %q, want %q", got, want)
	}
	rest := get[rollcallclient.PresenceState](n, presences("room:lobby")+"?after="+url.QueryEscape(want[50]))
	if got := slices.Sorted(maps.Keys(rest)); !slices.Equal(got, want[51:]) {
		t.Errorf("after %q come %q", want[50], got)
	}
}

func TestTopicsAreReadInPages(t *testing.T) {
	t.Parallel()
	n := serve(t)
	var want []string
	for i := range 23 {
		topic := fmt.Sprintf("room:%02d/&", i)
		want = append(want, topic)
		n.track(topic, `{"key":"Alice"}`)
		n.track(topic, `{"key":"Alice"}`)
	}
	n.track("a room of another kind", `{"key":"Alice"}`)
	n.track("rooms", `{"key":"Alice"}`)
	var got []string
	query := url.Values{"prefix": {"room:"}, "limit": {"10"}}
	for {
		page := get[rollcallclient.TopicPage](n, "/v1/topics?"+query.Encode())
		for _, topic := range page.Topics {
			if topic.Keys != 1 || topic.Metas != 2 {
				t.Errorf("%+v, want 1 key and 2 metas", topic)
			}
			got = append(got, topic.Topic)
		}
		if page.Next == nil {
			break
		}
		query.Set("after", *page.Next)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the pages have %q, want %q", got, want)
	}
	if all := get[rollcallclient.TopicPage](n, "/v1/topics"); len(all.Topics) != 25 || all.Next != nil {
		t.Errorf("%d topics, next %v; want all 25", len(all.Topics), all.Next)
	}
}

func TestAListThatHasNotChangedIsNotSentAgain(t *testing.T) {
	t.Parallel()
	n := serve(t)
	path := presences("room:lobby")
	etag := func(status int, path, ifNoneMatch string) string {
		t.Helper()
		response := n.callWith(status, "GET", path, "", http.Header{"If-None-Match": {ifNoneMatch}})
		if status == http.StatusNotModified && len(response.body) > 0 {
			t.Errorf("a 304 with the body %q", response.body)
		}
		return response.header.Get("ETag")
	}
	empty := etag(http.StatusOK, path, "")
	etag(http.StatusNotModified, path, empty)
	alice := n.track("room:lobby", `{"key":"Alice"}`)
	first := etag(http.StatusOK, path, empty)
	for _, match := range []string{first, "W/" + first, `"other", ` + first, "*"} {
		if got := etag(http.StatusNotModified, path, match); got != first {
			t.Errorf("If-None-Match: %s: ETag %s, want %s", match, got, first)
		}
	}
	etag(http.StatusNotModified, path+"?limit=1", etag(http.StatusOK, path+"?limit=1", ""))
	n.track("room:attic", `{"key":"Alice"}`)
	etag(http.StatusNotModified, path, first) // another topic's change is none of this one
	n.call(http.StatusOK, "PUT", presenceOf("room:lobby", "Alice"), object(t, map[string]any{"session": alice.Session, "meta": map[string]any{"n": 1}}))
	second := etag(http.StatusOK, path, first)
	n.leave(alice.Session)
	etag(http.StatusOK, path, second)

	n.restart()
	n.track("room:lobby", `{"key":"Bob"}`)
	for _, old := range []string{empty, first, second} {
		etag(http.StatusOK, path, old)
	}
}
