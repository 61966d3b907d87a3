package restart

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

// peopleOfRoom is how many there are in a topic, half of them by streams.
const peopleOfRoom = 100

// person is present in one topic under a key of its own.
type person struct {
	topic, key, session string
	ref                 string    // of the one presence, which never changes
	tab                 *follower // whose stream keeps the person present, nil for one who sends heartbeats
}

// crowd is people who use nodes, and followers who watch them.
type crowd struct {
	t    *testing.T
	http *http.Client
	ttl  time.Duration // of those who send heartbeats

	ctx    context.Context // ends with the test, or with stop
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	present   []*person
	followers []*follower

	beats, repeated atomic.Int64 // heartbeats, and requests that had to be sent again
}

func newCrowd(t *testing.T, ttl time.Duration) *crowd {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	c := &crowd{t: t, ttl: ttl, http: &http.Client{Transport: transport}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	t.Cleanup(func() {
		c.stop()
		transport.CloseIdleConnections()
	})
	return c
}

// stop has everybody fall silent.
func (c *crowd) stop() {
	c.cancel()
	c.wg.Wait()
}

// send makes a request and returns its answer. It may be used in any goroutine.
func (c *crowd) send(ctx context.Context, method, url, body string) (status int, content []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	content, err = io.ReadAll(response.Body)
	return response.StatusCode, content, err
}

// insist makes a request, again and again while nobody answers it.
func (c *crowd) insist(ctx context.Context, method, url, body string) (status int, content []byte, err error) {
	for deadline := time.Now().Add(program.Patience); ; {
		status, content, err = c.send(ctx, method, url, body)
		busy := err == nil && (status == http.StatusServiceUnavailable || status == http.StatusBadGateway)
		if err == nil && !busy || ctx.Err() != nil {
			return status, content, err
		}
		if time.Now().After(deadline) {
			return status, content, fmt.Errorf("nobody answers within %v: %d %s %w", program.Patience, status, content, err)
		}
		c.repeated.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(100*time.Millisecond + rand.N(200*time.Millisecond)):
		}
	}
}

func presenceURL(node, topic, key string) string {
	return node + "/v1/topics/" + url.PathEscape(topic) + "/presences/" + url.PathEscape(key)
}

// track makes somebody present, in any goroutine.
func (c *crowd) track(node string, p *person, meta string) error {
	body := fmt.Sprintf(`{"session":%q,"meta":%s}`, p.session, meta)
	status, content, err := c.insist(c.ctx, http.MethodPut, presenceURL(node, p.topic, p.key), body)
	if err != nil || status != http.StatusOK && status != http.StatusCreated {
		return fmt.Errorf("track %s: %d %s %w", p.key, status, content, err)
	}
	var presence rollcallclient.Presence
	if err := json.Unmarshal(content, &presence); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p.ref = presence.Ref
	return nil
}

// fill makes so many people present, half by heartbeats and half by streams, each through the URL that of returns, and waits until all are.
func (c *crowd) fill(people int, of func(i int) string) {
	c.t.Helper()
	queue := make(chan int)
	var joining sync.WaitGroup
	for range 8 {
		joining.Go(func() {
			for i := range queue {
				p := &person{topic: roomOf(i), key: fmt.Sprintf("person-%04d", i), session: fmt.Sprintf("session-of-person-%04d", i)}
				if i%2 == 0 {
					c.sit(of(i), p)
				} else {
					c.open(of(i), p)
				}
			}
		})
	}
	for i := range people {
		queue <- i
	}
	close(queue)
	joining.Wait()
	program.Eventually(c.t, func() bool { return c.streaming() == 0 }, "all streams have made their people present")
}

// streaming tells how many are yet to be made present by their streams.
func (c *crowd) streaming() (missing int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.present {
		if p.ref == "" && p.tab != nil {
			p.ref = p.tab.refOf(p.topic, p.key)
		}
		if p.ref == "" {
			missing++
		}
	}
	return missing
}

func roomOf(i int) string { return fmt.Sprintf("room:%d", i/peopleOfRoom) }

// rooms are the topics in which so many people are.
func rooms(people int) (all []string) {
	for i := 0; i < people; i += peopleOfRoom {
		all = append(all, roomOf(i))
	}
	return all
}

// sit makes somebody present who sends heartbeats.
func (c *crowd) sit(node string, p *person) {
	c.arrive(node, p)
	c.wg.Go(func() { c.beat(node, p) })
}

// arrive makes somebody present, who does no more for it.
func (c *crowd) arrive(node string, p *person) {
	if err := c.track(node, p, "{}"); err != nil {
		c.t.Error(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.present = append(c.present, p)
}

// beat sends heartbeats, as often as the contract advises.
func (c *crowd) beat(node string, p *person) {
	for every := c.ttl / 3; ; {
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(every*9/10 + rand.N(every/10)):
		}
		if !c.renew(node, p) {
			return
		}
	}
}

// renew sends one heartbeat, and tells whether the session is still there.
func (c *crowd) renew(node string, p *person) bool {
	status, content, err := c.insist(c.ctx, http.MethodPost, node+"/v1/sessions/"+p.session+"/heartbeat", "")
	if c.ctx.Err() != nil {
		return false
	}
	if err != nil || status != http.StatusOK {
		c.t.Errorf("%s heartbeat of %s: %d %s %v", time.Now().Format("15:04:05.000"), p.key, status, content, err)
		return false
	}
	c.beats.Add(1)
	return true
}

// open makes somebody present by a stream.
func (c *crowd) open(node string, p *person) {
	query := url.Values{"key": {p.key}, "session": {p.session}}.Encode()
	f := &follower{
		name: p.key, topic: p.topic, path: "/v1/topics/" + url.PathEscape(p.topic) + "/events?" + query,
		choose: func(string) string { return node },
	}
	p.tab = f
	c.mu.Lock()
	c.present = append(c.present, p)
	c.mu.Unlock()
	c.follow(f)
}

// follow lets a follower read until the test ends.
func (c *crowd) follow(f *follower) {
	f.http, f.topics, f.retry = c.http, map[string]refs{}, 2*time.Second
	c.mu.Lock()
	c.followers = append(c.followers, f)
	c.mu.Unlock()
	c.wg.Go(func() { f.run(c.ctx) })
}

// watch has somebody watch at a node, who later reads wherever the balancer says.
func (c *crowd) watch(b *balancer, node string, topics []string) *follower {
	f := watching("the watcher of "+node, topics)
	f.choose = func(last string) string {
		if last == "" {
			return node
		}
		return b.other(last)
	}
	c.follow(f)
	return f
}

// churner is one who comes, changes and goes all the time.
const churner = "churner"

// churn has somebody come, change and go until the returned function is called.
func (c *crowd) churn(node, topic string, n int) (stop func()) {
	ctx, cancel := context.WithCancel(c.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := &person{topic: topic, key: fmt.Sprintf("%s-%d", churner, n), session: fmt.Sprintf("session-of-churner-%d", n)}
		for i := 0; ctx.Err() == nil; i++ {
			switch i % 5 {
			case 4:
				status, content, err := c.insist(ctx, http.MethodDelete, node+"/v1/sessions/"+p.session, "")
				if ctx.Err() == nil && (err != nil || status != http.StatusNoContent) {
					c.t.Errorf("%s: leave: %d %s %v", p.key, status, content, err)
				}
			default:
				if err := c.track(node, p, fmt.Sprintf(`{"i":%d}`, i)); err != nil && c.ctx.Err() == nil {
					c.t.Error(err)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(rand.N(50 * time.Millisecond)):
			}
		}
		_, _, _ = c.insist(c.ctx, http.MethodDelete, node+"/v1/sessions/"+p.session, "")
	}()
	return func() {
		cancel()
		<-done
	}
}

// want is who is to be in each topic.
func (c *crowd) want() map[string]refs {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]refs{}
	for _, p := range c.present {
		if all[p.topic] == nil {
			all[p.topic] = refs{}
		}
		all[p.topic][p.ref] = p.key
	}
	return all
}

// settle waits until all streams are open, all followers see everybody, and every node lists just them.
func (c *crowd) settle(ignore func(key string) bool, nodes ...string) {
	c.t.Helper()
	var lack string
	for deadline := time.Now().Add(program.Patience); ; time.Sleep(20 * time.Millisecond) {
		if lack = c.lack(ignore, nodes); lack == "" {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %v: %.3000s", program.Patience, lack)
		}
	}
}

func (c *crowd) lack(ignore func(key string) bool, nodes []string) string {
	want := c.want()
	for _, f := range c.followers {
		if f.where() == "" {
			return f.name + " has no stream"
		}
		for topic := range want {
			if f.topic != "" && f.topic != topic {
				continue
			}
			if lack := f.lack(topic, want[topic], ignore); lack != "" {
				return topic + ": " + lack
			}
		}
	}
	for _, node := range nodes {
		for topic := range want {
			got, err := c.list(node, topic)
			if err != nil {
				return err.Error()
			}
			if lack := difference(node, got, want[topic], ignore); lack != "" {
				return topic + ": " + lack
			}
		}
	}
	return ""
}

// list returns who is in a topic, as a node says.
func (c *crowd) list(node, topic string) (refs, error) {
	status, content, err := c.send(c.ctx, http.MethodGet, node+"/v1/topics/"+url.PathEscape(topic)+"/presences", "")
	if err != nil {
		return nil, err
	}
	var state metas
	if err := json.NewDecoder(bytes.NewReader(content)).Decode(&state); err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("list %s: %d %.200s %w", topic, status, content, err)
	}
	return state.refs(), nil
}

// begin forgets what was seen until now.
func (c *crowd) begin() time.Time {
	for _, f := range c.followers {
		f.forgetChanges()
	}
	return time.Now()
}

// sawNothing fails the test if any follower has seen one of those come or go who are present all the time, since begin.
func (c *crowd) sawNothing() {
	c.t.Helper()
	stays := map[string]bool{}
	for _, p := range c.present {
		stays[p.key] = true
	}
	told := 0
	for _, f := range c.followers {
		for _, seen := range f.seen(func(key string) bool { return !stays[key] }) {
			if told++; told <= 40 {
				c.t.Errorf("%s has seen %.300v", f.name, seen)
			}
		}
	}
	if told > 40 {
		c.t.Errorf("… and %d changes more", told-40)
	}
}

// outlive waits until every lease has run out that nobody renews, so that whoever is there afterwards is kept by a client.
func (c *crowd) outlive(node string) {
	c.t.Helper()
	clock := &person{topic: c.present[0].topic, key: "clock", session: "session-of-the-clock"}
	if err := c.track(node, clock, "{}"); err != nil {
		c.t.Fatal(err)
	}
	program.Eventually(c.t, func() bool {
		list, err := c.list(node, clock.topic)
		return err == nil && list[clock.ref] == ""
	}, "the end of a lease of %v", c.ttl)
}

// metric returns the value of one of a node's metrics, -1 if it has none of that name.
func (c *crowd) metric(node, name string) int {
	c.t.Helper()
	_, content, err := c.send(c.ctx, http.MethodGet, node+"/metrics", "")
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				c.t.Fatal(err)
			}
			return int(number)
		}
	}
	return -1
}

// gaps returns the times without streams since a moment.
func (c *crowd) gaps(since time.Time) (all []gap) {
	for _, f := range c.followers {
		all = append(all, f.gaps(since)...)
	}
	return all
}

// ended returns how many streams have ended since a moment.
func (c *crowd) ended(since time.Time) (n int) {
	for _, f := range c.followers {
		f.mu.Lock()
		for _, ended := range f.ended {
			if ended.After(since) {
				n++
			}
		}
		f.mu.Unlock()
	}
	return n
}

// nobody is for those who ignore nobody.
func nobody(string) bool { return false }
