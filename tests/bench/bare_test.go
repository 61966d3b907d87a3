//go:build linux

package bench

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// serveBare is a program to compare with: the least that a server can do that is written with net/http, a goroutine for each stream that gets
// bytes from a channel, writes and flushes them. It stands in for rollcall serve, keeps nothing, and tells everybody of every track at once.
func serveBare() {
	var hub bareHub
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/topics/{topic}/events", hub.stream)
	mux.HandleFunc("POST /v1/topics/{topic}/presences", hub.track)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		_ = http.Serve(listener, mux)
	}()
	fmt.Printf("rollcall is ready on http://%s\n", listener.Addr())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
}

type bareHub struct {
	mu      sync.Mutex
	streams []chan []byte // nobody ever leaves
}

func (h *bareHub) stream(w http.ResponseWriter, r *http.Request) {
	events := make(chan []byte, 16)
	h.mu.Lock()
	h.streams = append(h.streams, events)
	h.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	event := []byte("event: presence_state\ndata: {}\nid: 01234567-1\n\n")
	for {
		if _, err := w.Write(event); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		select {
		case event = <-events:
		case <-r.Context().Done():
			return
		}
	}
}

func (h *bareHub) track(w http.ResponseWriter, r *http.Request) {
	body := make([]byte, r.ContentLength)
	_, _ = r.Body.Read(body)
	// As long as the diff of the same track.
	event := fmt.Appendf(nil, "event: presence_diff\ndata: {\"joins\":{\"\":{\"metas\":[{\"phx_ref\":\"0123456789abcdef\",%s}]}},\"leaves\":{}}\nid: 01234567-1\n\n", body[1:len(body)-22])
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, events := range h.streams {
		events <- event
	}
	w.WriteHeader(http.StatusCreated)
}
