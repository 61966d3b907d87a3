//go:build linux

package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

// Watcher reads a topic's stream on one node as a client does: it takes states and diffs, and when the stream ends it opens it again after the last
// event that it had. It fails the test when a diff brings somebody who is there or takes somebody away who is not.
type Watcher struct {
	node  *Node
	topic string
	ended chan struct{} // closed when it reads no more

	mu      sync.Mutex
	state   rollcallclient.PresenceState
	changes []Change
	opened  int // streams
	lastID  string
}

// Change is what a watcher's user sees happen: a diff, or the difference to a fresh state.
type Change struct {
	At            time.Time // when it was read
	Joins, Leaves rollcallclient.PresenceState
	Fresh         bool // from a state
}

// Watch opens a topic's stream. While the node does not run, the watcher tries again and again.
func (n *Node) Watch(topic string) *Watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watcher{node: n, topic: topic, ended: make(chan struct{}), state: rollcallclient.PresenceState{}}
	n.cluster.watchers = append(n.cluster.watchers, w)
	go w.run(ctx)
	n.cluster.tb.Cleanup(func() {
		cancel()
		<-w.ended
	})
	return w
}

func (w *Watcher) run(ctx context.Context) {
	defer close(w.ended)
	for ctx.Err() == nil {
		if err := w.read(ctx); err != nil && ctx.Err() == nil {
			w.node.cluster.tb.Errorf("the watcher of %s at node %s: %v", w.topic, w.node.Name, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// read reads one stream to its end. That the node is not there, or the stream breaks, is no error.
func (w *Watcher) read(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.node.URL()+"/v1/topics/"+url.PathEscape(w.topic)+"/events", nil)
	if err != nil {
		return err
	}
	w.mu.Lock()
	if w.lastID != "" {
		request.Header.Set("Last-Event-ID", w.lastID)
	}
	w.mu.Unlock()
	response, err := w.node.HTTP.Do(request)
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusServiceUnavailable: // it is stopping
		return nil
	default:
		return errors.New(response.Status)
	}
	w.mu.Lock()
	w.opened++
	w.mu.Unlock()

	var name, data, id string
	for lines := bufio.NewReader(response.Body); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil // an event that is not whole does not count
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			name = value
		case "data":
			data += value
		case "id":
			id = value
		case "":
			if err := w.take(name, data, id); err != nil {
				return err
			}
			name, data, id = "", "", ""
		}
	}
}

// take takes an event into the state.
func (w *Watcher) take(name, data, id string) error {
	at := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if id != "" {
		w.lastID = id
	}
	switch name {
	case "presence_state":
		var state rollcallclient.PresenceState
		if err := json.Unmarshal([]byte(data), &state); err != nil {
			return fmt.Errorf("state %.200q: %w", data, err)
		}
		change := Change{At: at, Joins: rollcallclient.PresenceState{}, Leaves: rollcallclient.PresenceState{}, Fresh: true}
		w.state.SyncState(state, collect(change.Joins), collect(change.Leaves))
		w.note(change)
	case "presence_diff":
		var diff rollcallclient.PresenceDiff
		if err := json.Unmarshal([]byte(data), &diff); err != nil {
			return fmt.Errorf("diff %.200q: %w", data, err)
		}
		if err := check(w.state, diff); err != nil {
			return fmt.Errorf("diff %.2000s: %w", data, err)
		}
		w.state.SyncDiff(diff, nil, nil)
		w.note(Change{At: at, Joins: diff.Joins, Leaves: diff.Leaves})
	}
	return nil
}

func (w *Watcher) note(c Change) {
	if len(c.Joins)+len(c.Leaves) > 0 {
		w.changes = append(w.changes, c)
	}
}

func collect(into rollcallclient.PresenceState) rollcallclient.Change {
	return func(key string, _, changed []rollcallclient.TrackedMeta) {
		into[key] = rollcallclient.Metas{Metas: changed}
	}
}

// check returns an error if the diff does not fit the state.
func check(state rollcallclient.PresenceState, diff rollcallclient.PresenceDiff) error {
	for key, metas := range diff.Joins {
		for _, meta := range metas.Metas {
			if has(state, key, meta.PhxRef) {
				return fmt.Errorf("%s %s joins and is there", key, meta.PhxRef)
			}
		}
	}
	for key, metas := range diff.Leaves {
		for _, meta := range metas.Metas {
			if !has(state, key, meta.PhxRef) {
				return fmt.Errorf("%s %s leaves and is not there", key, meta.PhxRef)
			}
		}
	}
	return nil
}

// has tells whether a key has a meta with the ref.
func has(state rollcallclient.PresenceState, key, ref string) bool {
	return slices.ContainsFunc(state[key].Metas, func(meta rollcallclient.TrackedMeta) bool { return meta.PhxRef == ref })
}

// State returns what the watcher shows now.
func (w *Watcher) State() rollcallclient.PresenceState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.state) // SyncDiff replaces the slices within
}

// Changes returns all that was seen.
func (w *Watcher) Changes() []Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.changes)
}

// Mark names this moment, for Since.
func (w *Watcher) Mark() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.changes)
}

// Since returns what was seen since a mark.
func (w *Watcher) Since(mark int) []Change { return w.Changes()[mark:] }

// Opened returns how many streams the watcher has opened.
func (w *Watcher) Opened() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.opened
}

// AwaitOpen waits until the watcher has opened so many streams.
func (w *Watcher) AwaitOpen(streams int) {
	w.node.cluster.tb.Helper()
	w.node.cluster.within(program.Patience, func() error {
		if opened := w.Opened(); opened < streams {
			return fmt.Errorf("the watcher of %s at node %s has opened %d streams, want %d", w.topic, w.node.Name, opened, streams)
		}
		return nil
	})
}

// AwaitJoin waits until a ref joins, or has joined after the mark, and returns the change.
func (w *Watcher) AwaitJoin(mark int, ref string, within time.Duration) Change {
	w.node.cluster.tb.Helper()
	return w.await(mark, "joined", ref, within, func(c Change) rollcallclient.PresenceState { return c.Joins })
}

// AwaitLeave is AwaitJoin for a leave.
func (w *Watcher) AwaitLeave(mark int, ref string, within time.Duration) Change {
	w.node.cluster.tb.Helper()
	return w.await(mark, "left", ref, within, func(c Change) rollcallclient.PresenceState { return c.Leaves })
}

func (w *Watcher) await(mark int, what, ref string, within time.Duration, part func(Change) rollcallclient.PresenceState) Change {
	w.node.cluster.tb.Helper()
	var found Change
	w.node.cluster.within(within, func() error {
		for _, change := range w.Since(mark) {
			for key := range part(change) {
				if has(part(change), key, ref) {
					found = change
					return nil
				}
			}
		}
		return fmt.Errorf("the watcher of %s at node %s has not seen that %s %s", w.topic, w.node.Name, ref, what)
	})
	return found
}
