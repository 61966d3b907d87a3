package stream

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/presence"
)

// BenchmarkFanout sends one change to many subscribers over TCP and waits until the last has it. The readers run in the same process.
func BenchmarkFanout(b *testing.B) {
	for _, subscribers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) { benchmarkFanout(b, subscribers) })
	}
}

func benchmarkFanout(b *testing.B, subscribers int) {
	h, tracker := openHub(b, Config{Window: -1})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = h.Serve(w, r, Request{Topics: []presence.Topic{lobby}})
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go server.Serve(listener)
	defer func() {
		h.Close()
		_ = server.Shutdown(context.Background())
		tracker.Close()
	}()
	var received atomic.Int64 // events
	var readers sync.WaitGroup
	defer readers.Wait()
	for range subscribers {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
		readers.Go(func() {
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if bytes.HasPrefix(lines.Bytes(), []byte("id: ")) {
					received.Add(1)
				}
			}
		})
	}
	await := func(n int64) {
		for deadline := time.Now().Add(time.Minute); received.Load() < n; time.Sleep(20 * time.Microsecond) {
			if time.Now().After(deadline) {
				b.Fatalf("%d of %d events", received.Load(), n)
			}
		}
	}
	await(int64(subscribers)) // the states
	session, n := presence.SessionID("session-of-the-bench"), received.Load()
	for i := 0; b.Loop(); i++ {
		if _, _, err := tracker.Update(lobby, "ann", session, presence.Meta(fmt.Sprintf(`{"n":%d}`, i))); err != nil {
			b.Fatal(err)
		}
		n += int64(subscribers)
		await(n)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*subscribers), "µs/event")
}
