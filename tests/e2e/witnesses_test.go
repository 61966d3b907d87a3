package e2e

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

// witnesses are watchers of one topic, each at another node, who must all see the same.
type witnesses []*watcher

// watchAt watches a topic at each of these nodes.
func watchAt(nodes []*node, topic string) (all witnesses) {
	for _, n := range nodes {
		n.t.Helper()
		w := n.watch("/v1/topics/" + topic + "/events")
		w.nextState()
		all = append(all, w)
	}
	return all
}

func (all witnesses) t() *testing.T { return all[0].t }

// see waits until each has one event more, and checks that it is a diff with just these joins and leaves: the refs of each key.
func (all witnesses) see(joins, leaves map[string][]string) {
	all.t().Helper()
	for i, w := range all {
		diff := w.nextDiff()
		if joined, left := refs(diff.Joins), refs(diff.Leaves); !reflect.DeepEqual(joined, joins) || !reflect.DeepEqual(left, leaves) {
			w.t.Fatalf("witness %d sees that %v join and %v leave, want %v and %v", i, joined, left, joins, leaves)
		}
	}
}

// seeJoin is see for one who comes.
func (all witnesses) seeJoin(p rollcallclient.Presence) {
	all.t().Helper()
	all.see(only(p.Key, p.Ref), only())
}

// seeLeave is see for one who goes.
func (all witnesses) seeLeave(p rollcallclient.Presence) {
	all.t().Helper()
	all.see(only(), only(p.Key, p.Ref))
}

// seeUpdate is see for one who has another meta.
func (all witnesses) seeUpdate(was, is rollcallclient.Presence) {
	all.t().Helper()
	all.see(only(is.Key, is.Ref), only(was.Key, was.Ref))
}

// only is one key with its refs, or nobody.
func only(keyAndRefs ...string) map[string][]string {
	if len(keyAndRefs) == 0 {
		return map[string][]string{}
	}
	return map[string][]string{keyAndRefs[0]: keyAndRefs[1:]}
}

// refs are those of each key, oldest first.
func refs(state rollcallclient.PresenceState) map[string][]string {
	all := map[string][]string{}
	for key, metas := range state {
		for _, meta := range metas.Metas {
			all[key] = append(all[key], meta.PhxRef)
		}
	}
	return all
}

// agree waits until what each has made of its stream, and the lists of all nodes that run, are the same, and returns it.
func (c *cluster) agree(topic string, all witnesses) rollcallclient.PresenceState {
	c.t.Helper()
	var states []rollcallclient.PresenceState
	defer func() {
		if c.t.Failed() {
			c.t.Logf("what the witnesses have made of their streams, and the lists: %s", object(c.t, states))
		}
	}()
	program.Eventually(c.t, func() bool {
		states = nil
		for _, w := range all {
			w.takeAll()
			states = append(states, inOrder(w.state))
		}
		for _, n := range c.nodes {
			if n.Running() {
				states = append(states, n.list(topic))
			}
		}
		return !slices.ContainsFunc(states, func(state rollcallclient.PresenceState) bool { return !reflect.DeepEqual(state, states[0]) })
	}, "the same list of %s everywhere", topic)
	return states[0]
}

// inOrder is a state with the metas of each key oldest first, as lists have them. In a stream they are as they came: from two nodes at the same time, the newer one may be first.
func inOrder(state rollcallclient.PresenceState) rollcallclient.PresenceState {
	ordered := rollcallclient.PresenceState{}
	for key, of := range state {
		of.Metas = slices.SortedFunc(slices.Values(of.Metas), func(a, b rollcallclient.TrackedMeta) int { return strings.Compare(a.PhxRef, b.PhxRef) })
		ordered[key] = of
	}
	return ordered
}

// takeAll takes the events that are there.
func (w *watcher) takeAll() {
	w.t.Helper()
	for {
		select {
		case e, open := <-w.events:
			if !open {
				return
			}
			w.take(e)
		default:
			return
		}
	}
}
