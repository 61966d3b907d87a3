//go:build linux

package bench

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/program"
)

// presences is the path of who is in a topic whose name needs no encoding.
func presences(topic string) string { return "/v1/topics/" + topic + "/presences" }

// populate tracks so many people, one device each, and returns their sessions.
func populate(b *testing.B, n *program.Node, topic string, people int) []string {
	b.Helper()
	c := dial(b, n)
	sessions := make([]string, people)
	for i := range sessions {
		sessions[i] = fmt.Sprintf("session-%s-%08d", topic, i)
		c.must(b, "POST", presences(topic), fmt.Sprintf(`{"key":"user-%d","session":%q,"ttl":3600,"meta":{"device":"phone"}}`, i, sessions[i]))
	}
	return sessions
}

func BenchmarkTrack(b *testing.B) {
	n := binary.ServeQuietly(b)
	load(b, n, trackRequest)
}

func BenchmarkHeartbeat(b *testing.B) {
	for _, level := range []string{"info", "warn"} { // with a line of log for each request, as by default, and without
		b.Run("log="+level, func(b *testing.B) {
			n := binary.ServeQuietly(b, "--log-level="+level)
			var requests [][]byte
			for _, session := range populate(b, n, "lobby", 1000) {
				requests = append(requests, request("POST", "/v1/sessions/"+session+"/heartbeat", ""))
			}
			load(b, n, func(i int) []byte { return requests[i%len(requests)] })
		})
	}
}

func BenchmarkHeartbeatsOf1000(b *testing.B) {
	n := binary.ServeQuietly(b)
	sessions := `{"sessions":["` + strings.Join(populate(b, n, "lobby", 1000), `","`) + `"]}`
	all := request("POST", "/v1/heartbeats", sessions)
	load(b, n, func(int) []byte { return all })
}

func BenchmarkList(b *testing.B) {
	for _, members := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			n := binary.ServeQuietly(b)
			populate(b, n, "lobby", members)
			list := request("GET", presences("lobby"), "")
			b.Run("warm", func(b *testing.B) {
				load(b, n, func(int) []byte { return list })
			})
			b.Run("changing", func(b *testing.B) {
				defer change(b, n, 100)()
				load(b, n, func(int) []byte { return list })
			})
		})
	}
}

// change has somebody in the lobby change so many times a second, until the returned function is called.
func change(b *testing.B, n *program.Node, perSecond int) (stop func()) {
	c := dial(b, n)
	var (
		stopping atomic.Bool
		ended    sync.WaitGroup
	)
	ended.Go(func() {
		ticker := time.NewTicker(time.Second / time.Duration(perSecond))
		defer ticker.Stop()
		for i := 0; !stopping.Load(); i++ {
			<-ticker.C
			body := fmt.Sprintf(`{"session":"session-that-changes","meta":{"i":%d}}`, i)
			if err := c.do(request("PUT", presences("lobby")+"/user-changes", body)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	return func() {
		stopping.Store(true)
		ended.Wait()
	}
}
