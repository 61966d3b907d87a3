package replication

import (
	"bytes"
	"context"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"rollcall/presence"
	"rollcall/presence/crdt"
)

// slowLink is a link on which an exchange is answered at once and then takes until it is let go.
type slowLink struct {
	asks chan Digests
	end  chan struct{}
}

func (l *slowLink) exchange(_ context.Context, _ string, ask Digests, begun func(Digests), _ func(Part)) error {
	begun(Digests{From: crdt.Replica{Name: "b", Incarnation: 1}})
	l.asks <- ask
	<-l.end
	return nil
}

func (l *slowLink) repair(context.Context, string, Digests, iter.Seq[Part]) error { return nil }
func (l *slowLink) push(context.Context, string, []byte) error                    { return nil }
func (l *slowLink) ops(context.Context, string, Ops) ([]OpResult, error)          { return nil, io.EOF }

func TestANodeLetsOneOtherAtATimeBringWhatItLacks(t *testing.T) {
	tracker, err := presence.Open(presence.Config{Replica: crdt.Replica{Name: "a", Incarnation: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer tracker.Close()
	link := &slowLink{asks: make(chan Digests), end: make(chan struct{})}
	config := Config{Tracker: tracker, link: link}
	config.setDefaults()
	r := &Replicator{config: config, engine: newEngine(config), synced: make(chan struct{})}
	r.SetMembers(map[string]string{"a": "", "b": "b:1", "c": "c:1"})

	var exchanges sync.WaitGroup
	for _, ask := range []struct {
		of   string
		want int
	}{{"b", presence.Shards}, {"c", 0}} {
		exchanges.Go(func() { _ = r.exchangeOnce(t.Context(), ask.of) })
		if got := <-link.asks; len(got.Shards) != ask.want {
			t.Errorf("%s is asked for %d shards, want %d", ask.of, len(got.Shards), ask.want)
		}
	}
	if answer := answerTo(t, r, "c"); len(answer.Shards) != 0 {
		t.Errorf("a node that asks meanwhile is asked for %d shards", len(answer.Shards))
	}
	close(link.end)
	exchanges.Wait()
	if answer := answerTo(t, r, "c"); len(answer.Shards) != presence.Shards {
		t.Errorf("afterwards %d shards are asked for, want %d", len(answer.Shards), presence.Shards)
	}
}

// answerTo returns what r says to a node that asks it.
func answerTo(t *testing.T, r *Replicator, node string) Digests {
	t.Helper()
	message, err := marshalDigests(Digests{From: crdt.Replica{Name: node, Incarnation: 1}})
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	r.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, pathExchange, bytes.NewReader(message)))
	answer, _, err := readStream(recorder.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}
