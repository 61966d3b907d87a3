package restart

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// refs are who is in a topic: the key of each ref.
type refs map[string]string

// change is what a follower's user sees happen: a diff, or how a fresh state differs from what was there.
type change struct {
	at            time.Time
	topic         string
	fresh         bool
	joins, leaves refs
}

func (c change) String() string {
	return fmt.Sprintf("%s %s fresh=%v joins=%v leaves=%v", c.at.Format("15:04:05.000"), c.topic, c.fresh, c.joins, c.leaves)
}

// follower reads streams as an EventSource does: when one ends, it waits as long as it was told and opens the next, after the last event that
// it had. What it knows stays meanwhile, and a fresh state is merged into it.
type follower struct {
	name   string
	path   string                   // with the query
	topic  string                   // "" with several: then events are wrapped
	choose func(last string) string // the URL of the node, or balancer, of the next attempt
	http   *http.Client

	mu      sync.Mutex
	topics  map[string]refs
	changes []change
	lastID  string
	retry   time.Duration
	at      string // where the stream is open, "" while it is not
	opened  []time.Time
	ended   []time.Time // each of a stream that was open
	err     error       // what no client should see; it reads no more
}

// watching returns a follower of several topics.
func watching(name string, topics []string) *follower {
	return &follower{name: name, path: "/v1/events?" + url.Values{"topic": topics}.Encode()}
}

func (f *follower) run(ctx context.Context) {
	node := ""
	for ctx.Err() == nil {
		node = f.choose(node)
		open, err := f.read(ctx, node)
		f.mu.Lock()
		f.at = ""
		if open {
			f.ended = append(f.ended, time.Now())
		}
		if err != nil && ctx.Err() == nil {
			f.err = fmt.Errorf("%s: %w", f.name, err)
			f.mu.Unlock()
			return
		}
		wait := f.retry
		f.mu.Unlock()
		if !open { // a program that has no better idea tries again soon
			wait = 200*time.Millisecond + rand.N(200*time.Millisecond)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// read reads one stream to its end, and tells whether it was open.
func (f *follower) read(ctx context.Context, node string) (open bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, node+f.path, nil)
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	if f.lastID != "" {
		request.Header.Set("Last-Event-ID", f.lastID)
	}
	f.mu.Unlock()
	response, err := f.http.Do(request)
	if err != nil {
		return false, nil
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusServiceUnavailable, http.StatusBadGateway: // the node is stopping, or has stopped
		return false, nil
	default:
		return false, fmt.Errorf("%s: %s", f.path, response.Status)
	}
	f.mu.Lock()
	f.at = node
	f.opened = append(f.opened, time.Now())
	f.mu.Unlock()
	return true, f.parse(response.Body)
}

// parse takes whole events until the stream ends or breaks.
func (f *follower) parse(body io.Reader) error {
	var name, data, id string
	for lines := bufio.NewReader(body); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			name = value
		case "data":
			data += value
		case "id":
			id = value
		case "retry":
			ms, err := strconv.Atoi(value)
			if err != nil {
				return err
			}
			f.mu.Lock()
			f.retry = time.Duration(ms) * time.Millisecond
			f.mu.Unlock()
		case "":
			if err := f.take(name, data, id); err != nil {
				return fmt.Errorf("%s %.500s: %w", name, data, err)
			}
			name, data, id = "", "", ""
		}
	}
}

// metas is a part of a state as it comes over the wire.
type metas map[string]struct {
	Metas []struct {
		Ref string `json:"phx_ref"`
	}
}

func (m metas) refs() refs {
	all := refs{}
	for key, of := range m {
		for _, meta := range of.Metas {
			all[meta.Ref] = key
		}
	}
	return all
}

// take takes one event into what is known.
func (f *follower) take(name, data, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if id != "" {
		f.lastID = id
	}
	if name == "" {
		return nil
	}
	topic, payload := f.topic, []byte(data)
	if topic == "" {
		var wrapped struct {
			Topic   string
			Payload json.RawMessage
		}
		if err := json.Unmarshal(payload, &wrapped); err != nil {
			return err
		}
		topic, payload = wrapped.Topic, wrapped.Payload
	}
	known := f.topics[topic]
	c := change{at: time.Now(), topic: topic}
	switch name {
	case "presence_state":
		var state metas
		if err := json.Unmarshal(payload, &state); err != nil {
			return err
		}
		now := state.refs()
		c.fresh, c.joins, c.leaves = true, without(now, known), without(known, now)
	case "presence_diff":
		var diff struct{ Joins, Leaves metas }
		if err := json.Unmarshal(payload, &diff); err != nil {
			return err
		}
		c.joins, c.leaves = diff.Joins.refs(), diff.Leaves.refs()
		if again := len(c.joins) - len(without(c.joins, known)); again > 0 {
			return fmt.Errorf("%d of the joins are there already", again)
		}
		if missing := without(c.leaves, known); len(missing) > 0 {
			return fmt.Errorf("the leaves %v are not there", missing)
		}
	default:
		return nil
	}
	next := without(known, c.leaves)
	maps.Copy(next, c.joins)
	f.topics[topic] = next
	if len(c.joins)+len(c.leaves) > 0 {
		f.changes = append(f.changes, c)
	}
	return nil
}

// without returns what of a is not in b.
func without(a, b refs) refs {
	rest := refs{}
	for ref, key := range a {
		if _, ok := b[ref]; !ok {
			rest[ref] = key
		}
	}
	return rest
}

// where returns the node at which the stream is open, "" for none.
func (f *follower) where() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// refOf returns the ref of somebody, "" if there is none.
func (f *follower) refOf(topic, key string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ref, k := range f.topics[topic] {
		if k == key {
			return ref
		}
	}
	return ""
}

// lack says how what is known differs from what is wanted in a topic, "" if it does not. Keys for which ignore is true do not count.
func (f *follower) lack(topic string, want refs, ignore func(key string) bool) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err.Error()
	}
	return difference(f.name, f.topics[topic], want, ignore)
}

func difference(name string, got, want refs, ignore func(key string) bool) string {
	lacks, more := without(want, got), without(got, want)
	for _, part := range []refs{lacks, more} {
		maps.DeleteFunc(part, func(_, key string) bool { return ignore(key) })
	}
	if len(lacks)+len(more) == 0 {
		return ""
	}
	return fmt.Sprintf("%s lacks %v and has %v", name, lacks, more)
}

// forgetChanges begins a new count of what is seen.
func (f *follower) forgetChanges() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = nil
}

// seen returns what of the changes was about others than those for which ignore is true.
func (f *follower) seen(ignore func(key string) bool) (seen []change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.changes {
		for _, part := range []*refs{&c.joins, &c.leaves} {
			*part = maps.Clone(*part)
			maps.DeleteFunc(*part, func(_, key string) bool { return ignore(key) })
		}
		if len(c.joins)+len(c.leaves) > 0 {
			seen = append(seen, c)
		}
	}
	return seen
}

// gap is a time without a stream.
type gap struct{ ended, opened time.Time }

// gaps returns the times without a stream that began after a moment.
func (f *follower) gaps(after time.Time) (all []gap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, ended := range f.ended {
		if ended.After(after) && i+1 < len(f.opened) {
			all = append(all, gap{ended, f.opened[i+1]})
		}
	}
	return all
}

// describe says how streams ended and came back: over which time they did, and how long each of them was away.
func describe(gaps []gap) string {
	if len(gaps) == 0 {
		return "no stream has ended"
	}
	slices.SortFunc(gaps, func(a, b gap) int { return a.opened.Compare(b.opened) })
	const slice = 100 * time.Millisecond
	var away []time.Duration
	most, inSlice := 0, map[time.Duration]int{}
	firstEnd, lastEnd := gaps[0].ended, gaps[0].ended
	for _, g := range gaps {
		away = append(away, g.opened.Sub(g.ended))
		at := g.opened.Sub(gaps[0].opened) / slice
		inSlice[at]++
		most = max(most, inSlice[at])
		firstEnd = slices.MinFunc([]time.Time{firstEnd, g.ended}, time.Time.Compare)
		lastEnd = slices.MaxFunc([]time.Time{lastEnd, g.ended}, time.Time.Compare)
	}
	slices.SortFunc(away, cmp.Compare)
	at := func(percent int) time.Duration { return away[(len(away)-1)*percent/100].Round(time.Millisecond) }
	return fmt.Sprintf("%d streams ended within %v; back within %v, at most %d in %v; away for p50 %v, p99 %v, at most %v", len(gaps),
		lastEnd.Sub(firstEnd).Round(time.Millisecond), gaps[len(gaps)-1].opened.Sub(gaps[0].opened).Round(time.Millisecond), most, slice, at(50), at(99), at(100))
}
