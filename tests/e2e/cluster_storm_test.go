package e2e

import (
	"reflect"
	"sync"
	"testing"

	rollcallclient "rollcall/clients/go"
)

func TestAStormThroughAllNodesEndsAsThroughOne(t *testing.T) {
	t.Parallel()
	c := serveCluster(t, 3, "--default-ttl=10m") // nobody expires, however long it takes
	lobby := watchAt(c.nodes, "room:lobby")
	storm := func(n *node) {
		var clients sync.WaitGroup
		for client := range 4 {
			clients.Go(func() { n.storm(client) })
		}
		clients.Wait()
	}
	storm(c.balanced())
	got := metas(c.agree("room:lobby", lobby))
	single := serve(t, "--default-ttl=10m")
	storm(single)
	if want := metas(single.list("room:lobby")); !reflect.DeepEqual(got, want) || len(want) == 0 {
		t.Errorf("at the end there are %v, want %v", got, want)
	}
}

// metas counts the equal metas of each key, whatever their refs.
func metas(state rollcallclient.PresenceState) map[string]map[any]int {
	counts := map[string]map[any]int{}
	for key, of := range state {
		counts[key] = map[any]int{}
		for _, meta := range of.Metas {
			counts[key][meta.AdditionalProperties["i"]]++
		}
	}
	return counts
}
