package restart

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

const (
	crashTopics  = 8
	crashWorkers = 8
	// crashLag is by how much a change may be older than the journal interval and still be lost, on a machine that is busy with tests. To it comes
	// twice what the slowest request has taken, since a node that gets no processor cannot write either, and what a commit of a few
	// fsyncs may have taken on this disk.
	crashLag = 300 * time.Millisecond
)

// at is where one presence of a session is.
type at struct{ topic, key string }

// held is what a session has: a meta's number for each presence.
type held map[at]int

// step is what a session has after one operation.
type step struct {
	has   held
	acked time.Time // zero while nobody has answered
}

// life is a session, with what was asked of it since it was last seen. Only one goroutine asks.
type life struct {
	id    string
	alive bool // it has not been asked to leave
	steps []step
	refs  map[at]map[int]string // of each meta that was acknowledged
}

func (l *life) now() held { return l.steps[len(l.steps)-1].has }

// crasher is a node that is killed, and the sessions of those who use it.
type crasher struct {
	*crowd
	dir, addr string
	node      *program.Node
	lives     [crashWorkers][]*life
	serial    [crashWorkers]int
	tabs      []*person

	slowest  [crashWorkers]time.Duration // requests of this round
	lostAge  []time.Duration             // of the oldest change that was lost, in each round
	lost     int                         // changes that were acknowledged and lost
	kept     int                         // sessions that were there again
	restarts []time.Duration
}

// TestCrashes kills a node at random moments. What it had acknowledged before the journal interval is there when it is started again: each
// session as it was, under the same refs, or as some later operation would have left it, and what had ended is not.
func TestCrashes(t *testing.T) {
	t.Parallel()
	c := &crasher{crowd: newCrowd(t, time.Minute), dir: filepath.Join(t.TempDir(), "data"), addr: freeAddr(t)}
	c.start()
	for i := range 5 {
		p := &person{topic: fmt.Sprintf("room:%d", i%crashTopics), key: fmt.Sprintf("tab-%d", i), session: fmt.Sprintf("session-of-tab-%d", i)}
		c.open(c.node.URL, p)
		c.tabs = append(c.tabs, p)
	}
	program.Eventually(t, func() bool { return c.streaming() == 0 }, "all tabs are present")
	program.Eventually(t, func() bool { return c.metric(c.node.URL, "rollcall_journal_records") == len(c.tabs) }, "all tabs are in the journal")
	rounds := scaled(15, 200)
	for range rounds {
		c.round()
		if t.Failed() {
			t.Logf("stderr:\n%.3000s", c.node.Stderr())
			return
		}
	}
	t.Logf("%d rounds: %d times a session was there again, %d acknowledged changes were lost; the oldest of a round was acknowledged %s before the kill; ready again after %s",
		rounds, c.kept, c.lost, spread(c.lostAge), spread(c.restarts))
}

// spread says how durations are distributed.
func spread(durations []time.Duration) string {
	sorted := slices.Sorted(slices.Values(durations))
	at := func(percent int) time.Duration { return sorted[(len(sorted)-1)*percent/100].Round(time.Millisecond) }
	return fmt.Sprintf("p50 %v, p95 %v, at most %v", at(50), at(95), at(100))
}

// journalInterval is the default of --journal-interval.
const journalInterval = 100 * time.Millisecond

func (c *crasher) start() {
	c.t.Helper()
	began := time.Now()
	c.node = binary.Serve(c.t, "--addr="+c.addr, "--data-dir="+c.dir, "--default-ttl=60s", "--log-level=warn")
	c.restarts = append(c.restarts, time.Since(began))
}

// round lets everybody work, kills the node, starts it again, and checks what it has.
func (c *crasher) round() {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.ctx)
	var working sync.WaitGroup
	var slowestSync time.Duration
	working.Go(func() { slowestSync = c.probeDisk(ctx) })
	for w := range crashWorkers {
		working.Go(func() { c.work(ctx, w) })
	}
	time.Sleep(rand.N(1200 * time.Millisecond))
	killed := time.Now()
	c.node.Kill()
	cancel()
	working.Wait()
	c.start()
	got := c.everybody()
	must := killed.Add(-journalInterval - crashLag - 2*slices.Max(c.slowest[:]) - 6*slowestSync) // what was acknowledged before is stored
	clear(c.slowest[:])
	c.lostAge = append(c.lostAge, 0)
	for w := range c.lives {
		var alive []*life
		for _, l := range c.lives[w] {
			c.check(l, got, killed, must)
			if len(l.now()) > 0 {
				alive = append(alive, l)
			}
		}
		c.lives[w] = alive
		if len(alive) > 0 {
			c.renew(c.node.URL, &person{key: alive[0].id, session: alive[0].id})
		}
	}
	for _, p := range c.tabs {
		if there := got[at{p.topic, p.key}]; there.ref != p.ref {
			c.t.Errorf("%s has ref %q, want %s, as a stream keeps it present", p.key, there.ref, p.ref)
		}
		delete(got, at{p.topic, p.key})
	}
	for where, there := range got {
		c.t.Errorf("%v is there with %+v, and belongs to nobody who should be", where, there)
	}
}

// probeDisk returns how long the slowest fsync has taken.
func (c *crasher) probeDisk(ctx context.Context) (slowest time.Duration) {
	file, err := os.Create(filepath.Join(filepath.Dir(c.dir), "probe"))
	if err != nil {
		c.t.Error(err)
		return 0
	}
	defer file.Close()
	for ctx.Err() == nil {
		began := time.Now()
		if _, err := file.WriteAt([]byte("probe"), 0); err != nil {
			c.t.Error(err)
		}
		if err := file.Sync(); err != nil {
			c.t.Error(err)
		}
		slowest = max(slowest, time.Since(began))
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return slowest
}

// work makes, changes and ends sessions until the node is gone.
func (c *crasher) work(ctx context.Context, w int) {
	for ctx.Err() == nil {
		if len(c.lives[w]) < 10 || rand.IntN(12) == 0 && len(c.lives[w]) < 60 {
			c.serial[w]++
			c.lives[w] = append(c.lives[w], &life{
				id: fmt.Sprintf("session-%d-%08d", w, c.serial[w]), alive: true, steps: []step{{has: held{}}}, refs: map[at]map[int]string{},
			})
		}
		lives := c.lives[w]
		l := lives[rand.IntN(len(lives))]
		if rand.IntN(3) == 0 {
			l = lives[len(lives)-1]
		}
		if !l.alive {
			continue
		}
		if err := c.operate(ctx, w, l); err != nil {
			if ctx.Err() == nil && !isGone(err) {
				c.t.Error(err)
			}
			return // the node is gone
		}
	}
}

func isGone(err error) bool {
	_, ok := errors.AsType[*url.Error](err)
	return ok
}

// operate does one thing with a session, and notes what it has then.
func (c *crasher) operate(ctx context.Context, w int, l *life) error {
	has := maps.Clone(l.now())
	place := slices.Collect(maps.Keys(has))
	method, path, body, want := "", "", "", http.StatusNoContent
	var where at
	c.serial[w]++
	number := c.serial[w]
	switch dice := rand.IntN(10); {
	case len(has) == 0, dice < 3 && len(has) < 4: // track
		where = at{fmt.Sprintf("room:%d", rand.IntN(crashTopics)), l.id}
		if _, tracked := has[where]; tracked {
			return nil
		}
		method, path, want = http.MethodPost, "/v1/topics/"+url.PathEscape(where.topic)+"/presences", http.StatusCreated
		body = fmt.Sprintf(`{"key":%q,"session":%q,"meta":{"n":%d}}`, where.key, l.id, number)
		has[where] = number
	case dice < 6: // update
		where = place[rand.IntN(len(place))]
		method, path, want = http.MethodPut, presenceURL("", where.topic, where.key), http.StatusOK
		body = fmt.Sprintf(`{"session":%q,"meta":{"n":%d}}`, l.id, number)
		has[where] = number
	case dice < 7: // untrack
		gone := place[rand.IntN(len(place))]
		method, path = http.MethodDelete, presenceURL("", gone.topic, gone.key)+"?session="+l.id
		delete(has, gone)
	case dice < 8: // leave
		method, path = http.MethodDelete, "/v1/sessions/"+l.id
		clear(has)
		l.alive = false
	default:
		method, path, want = http.MethodPost, "/v1/sessions/"+l.id+"/heartbeat", http.StatusOK
	}
	l.steps = append(l.steps, step{has: has})
	asked := time.Now()
	status, content, err := c.send(ctx, method, c.node.URL+path, body)
	if err != nil {
		return err
	}
	if status != want {
		return fmt.Errorf("%s %s: %d %s, want %d", method, path, status, content, want)
	}
	l.steps[len(l.steps)-1].acked = time.Now()
	c.slowest[w] = max(c.slowest[w], time.Since(asked))
	if where != (at{}) {
		var p rollcallclient.Presence
		if err := json.Unmarshal(content, &p); err != nil {
			return err
		}
		if l.refs[where] == nil {
			l.refs[where] = map[int]string{}
		}
		l.refs[where][number] = p.Ref
	}
	return nil
}

// there is a presence as a node lists it.
type there struct {
	ref    string
	number int
}

// everybody returns who is in all topics.
func (c *crasher) everybody() map[at]there {
	c.t.Helper()
	all := map[at]there{}
	for i := range crashTopics {
		topic := fmt.Sprintf("room:%d", i)
		status, content, err := c.send(c.ctx, http.MethodGet, c.node.URL+"/v1/topics/"+url.PathEscape(topic)+"/presences", "")
		if err != nil || status != http.StatusOK {
			c.t.Fatalf("list: %d %v", status, err)
		}
		var state map[string]struct {
			Metas []struct {
				Ref string `json:"phx_ref"`
				N   int    `json:"n"`
			}
		}
		if err := json.Unmarshal(content, &state); err != nil {
			c.t.Fatal(err)
		}
		for key, of := range state {
			if len(of.Metas) != 1 {
				c.t.Errorf("%s has %+v, want one device", key, of.Metas)
			}
			all[at{topic, key}] = there{of.Metas[0].Ref, of.Metas[0].N}
		}
	}
	return all
}

// check checks that a session is as one of its operations has left it, not before the last that had to be stored, takes it out of got, and goes on from there.
func (c *crasher) check(l *life, got map[at]there, killed, must time.Time) {
	c.t.Helper()
	has, found := held{}, map[at]there{}
	for i := range crashTopics {
		where := at{fmt.Sprintf("room:%d", i), l.id}
		if p, ok := got[where]; ok {
			has[where], found[where] = p.number, p
			delete(got, where)
		}
	}
	first, last := 0, 0 // of the steps that may be what is there, and of those that were acknowledged
	for i, s := range l.steps {
		if !s.acked.IsZero() && s.acked.Before(must) {
			first = i
		}
		if !s.acked.IsZero() {
			last = i
		}
	}
	is := -1
	for i := len(l.steps) - 1; i >= first && is < 0; i-- {
		if maps.Equal(l.steps[i].has, has) {
			is = i
		}
	}
	if is < 0 {
		c.t.Errorf("%s is there as %v, want it as after one of these, counted from %d: %s", l.id, has, first, l.story(killed))
		return
	}
	for i := is + 1; i <= last; i++ {
		c.lost++
		oldest := &c.lostAge[len(c.lostAge)-1]
		*oldest = max(*oldest, killed.Sub(l.steps[i].acked))
	}
	for where, p := range found {
		if ref := l.refs[where][p.number]; ref != "" && ref != p.ref {
			c.t.Errorf("%v has ref %s, was acknowledged with %s", where, p.ref, ref)
		}
	}
	if len(has) > 0 {
		c.kept++
	}
	l.steps, l.alive = []step{{has: has}}, true
	l.refs = map[at]map[int]string{}
	for where, p := range found {
		l.refs[where] = map[int]string{p.number: p.ref}
	}
}

// story tells what was asked of a session, and how long before the kill it was acknowledged.
func (l *life) story(killed time.Time) (story string) {
	for i, s := range l.steps {
		age := "not acknowledged"
		if !s.acked.IsZero() {
			age = killed.Sub(s.acked).String()
		}
		story += fmt.Sprintf("\n%d: %v (%s)", i, s.has, age)
	}
	return story
}
