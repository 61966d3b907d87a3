package replication

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/replication/protocol"
)

const (
	simTTL    = 20 * time.Second
	simLinger = 2 * time.Second
)

var simTopics = []presence.Topic{"lobby", "attic"}

// simShards are the shards of simTopics.
var simShards = func() (shards []int) {
	for _, topic := range simTopics {
		if shard := presence.ShardOf(topic); !slices.Contains(shards, shard) {
			shards = append(shards, shard)
		}
	}
	return shards
}()

// world is a cluster in which every message is an object that may be lost, doubled, delayed and reordered. Nothing in it runs by itself but the trackers' sweepers, on
// a fake clock.
type world struct {
	asking  sync.Mutex
	nodes   map[string]*simNode
	bag     []message
	cut     map[[2]string]bool // directed
	shards  []int              // that the topics are in
	lossy   bool               // messages get lost, networks are cut and nodes crash
	faults  int                // how often something was lost
	clients []*client
	names   int
	ended   map[presence.Ref]bool // refs whose leave somebody may see
}

type simNode struct {
	*Replicator
	id       string
	world    *world
	watchers map[presence.Topic]*simWatcher
}

type simWatcher struct {
	sub   *presence.Subscription
	state map[presence.Ref]string
}

// message is on its way.
type message struct {
	from, to string
	deliver  func(*simNode)
}

// client is a person with a device, who behaves as the clients do: what was forgotten is tracked again.
type client struct {
	id      presence.SessionID
	key     presence.Key
	alive   bool
	wanted  map[presence.Topic]string // metas
	maybe   map[presence.Topic]bool   // untracked while the network was broken, or given up by its stream: may be there for a while, or come back
	dirty   map[presence.Topic]bool   // not shown by the node that was talked to last: the client tracks it again when it can
	binding *presence.Binding
	at      *simNode // of the binding
	renewed time.Time
	refs    map[presence.Topic]presence.Ref
}

func newWorld(t *rapid.T, nodes int) *world {
	w := &world{shards: simShards, nodes: map[string]*simNode{}, cut: map[[2]string]bool{}, ended: map[presence.Ref]bool{}}
	for range nodes {
		w.names++
		w.start(t, fmt.Sprintf("n%d", w.names), 1)
	}
	for i := range rapid.IntRange(1, 5).Draw(t, "clients") {
		w.clients = append(w.clients, &client{
			id: presence.SessionID(fmt.Sprintf("session-of-client-%d", i)), key: presence.Key(fmt.Sprintf("k%d", i%3)), alive: true,
			wanted: map[presence.Topic]string{}, maybe: map[presence.Topic]bool{}, dirty: map[presence.Topic]bool{}, refs: map[presence.Topic]presence.Ref{},
		})
	}
	w.tellMembers()
	w.quieten() // everybody has heard of everybody
	return w
}

func (w *world) start(t *rapid.T, id string, incarnation uint64) *simNode {
	tracker, err := presence.Open(presence.Config{Replica: crdt.Replica{Name: id, Incarnation: incarnation}, DefaultTTL: simTTL})
	if err != nil {
		t.Fatal(err)
	}
	n := &simNode{id: id, world: w, watchers: map[presence.Topic]*simWatcher{}}
	config := Config{Tracker: tracker, DownAfter: 10 * time.Second, ForgetAfter: 60 * time.Second, Logger: slog.New(slog.DiscardHandler)}
	config.link = &simLink{world: w, from: id}
	config.setDefaults()
	n.Replicator = &Replicator{config: config, engine: newEngine(config), synced: make(chan struct{})}
	n.rng = rand.New(rand.NewPCG(1, 2)) // whom to talk to is drawn by the test
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	n.batches = newBatches(n.Replicator)
	tracker.RecordChanges(func() {})
	for _, topic := range simTopics {
		n.watchers[topic] = &simWatcher{sub: tracker.Subscribe(topic, presence.Each, func() {}), state: map[presence.Ref]string{}}
	}
	w.nodes[id] = n
	return n
}

func (w *world) stop(id string) {
	n := w.nodes[id]
	n.Close()
	n.tracker.Close()
	delete(w.nodes, id)
	w.bag = slices.DeleteFunc(w.bag, func(m message) bool { return m.to == id })
	for _, c := range w.clients {
		if c.at == n {
			c.at, c.binding = nil, nil
		}
		for topic := range c.wanted {
			c.dirty[topic] = true // perhaps
		}
	}
}

func (w *world) ids() []string { return slices.Sorted(maps.Keys(w.nodes)) }

func (w *world) tellMembers() {
	members := map[string]string{}
	for _, id := range w.ids() {
		members[id] = id
	}
	for _, id := range w.ids() {
		w.nodes[id].setMembers(members)
	}
}

func (w *world) node(t *rapid.T, label string) *simNode {
	return w.nodes[rapid.SampledFrom(w.ids()).Draw(t, label)]
}

func (w *world) open(from, to string) bool { return !w.cut[[2]string{from, to}] && w.nodes[to] != nil }

// flush puts what changed on a node on its way to all others.
func (w *world) flush(n *simNode) {
	for _, part := range n.tracker.TakeChanges() {
		for _, to := range w.ids() {
			if to != n.id {
				w.bag = append(w.bag, message{n.id, to, func(n *simNode) { n.merge(part) }})
			}
		}
	}
}

// exchange puts a question on its way. Its answer goes back part by part, and what the other lacks follows.
func (w *world) exchange(from, to string) {
	ask := w.digests(w.nodes[from])
	w.bag = append(w.bag, message{from, to, func(n *simNode) {
		n.receive(ask.Beats)
		answer := w.digests(n)
		w.bag = append(w.bag, message{to, from, func(n *simNode) {
			n.receive(answer.Beats)
			w.send(n, to, answer)
		}})
		w.send(n, from, ask)
	}})
}

// digests is what a node says when it asks, of the shards that anybody uses.
func (w *world) digests(n *simNode) Digests {
	d := n.greeting()
	for _, shard := range w.shards {
		d.Shards = append(d.Shards, n.tracker.Digest(shard))
	}
	return d
}

// send puts a repair on its way. It is one stream: what comes out of order was cut off.
func (w *world) send(n *simNode, to string, theirs Digests) {
	sent, arrived := 0, 0
	for i, digest := range theirs.Shards {
		shard := w.shards[i]
		for delta := range n.tracker.Repair(shard, digest).Parts(2) {
			part, number := Part{Shard: shard, Delta: delta}, sent
			w.bag = append(w.bag, message{n.id, to, func(n *simNode) {
				if number <= arrived {
					arrived = max(arrived, number+1)
					n.merge(part)
				}
			}})
			sent++
		}
	}
}

// deliver brings the i-th message, if the network lets it pass.
func (w *world) deliver(i int, again bool) {
	m := w.bag[i]
	if !again {
		w.bag = slices.Delete(w.bag, i, i+1)
	}
	if w.open(m.from, m.to) {
		m.deliver(w.nodes[m.to])
	} else {
		w.faults++
	}
}

// quieten lets everybody talk to everybody until nobody has anything to say.
func (w *world) quieten() { w.talk(len(w.nodes)) }

// talk lets an interval pass in which everybody talks to a number of others, until these have nothing to say.
func (w *world) talk(others int) {
	ids := w.ids()
	for i, id := range ids {
		n := w.nodes[id]
		n.beat()
		w.flush(n)
		for distance := 1; distance <= min(others, len(ids)-1); distance++ {
			w.exchange(id, ids[(i+distance)%len(ids)])
		}
	}
	for len(w.bag) > 0 {
		w.deliver(0, false)
	}
	for _, id := range w.ids() {
		n := w.nodes[id]
		if away := n.tracker.Away(); len(away) > 0 {
			_, _ = n.Heartbeats(n.ctx, away)
			synctest.Wait()
		}
	}
}

// beat lets an interval of the node pass.
func (n *simNode) beat() {
	for _, id := range n.tick(protocol.Status{Changes: n.tracker.Known(n.self)}) {
		var err error
		if !n.world.open(n.id, id) || !n.world.open(id, n.id) {
			err = errCut
		}
		n.contact(id, err)
	}
}

// simLink brings operations on sessions at once, where the network lets them pass.
type simLink struct {
	world *world
	from  string
}

var errCut = errors.New("the network is cut")

func (l *simLink) ops(_ context.Context, addr string, ops Ops) ([]OpResult, error) {
	l.world.asking.Lock() // several nodes may be asked at once
	defer l.world.asking.Unlock()
	if !l.world.open(l.from, addr) {
		return nil, errCut
	}
	var results []OpResult
	for _, op := range ops.Ops {
		results = append(results, l.world.nodes[addr].doOp(ops.From, op))
	}
	if !l.world.open(addr, l.from) {
		l.world.faults++
		return nil, errCut // done, but nobody knows
	}
	return results, nil
}

func (l *simLink) exchange(context.Context, string, Digests, func(Digests), func(Part)) error {
	return errCut
}
func (l *simLink) repair(context.Context, string, Digests, iter.Seq[Part]) error { return errCut }
func (l *simLink) push(context.Context, string, []byte) error                    { return errCut }

// act lets a client do something at a node. What it is told is checked against what may be.
func (w *world) act(t *rapid.T, c *client, n *simNode) {
	ctx := context.Background()
	time.Sleep(2 * time.Millisecond) // what one client does, it does one after the other
	defer w.lookAtOneself(c, n)
	defer func() {
		synctest.Wait()
		homes := ""
		for _, id := range w.ids() {
			homes += fmt.Sprintf(" %s:%+v", id, w.nodes[id].tracker.Locate(c.id))
		}
		t.Logf("%s lives at%s", c.id, homes)
	}()
	topic := rapid.SampledFrom(simTopics).Draw(t, "topic")
	switch action := rapid.SampledFrom([]string{"put", "put", "put", "heartbeat", "untrack", "leave", "attach", "attach", "detach"}).Draw(t, "action"); action {
	case "put":
		w.put(t, c, n, topic, rapid.SampledFrom([]string{`{"v":1}`, `{"v":2}`}).Draw(t, "meta"))
	case "heartbeat":
		w.heartbeat(t, c, n)
	case "untrack":
		if err := n.Untrack(ctx, topic, c.key, c.id); err != nil {
			t.Fatalf("untrack: %v", err)
		}
		c.maybe[topic] = w.lossy // who does not hear of it may bring it back
		w.over(c, topic)
	case "leave":
		if err := n.Leave(ctx, c.id); err != nil {
			t.Fatalf("leave: %v", err)
		}
		w.detach(c)
		for _, topic := range simTopics {
			c.maybe[topic] = w.lossy
			w.over(c, topic)
		}
	case "attach":
		w.detach(c)
		binding, err := n.Attach(ctx, presence.AttachRequest{Session: c.id, Key: c.key, Topics: []presence.Topic{topic}, Linger: simLinger})
		if err != nil {
			t.Fatalf("attach: %v", err)
		}
		c.binding, c.at, c.renewed = binding, n, time.Now()
		if _, ok := c.wanted[topic]; !ok {
			c.wanted[topic] = ""
		}
		delete(c.maybe, topic)
		w.note(c, n, topic)
		// what earlier streams tracked and this one does not hold goes after the linger
		for other := range c.wanted {
			if other != topic {
				c.maybe[other] = true
				w.over(c, other)
			}
		}
	case "detach":
		w.detach(c)
	}
}

// over notes that a presence is no longer wanted, and may be seen to leave.
func (w *world) over(c *client, topic presence.Topic) {
	if ref, ok := c.refs[topic]; ok {
		w.ended[ref] = true
	}
	delete(c.wanted, topic)
}

func (w *world) detach(c *client) {
	if c.binding != nil {
		c.binding.Close()
		c.renewed = time.Now().Add(simLinger - simTTL) // it has as long as it lingers
		c.binding, c.at = nil, nil
	}
}

func (w *world) put(t *rapid.T, c *client, n *simNode, topic presence.Topic, meta string) {
	defer synctest.Wait() // for the questions whose answers nobody needed
	tracked, created, err := n.Update(context.Background(), topic, c.key, c.id, presence.Meta(meta))
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	if old, ok := c.refs[topic]; ok && old != tracked.Ref {
		w.ended[old] = true
	}
	c.renewed, c.refs[topic] = time.Now(), tracked.Ref
	if c.maybe[topic] && !created {
		return // its stream has given it up, and a new meta does not change that
	}
	c.wanted[topic] = meta
	delete(c.maybe, topic)
	delete(c.dirty, topic)
}

// lookAtOneself lets a client see whether the node that it talks to shows it, which is how it learns that a node has died that had told nobody yet.
func (w *world) lookAtOneself(c *client, n *simNode) {
	for topic := range c.wanted {
		c.dirty[topic] = !slices.ContainsFunc(n.tracker.Get(topic, c.key), func(p *presence.Presence) bool { return p.Session == c.id })
	}
}

// note finds out the ref under which a client is present at the node that it talks to.
func (w *world) note(c *client, n *simNode, topic presence.Topic) {
	for _, p := range n.tracker.Get(topic, c.key) {
		if p.Session == c.id {
			if old, ok := c.refs[topic]; ok && old != p.Ref {
				w.ended[old] = true
			}
			c.refs[topic] = p.Ref
			c.wanted[topic] = string(p.Meta) // its own, if it was there
		}
	}
}

// heartbeat renews a client's lease, or tracks again what was forgotten, which must have had a reason.
func (w *world) heartbeat(t *rapid.T, c *client, n *simNode) {
	_, err := n.Heartbeat(context.Background(), c.id)
	synctest.Wait()
	switch {
	case err == nil:
		if c.binding == nil {
			c.renewed = time.Now()
		}
	case errors.Is(err, presence.ErrUnavailable) && w.lossy: // somebody did not answer: the client tries again later
	case !errors.Is(err, presence.ErrUnknownSession):
		t.Fatalf("heartbeat: %v", err)
	case len(c.wanted) > 0 && w.faults == 0 && (c.binding != nil || time.Since(c.renewed) < simTTL):
		for _, id := range w.ids() {
			t.Logf("%s locates it at %v", id, w.nodes[id].tracker.Locate(c.id))
		}
		t.Fatalf("client %s is unknown at %s, although its lease has %v left and nothing was ever lost", c.id, n.id, simTTL-time.Since(c.renewed))
	default:
		for topic, meta := range c.wanted {
			w.put(t, c, n, topic, meta)
		}
	}
}

// look lets the watchers apply their diffs.
func (w *world) look(t *rapid.T, faultless bool) {
	for _, id := range w.ids() {
		for _, topic := range simTopics {
			watcher := w.nodes[id].watchers[topic]
			for diff := watcher.sub.Take(); !diff.Empty(); diff = watcher.sub.Take() {
				for _, member := range diff.Leaves {
					for _, p := range member.Metas {
						if _, ok := watcher.state[p.Ref]; !ok {
							t.Fatalf("%s: %s leaves %s, and was not there", id, p.Ref, topic)
						}
						delete(watcher.state, p.Ref)
						if faultless && !w.ended[p.Ref] {
							t.Fatalf("%s: the watcher of %s saw %s of %s leave, which nobody asked for", id, topic, p.Ref, p.Key)
						}
					}
				}
				for _, member := range diff.Joins {
					for _, p := range member.Metas {
						if _, ok := watcher.state[p.Ref]; ok {
							t.Fatalf("%s: %s joins %s twice", id, p.Ref, topic)
						}
						watcher.state[p.Ref] = string(p.Key) + string(p.Meta)
					}
				}
			}
		}
	}
}

// settle heals everything, and lets time pass until whatever was uncertain is decided. Who is alive keeps being so.
func (w *world) settle(t *rapid.T) {
	clear(w.cut)
	w.tellMembers()
	for round := range 20 {
		for i, c := range w.clients {
			if !c.alive {
				continue
			}
			n := w.nodes[w.ids()[(i+round)%len(w.nodes)]]
			w.heartbeat(t, c, n)
			if round == 5 && w.lossy {
				w.lookAtOneself(c, n)
			}
			for topic, meta := range c.wanted {
				if c.dirty[topic] && round > 1 {
					w.put(t, c, n, topic, meta)
				}
			}
		}
		w.talk(1) // what one lacks comes through others
		time.Sleep(2 * time.Second)
		synctest.Wait()
	}
	w.quieten()
	w.quieten()
}

// check compares all nodes with one another and with what the clients want.
func (w *world) check(t *rapid.T) {
	w.look(t, false)
	wanted, maybe := map[string]bool{}, map[string]bool{}
	for _, c := range w.clients {
		for _, topic := range simTopics {
			meta, ok := c.wanted[topic]
			if w.faults > 0 {
				meta = "" // the last one that it wrote to one side of a broken network need not be the last that it wrote
			}
			if name := fmt.Sprintf("%s %s %s ", topic, c.key, c.id); ok && c.alive {
				wanted[name+meta] = true
			} else if c.maybe[topic] && c.alive {
				maybe[name] = true
			}
		}
	}
	first := w.nodes[w.ids()[0]]
	for _, id := range w.ids() {
		n := w.nodes[id]
		refs := map[presence.Ref]string{}
		for _, topic := range simTopics {
			members, _, _ := n.tracker.Page(topic, "", 1000)
			for _, m := range members {
				for _, p := range m.Metas {
					refs[p.Ref] = string(p.Key) + string(p.Meta)
					name := fmt.Sprintf("%s %s %s ", topic, p.Key, p.Session)
					if !wanted[name+string(p.Meta)] && !wanted[name] && !maybe[name] {
						t.Fatalf("%s shows %q with %s, a ghost; wanted are %v", id, name, p.Meta, slices.Sorted(maps.Keys(wanted)))
					}
				}
			}
		}
		for name := range wanted {
			if !slices.ContainsFunc(w.shown(n), func(s string) bool { return strings.HasPrefix(s, name) }) {
				t.Fatalf("%s does not show %q, which is live: it shows %v", id, name, w.shown(n))
			}
		}
		if got, want := w.shown(n), w.shown(first); !slices.Equal(got, want) {
			t.Fatalf("%s shows %v, %s shows %v", id, got, first.id, want)
		}
		seen := map[presence.Ref]string{}
		for _, watcher := range n.watchers {
			maps.Copy(seen, watcher.state)
		}
		if !maps.Equal(seen, refs) {
			t.Fatalf("%s: what the watchers have applied is %v, the lists say %v", id, seen, refs)
		}
		for shard := range presence.Shards {
			d, want := n.tracker.Digest(shard), first.tracker.Digest(shard)
			if !maps.Equal(d.Prints, want.Prints) {
				t.Fatalf("shard %d: %s holds %v, %s holds %v", shard, id, d.Prints, first.id, want.Prints)
			}
			for _, id := range w.ids() {
				replica := w.nodes[id].self
				if gaps := len(d.Seen.Ranges(replica)); gaps > 1 {
					t.Fatalf("shard %d: the history of %s is not compact: %v", shard, id, d.Seen.Ranges(replica))
				}
			}
		}
	}
}

func (w *world) shown(n *simNode) []string {
	var shown []string
	for _, topic := range simTopics {
		members, _, _ := n.tracker.Page(topic, "", 1000)
		for _, m := range members {
			for _, p := range m.Metas {
				shown = append(shown, fmt.Sprintf("%s %s %s %s", topic, p.Key, p.Session, p.Meta))
			}
		}
	}
	slices.Sort(shown)
	return shown
}

func (w *world) close() {
	for _, id := range w.ids() {
		w.stop(id)
	}
}

// inBubble runs one check on a fake clock of its own. Rapid itself stays outside, as it takes its seeds and limits from the clock.
func inBubble(t *testing.T, check *rapid.T, property func(*rapid.T)) {
	var failure any
	synctest.Test(t, func(*testing.T) {
		defer func() { failure = recover() }()
		property(check)
	})
	// A panic is how rapid ends a check. Which of them are alike it tells by where they come from, and running out of dice is no failure.
	if fmt.Sprintf("%T", failure) == "rapid.invalidData" {
		panic(failure)
	}
	if failure != nil {
		panic(failure)
	}
}

var simSteps = flag.Int("sim.steps", 60, "the most steps of a simulated history")

// TestClusterConverges is a simulation in which everything goes wrong.
func TestClusterConverges(t *testing.T) {
	rapid.Check(t, func(check *rapid.T) {
		inBubble(t, check, func(t *rapid.T) {
			w := newWorld(t, rapid.IntRange(3, 7).Draw(t, "nodes"))
			defer w.close()
			w.lossy = true
			for range rapid.IntRange(1, *simSteps).Draw(t, "steps") {
				w.step(t, rapid.SampledFrom([]string{
					"act", "act", "act", "act", "flush", "flush", "deliver", "deliver", "deliver", "again", "lose", "exchange", "exchange", "tick", "sleep",
					"cut", "cut one way", "heal", "crash", "replace", "vanish",
				}).Draw(t, "step"))
				w.look(t, false)
			}
			w.settle(t)
			w.check(t)
		})
	})
}

// TestNobodySeesThatSessionsMove is a simulation in which messages are late, double and out of order, and clients talk to another node each time. No watcher sees anybody leave
// who did not.
func TestNobodySeesThatSessionsMove(t *testing.T) {
	rapid.Check(t, func(check *rapid.T) {
		inBubble(t, check, func(t *rapid.T) {
			w := newWorld(t, rapid.IntRange(2, 5).Draw(t, "nodes"))
			defer w.close()
			for range rapid.IntRange(1, *simSteps).Draw(t, "steps") {
				w.step(t, rapid.SampledFrom([]string{"act", "act", "act", "flush", "deliver", "deliver", "deliver", "again", "exchange"}).Draw(t, "step"))
				w.look(t, true)
			}
			w.quieten()
			w.look(t, true)
			w.settle(t)
			w.check(t)
		})
	})
}

func (w *world) step(t *rapid.T, step string) {
	switch step {
	case "act":
		c := w.clients[rapid.IntRange(0, len(w.clients)-1).Draw(t, "client")]
		if c.alive {
			w.act(t, c, w.node(t, "node"))
		}
	case "flush":
		w.flush(w.node(t, "node"))
	case "deliver", "again", "lose":
		if len(w.bag) == 0 {
			return
		}
		i := rapid.IntRange(0, len(w.bag)-1).Draw(t, "message")
		if step == "lose" {
			w.bag = slices.Delete(w.bag, i, i+1)
			w.faults++
			return
		}
		w.deliver(i, step == "again")
	case "exchange":
		from, to := w.node(t, "from"), w.node(t, "to")
		if from != to {
			w.exchange(from.id, to.id)
		}
	case "tick":
		w.node(t, "node").beat()
	case "sleep":
		time.Sleep(time.Duration(rapid.IntRange(1, 30_000).Draw(t, "ms")) * time.Millisecond)
		synctest.Wait()
	case "cut", "cut one way":
		a, b := w.node(t, "a"), w.node(t, "b")
		w.cut[[2]string{a.id, b.id}] = true
		if step == "cut" {
			w.cut[[2]string{b.id, a.id}] = true
		}
		w.faults++
	case "heal":
		clear(w.cut)
	case "crash": // and start again at once, with the same disk
		n := w.node(t, "node")
		w.stop(n.id)
		w.start(t, n.id, n.self.Incarnation+1)
		w.tellMembers()
		w.faults++
	case "replace": // with an empty disk
		n := w.node(t, "node")
		w.stop(n.id)
		w.names++
		w.start(t, fmt.Sprintf("n%d", w.names), 1)
		w.tellMembers()
		w.faults++
	case "vanish": // a client whose battery is empty
		c := w.clients[rapid.IntRange(0, len(w.clients)-1).Draw(t, "client")]
		c.alive = false
		w.detach(c)
	}
}
