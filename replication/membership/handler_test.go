package membership_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"

	"rollcall/replication/membership"
)

var paths = []string{"/cluster/v1/members/hello", "/cluster/v1/members/join", "/cluster/v1/members/remove"}

// FuzzHandler sends anything to a cluster of one. It answers, and stays what it is.
func FuzzHandler(f *testing.F) {
	network := newNetwork()
	p, err := network.listen(addrOf(1))
	if err != nil {
		f.Fatal(err)
	}
	m, err := membership.Open(membership.Config{ID: "n1", ClusterAddr: addrOf(1), Storage: raft.NewInmemStore(), Streams: p, Client: p,
		Logger: slog.New(slog.DiscardHandler), ElectionTimeout: 20 * time.Millisecond, OnRemoved: func() { panic("removed") }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = m.Close() })
	handler := m.Handler()
	p.serve(handler)
	for end := time.Now().Add(10 * time.Second); len(m.Members()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			f.Fatal("no cluster after 10 s")
		}
	}
	member := map[int]any{1: "n2", 2: addrOf(2), 3: "p", 4: "v", 5: 1}
	for _, message := range []any{
		map[int]any{1: member, 2: "cluster", 3: 5, 4: []any{member}}, map[int]any{1: member}, map[int]any{1: member, 2: true, 4: ""},
		map[int]any{1: "n1", 2: ""}, map[int]any{1: "n2", 2: "x"}, "text", nil, []int{1, 2, 3},
	} {
		data, err := cbor.Marshal(message)
		if err != nil {
			f.Fatal(err)
		}
		for path := range paths {
			f.Add(path, data)
		}
	}
	f.Fuzz(func(t *testing.T, path int, body []byte) {
		request := httptest.NewRequest(http.MethodPost, paths[uint(path)%uint(len(paths))], bytes.NewReader(body))
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		var answer map[int]any
		if err := cbor.Unmarshal(recorder.Body.Bytes(), &answer); err != nil || recorder.Code == http.StatusInternalServerError {
			t.Errorf("%s of %x: status %d, body %q (%v)", request.URL, body, recorder.Code, recorder.Body, err)
		}
		if got := m.Members(); len(got) != 1 || got[0].ID != "n1" || got[0].ClusterAddr != addrOf(1) {
			t.Errorf("%s of %x made the members %v", request.URL, body, got)
		}
	})
}

func TestHandlerTakesPostsOfBoundedSize(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		handler := c.startAll(1)[0].m.Handler()
		for _, test := range []struct {
			method, path string
			body         io.Reader
			want         int
		}{
			{http.MethodGet, paths[0], nil, http.StatusMethodNotAllowed},
			{http.MethodPost, "/cluster/v1/members/other", nil, http.StatusNotFound},
			{http.MethodPost, paths[1], nil, http.StatusBadRequest},
			{http.MethodPost, paths[0], strings.NewReader(strings.Repeat("a", 2<<20)), http.StatusBadRequest},
		} {
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, httptest.NewRequest(test.method, test.path, test.body))
			if recorder.Code != test.want {
				t.Errorf("%s %s = %d, want %d", test.method, test.path, recorder.Code, test.want)
			}
		}
	})
}

func TestStreamsForOthersAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		nodes := c.startAll(2)
		stranger, err := c.network.listen(addrOf(9))
		if err != nil {
			t.Fatal(err)
		}
		for _, first := range []string{"", "\n", "GET / HTTP/1.1\r\n\r\n", "rollcall-raft/1\n", "rollcall-raft/1 other n1\n", strings.Repeat("x", 1000)} {
			conn, err := stranger.Dial(nodes[0].port.addr, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			before := time.Now()
			go func() { _, _ = io.WriteString(conn, first) }()
			if _, err := conn.Read(make([]byte, 1)); err == nil || time.Since(before) > 5*time.Second {
				t.Errorf("after %q: read = %v after %v, want the end", first, err, time.Since(before))
			}
			_ = conn.Close()
		}
		c.awaitAgreement(nodes...)
	})
}
