package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/presence"
	"rollcall/presence/crdt"
)

// testingT is what a test and a rapid check have in common.
type testingT interface {
	Helper()
	Fatalf(format string, args ...any)
}

// conn is a connection in memory: a ResponseWriter with deadlines whose client can stop reading.
type conn struct {
	mu       sync.Mutex
	header   http.Header
	code     int
	received bytes.Buffer
	stalled  chan struct{} // closed when the client reads again; nil while it reads
	deadline time.Time
	pace     time.Duration // how long each write takes; set before the stream opens
	gone     chan struct{} // closed when the client goes away
}

func (c *conn) Header() http.Header  { return c.header }
func (c *conn) WriteHeader(code int) { c.code = code }
func (c *conn) Flush()               {}

func (c *conn) SetReadDeadline(time.Time) error { return nil }

func (c *conn) SetWriteDeadline(deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = deadline
	return nil
}

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	stalled, deadline := c.stalled, c.deadline
	c.mu.Unlock()
	time.Sleep(c.pace)
	if time.Now().After(deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	if stalled != nil {
		select {
		case <-stalled:
		case <-time.After(time.Until(deadline)):
			return 0, os.ErrDeadlineExceeded
		case <-c.gone:
			return 0, io.ErrClosedPipe
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.received.Write(p)
}

// stall makes the client stop reading, or read again.
func (c *conn) stall(stop bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case stop && c.stalled == nil:
		c.stalled = make(chan struct{})
	case !stop && c.stalled != nil:
		close(c.stalled)
		c.stalled = nil
	}
}

// event is one event as a client reads it.
type event struct {
	name, data, id string
}

// take returns what was received since the last take: whole events, and how many comments.
func (c *conn) take() (events []event, comments int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		text := c.received.String()
		block, _, whole := strings.Cut(text, "\n\n")
		if !whole {
			return events, comments
		}
		c.received.Next(len(block) + 2)
		var e event
		for line := range strings.SplitSeq(block, "\n") {
			field, value, _ := strings.Cut(line, ": ")
			switch field {
			case "event":
				e.name = value
			case "data":
				e.data += value
			case "id":
				e.id = value
			case ":":
				comments++
			}
		}
		if e.name != "" {
			events = append(events, e)
		}
	}
}

// client is an open stream.
type client struct {
	*conn
	cancel context.CancelFunc
	done   chan error
}

func open(h *Hub, req Request) *client { return openOn(h, &conn{header: http.Header{}}, req) }

func openOn(h *Hub, conn *conn, req Request) *client {
	conn.gone = make(chan struct{})
	c := &client{conn: conn, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	go func() { c.done <- h.Serve(c.conn, r, req) }()
	return c
}

// close ends the stream as a client does that goes away.
func (c *client) close() error {
	close(c.gone)
	c.cancel()
	return <-c.done
}

func openHub(t testingT, config Config) (*Hub, *presence.Tracker) {
	t.Helper()
	const forever = 10_000 * time.Hour // leases are not what is tested here
	tracker, err := presence.Open(presence.Config{Replica: crdt.Replica{Name: "node", Incarnation: 1}, DefaultTTL: forever, MaxTTL: forever})
	if err != nil {
		t.Fatalf("open tracker: %v", err)
	}
	config.Tracker = tracker
	h, err := Open(config)
	if err != nil {
		t.Fatalf("open hub: %v", err)
	}
	return h, tracker
}

// hubFor opens a hub that the test closes.
func hubFor(t *testing.T, config Config) (*Hub, *presence.Tracker) {
	h, tracker := openHub(t, config)
	t.Cleanup(func() {
		h.Close()
		tracker.Close()
	})
	return h, tracker
}

func track(t testingT, tracker *presence.Tracker, topic presence.Topic, key presence.Key) presence.SessionID {
	t.Helper()
	tracked, err := tracker.Track(presence.TrackRequest{Topic: topic, Key: key})
	if err != nil {
		t.Fatalf("track: %v", err)
	}
	return tracked.Session
}

func decode[T any](t testingT, data string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		t.Fatalf("decode %q: %v", data, err)
	}
	return v
}
