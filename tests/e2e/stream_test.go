package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/r3labs/sse/v2"
	"gopkg.in/cenkalti/backoff.v1"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/contract"
	"rollcall/tests/program"
)

const (
	stateEvent = "presence_state"
	diffEvent  = "presence_diff"
)

// event is one event of a stream.
type event struct {
	name, data, id string
}

// watcher is an open stream that is being read.
type watcher struct {
	t        *testing.T
	events   chan event // closed when the stream has ended
	err      error      // why, nil for a clean end; valid once events is closed
	comments atomic.Int64
	retry    atomic.Int64 // milliseconds
	close    func()       // hangs up, and waits until the stream has ended here

	state  rollcallclient.PresenceState // of a stream of one topic, as of the events that were taken
	lastID string
}

// opener opens a stream.
type opener func(n *node, path string, header http.Header) *watcher

// readers are the ways to read streams, which must agree.
var readers = []struct {
	name string
	open opener
}{{"raw", openRaw}, {"r3labs", openR3labs}}

// withReaders runs a test once for each way to read streams.
func withReaders(t *testing.T, test func(t *testing.T, open opener)) {
	t.Parallel()
	for _, r := range readers {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			test(t, r.open)
		})
	}
}

// watch opens a stream, and waits for its answer.
func (n *node) watch(path string) *watcher {
	n.t.Helper()
	return openRaw(n, path, nil)
}

// openRaw opens a stream and reads every line of it by itself.
func openRaw(n *node, path string, header http.Header) *watcher {
	n.t.Helper()
	w, ctx := newWatcher(n)
	response := n.openStream(ctx, n.http, path, header)
	go w.read(ctx, response.Body)
	return w
}

// openStream returns the answer of a stream, of which no more than the head is read.
func (n *node) openStream(ctx context.Context, client *http.Client, path string, header http.Header) *http.Response {
	n.t.Helper()
	request, err := http.NewRequestWithContext(ctx, "GET", n.URL+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	request.Header = header.Clone()
	response, err := client.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		n.t.Fatalf("GET %s: %s", path, response.Status)
	}
	return response
}

// newWatcher returns a watcher, which needs a goroutine that reads. It hangs up at the latest when the test ends.
func newWatcher(n *node) (*watcher, context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{t: n.t, events: make(chan event, 10_000), state: rollcallclient.PresenceState{}}
	w.close = func() {
		cancel()
		for range w.events { // until it is closed
		}
	}
	n.t.Cleanup(w.close)
	return w, ctx
}

// read reads a stream until it ends, or ctx does.
func (w *watcher) read(ctx context.Context, body io.ReadCloser) {
	defer close(w.events)
	defer body.Close()
	if err := w.parse(body); err != io.EOF && ctx.Err() == nil {
		w.err = err
	}
}

// parse reads a stream to its end, and takes nothing that it does not know.
func (w *watcher) parse(body io.Reader) error {
	var e event
	for lines := bufio.NewReader(body); ; {
		line, err := lines.ReadString('\n')
		if err == io.EOF && (line != "" || e != event{}) {
			return errors.New("the stream ended within an event")
		}
		if err != nil {
			return err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			e.name = value
		case "data":
			e.data += value
		case "id":
			e.id = value
		case "retry":
			var retry int64
			if _, err := fmt.Sscan(value, &retry); err != nil {
				return fmt.Errorf("retry %q: %w", value, err)
			}
			w.retry.Store(retry)
		case ":":
			w.comments.Add(1)
		case "":
			if (e != event{}) {
				w.events <- e
			}
			e = event{}
		default:
			return fmt.Errorf("a line %q", line)
		}
	}
}

// openR3labs opens a stream and reads it with the client of r3labs/sse.
func openR3labs(n *node, path string, header http.Header) *watcher {
	n.t.Helper()
	w, ctx := newWatcher(n)
	client := sse.NewClient(n.URL+path, sse.ClientMaxBufferSize(16<<20))
	client.Connection = n.http
	client.ReconnectStrategy = &backoff.StopBackOff{}
	for name := range header {
		client.Headers[name] = header.Get(name)
	}
	opened := make(chan error, 1)
	client.ResponseValidator = func(_ *sse.Client, response *http.Response) error {
		if response.StatusCode != http.StatusOK {
			response.Body.Close()
			return errors.New(response.Status)
		}
		opened <- nil
		return nil
	}
	go func() {
		defer close(w.events)
		err := client.SubscribeRawWithContext(ctx, func(e *sse.Event) {
			if len(e.Data) > 0 {
				w.events <- event{string(e.Event), string(e.Data), string(e.ID)}
			}
		})
		if err != nil && ctx.Err() == nil {
			w.err = err
		}
		opened <- err
	}()
	if err := <-opened; err != nil {
		n.t.Fatalf("GET %s: %v", path, err)
	}
	return w
}

// next waits for the next event, checks it against the contract and takes it.
func (w *watcher) next() event {
	w.t.Helper()
	select {
	case e, open := <-w.events:
		if !open {
			w.t.Fatalf("the stream has ended: %v", w.err)
		}
		w.take(e)
		return e
	case <-time.After(program.Patience):
		w.t.Fatalf("no event within %v", program.Patience)
	}
	panic("not reached")
}

// take checks one event and applies it to the state.
func (w *watcher) take(e event) {
	w.t.Helper()
	wrapped := strings.HasPrefix(e.data, `{"topic":`)
	if err := contract.CheckEvent(wrapped, e.name, []byte(e.data)); err != nil {
		w.t.Fatalf("%s %s: %v", e.name, e.data, err)
	}
	if e.id != "" {
		w.lastID = e.id
	}
	switch {
	case wrapped:
	case e.name == stateEvent:
		w.state.SyncState(decode[rollcallclient.PresenceState](w.t, []byte(e.data)), nil, nil)
	default:
		w.state.SyncDiff(decode[rollcallclient.PresenceDiff](w.t, []byte(e.data)), nil, nil)
	}
}

// nextState waits for the next event, which must be a state.
func (w *watcher) nextState() rollcallclient.PresenceState {
	w.t.Helper()
	e := w.next()
	if e.name != stateEvent {
		w.t.Fatalf("%s %s, want a state", e.name, e.data)
	}
	return decode[rollcallclient.PresenceState](w.t, []byte(e.data))
}

// nextDiff waits for the next event, which must be a diff.
func (w *watcher) nextDiff() rollcallclient.PresenceDiff {
	w.t.Helper()
	e := w.next()
	if e.name != diffEvent {
		w.t.Fatalf("%s %s, want a diff", e.name, e.data)
	}
	return decode[rollcallclient.PresenceDiff](w.t, []byte(e.data))
}

// until takes events until the state that they make is as wanted.
func (w *watcher) until(what string, ok func(rollcallclient.PresenceState) bool) {
	w.t.Helper()
	deadline := time.After(program.Patience)
	for !ok(w.state) {
		select {
		case e, open := <-w.events:
			if !open {
				w.t.Fatalf("the stream has ended before %s: %v", what, w.err)
			}
			w.take(e)
		case <-deadline:
			w.t.Fatalf("not within %v: %s; the state is %v", program.Patience, what, w.state)
		}
	}
}

// ended waits for the stream's end, takes what came before, and returns why it ended: nil when the node ended it in good order.
func (w *watcher) ended() error {
	w.t.Helper()
	deadline := time.After(program.Patience)
	for {
		select {
		case e, open := <-w.events:
			if !open {
				return w.err
			}
			w.take(e)
		case <-deadline:
			w.t.Fatalf("the stream has not ended within %v", program.Patience)
		}
	}
}

// devices returns how many metas each key has.
func devices(state rollcallclient.PresenceState) map[string]int {
	counts := map[string]int{}
	for key, metas := range state {
		counts[key] = len(metas.Metas)
	}
	return counts
}
