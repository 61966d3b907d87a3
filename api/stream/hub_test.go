package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/presence"
)

const lobby = presence.Topic("lobby")

func TestParseID(t *testing.T) {
	for id, want := range map[string]uint64{
		"abcd1234-7": 7, "abcd1234-18446744073709551615": 1<<64 - 1,
		"": 0, "7": 0, "abcd1234-": 0, "abcd1234--7": 0, "abcd1234-7x": 0, "other000-7": 0, "abcd1234-18446744073709551616": 0, "abcd1234-+7": 0,
	} {
		if got := parseID(id, "abcd1234"); got != want {
			t.Errorf("parseID(%q) = %d, want %d", id, got, want)
		}
	}
	if got := parseID(string(appendID(nil, "abcd1234", 42)), "abcd1234"); got != 42 {
		t.Errorf("an id that was made means %d, want 42", got)
	}
}

func TestWindow(t *testing.T) {
	const base = 50 * time.Millisecond
	for _, c := range []struct {
		base               time.Duration
		subscribers, bytes int
		want               time.Duration
	}{
		{base, 1, 300, base},
		{base, 1000, 300, base},
		{base, 10_000, 300, 332 * time.Millisecond},
		{base, 1000, 100_000, 432 * time.Millisecond},
		{base, 100_000, 1000, maxWindow},
		{-1, 100_000, 1000, 0},
	} {
		if got := window(c.base, c.subscribers, c.bytes); got != c.want {
			t.Errorf("window(%v, %d subscribers, %d bytes) = %v, want %v", c.base, c.subscribers, c.bytes, got, c.want)
		}
	}
}

func TestFirstEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tracker := hubFor(t, Config{})
		c := open(h, Request{Topics: []presence.Topic{lobby}})
		defer c.close()
		synctest.Wait()
		if got, want := c.header.Get("Content-Type")+c.header.Get("Cache-Control")+c.header.Get("X-Accel-Buffering"), "text/event-streamno-storeno"; got != want || c.code != http.StatusOK {
			t.Errorf("status %d, headers %q, want 200 and %q", c.code, got, want)
		}
		var retry int
		_, last, _ := strings.Cut(c.received.String(), "\n\n")
		if _, err := fmt.Sscanf(last, "retry: %d\n\n", &retry); err != nil || retry < 1000 || retry > 3000 {
			t.Errorf("after the state comes %q, want a retry of 1 to 3 s", last)
		}
		events, _ := c.take()
		if want := (event{"presence_state", "{}", h.epoch + "-1"}); len(events) != 1 || events[0] != want {
			t.Fatalf("first events = %+v, want %+v", events, want)
		}
		track(t, tracker, lobby, `a "quoted" key`)
		synctest.Wait() // no time passes: the first change goes out at once
		events, _ = c.take()
		if len(events) != 1 || events[0].name != "presence_diff" || !strings.HasPrefix(events[0].data, `{"joins":{"a \"quoted\" key":{"metas":[{"phx_ref":"`) {
			t.Fatalf("then %+v, want the join", events)
		}
	})
}

func TestCoalescing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tracker := hubFor(t, Config{})
		c := open(h, Request{Topics: []presence.Topic{lobby}})
		defer c.close()
		synctest.Wait()
		c.take()
		track(t, tracker, lobby, "first")
		synctest.Wait()
		passing := track(t, tracker, lobby, "passing")
		for i := range 10 {
			track(t, tracker, lobby, presence.Key(fmt.Sprint("user-", i)))
		}
		tracker.Leave(passing)
		time.Sleep(49 * time.Millisecond)
		synctest.Wait()
		if events, _ := c.take(); len(events) != 1 {
			t.Fatalf("within the window came %d events, want the first alone", len(events))
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		events, _ := c.take()
		if len(events) != 1 || strings.Count(events[0].data, "user-") != 10 || strings.Contains(events[0].data, "passing") {
			t.Fatalf("after the window came %+v, want one net diff of ten users", events)
		}
		gone := track(t, tracker, lobby, "ghost")
		tracker.Leave(gone)
		time.Sleep(time.Second)
		synctest.Wait()
		if events, _ := c.take(); len(events) != 0 {
			t.Fatalf("a change that cancelled out was sent: %+v", events)
		}
	})
}

func TestEachChangeByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tracker := hubFor(t, Config{Window: -1})
		c := open(h, Request{Topics: []presence.Topic{lobby}})
		defer c.close()
		synctest.Wait()
		c.take()
		for range 5 {
			tracker.Leave(track(t, tracker, lobby, "ann"))
		}
		synctest.Wait()
		if events, _ := c.take(); len(events) != 10 {
			t.Fatalf("%d events, want each of 10 changes", len(events))
		}
	})
}

// TestReadsOwnWrites: who tracks and then subscribes finds itself in the state although a window is running.
func TestReadsOwnWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tracker := hubFor(t, Config{})
		other := open(h, Request{Topics: []presence.Topic{lobby}})
		defer other.close()
		for i := range 5 {
			key := presence.Key(fmt.Sprint("user-", i))
			track(t, tracker, lobby, key)
			time.Sleep(time.Millisecond)
			c := open(h, Request{Topics: []presence.Topic{lobby}})
			synctest.Wait()
			if events, _ := c.take(); len(events) != 1 || !strings.Contains(events[0].data, string(key)) {
				t.Fatalf("%s tracked and then got %+v, want a state with itself", key, events)
			}
			_ = c.close()
		}
	})
}

func TestStateIsEncodedOnce(t *testing.T) {
	h, tracker := hubFor(t, Config{})
	for i := range 100 {
		track(t, tracker, lobby, presence.Key(fmt.Sprint("user-", i)))
	}
	s, err := h.subscribe([]presence.Topic{lobby}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer h.unsubscribe(s)
	first, second := s.feeds[0].current(), s.feeds[0].current()
	if first != second {
		t.Error("two who come in one version get two frames")
	}
}

func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := hubFor(t, Config{})
		c := open(h, Request{Topics: []presence.Topic{lobby}})
		defer c.close()
		synctest.Wait()
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		if _, comments := c.take(); comments != 240 {
			t.Fatalf("%d comments in an hour of silence, want one every 15 s", comments)
		}
	})
}

func TestClientThatTakesNothingIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tracker := hubFor(t, Config{})
		c := open(h, Request{Topics: []presence.Topic{lobby}})
		synctest.Wait()
		c.stall(true)
		track(t, tracker, lobby, "ann")
		start := time.Now()
		if err := <-c.done; err != nil {
			t.Fatalf("Serve = %v", err)
		}
		if after := time.Since(start); after < 10*time.Second || after > 15*time.Second {
			t.Errorf("cut off after %v, want 10 to 15 s", after)
		}
		if got := h.Stats(); got.CutOff != 1 || got.Streams != 0 {
			t.Errorf("Stats = %+v, want one cut off and no streams", got)
		}
	})
}

// TestSlowClientIsNotCutOff: whoever takes a piece now and then is served.
func TestSlowClientIsNotCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tracker := hubFor(t, Config{})
		for i := range 5000 { // several pieces
			track(t, tracker, lobby, presence.Key(fmt.Sprint("user-", i)))
		}
		c := openOn(h, &conn{header: http.Header{}, pace: 9 * time.Second}, Request{Topics: []presence.Topic{lobby}})
		defer c.close()
		time.Sleep(5 * time.Minute)
		if events, _ := c.take(); len(events) != 1 || h.Stats().CutOff != 0 {
			t.Errorf("after 5 minutes the slow client has %d events and %d were cut off, want its state and none", len(events), h.Stats().CutOff)
		}
	})
}

func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tracker := hubFor(t, Config{})
		c := open(h, Request{Topics: []presence.Topic{lobby}})
		track(t, tracker, lobby, "ann")
		synctest.Wait()
		events, _ := c.take()
		lastID := events[len(events)-1].id
		_ = c.close()
		track(t, tracker, lobby, "bob") // while nobody watches
		time.Sleep(resumeFor / 2)
		c = open(h, Request{Topics: []presence.Topic{lobby}, LastEventID: lastID})
		synctest.Wait()
		events, _ = c.take()
		if len(events) != 1 || events[0].name != "presence_diff" || !strings.Contains(events[0].data, "bob") || h.Stats().Resumed != 1 {
			t.Fatalf("resumed with %+v, want the one diff that was missed", events)
		}
		_ = c.close()
		time.Sleep(resumeFor)
		synctest.Wait()
		if got := h.Stats(); got.Feeds != 0 || got.KeptBytes != 0 {
			t.Fatalf("long after the last watcher: %+v, want no feeds and nothing kept", got)
		}
		c = open(h, Request{Topics: []presence.Topic{lobby}, LastEventID: lastID})
		synctest.Wait()
		if events, _ := c.take(); len(events) != 1 || events[0].name != "presence_state" {
			t.Fatalf("came back too late with %+v, want the state", events)
		}
		_ = c.close()
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := hubFor(t, Config{})
		const n = 1000
		ends := make(chan time.Time, n)
		for range n {
			c := open(h, Request{Topics: []presence.Topic{lobby}})
			go func() {
				<-c.done
				ends <- time.Now()
			}()
		}
		synctest.Wait()
		start := time.Now()
		if err := h.Drain(context.Background(), 4*time.Second); err != nil {
			t.Fatal(err)
		}
		early := 0
		for range n {
			switch after := (<-ends).Sub(start); {
			case after > 4*time.Second:
				t.Fatalf("a stream ended after %v", after)
			case after < 2*time.Second:
				early++
			}
		}
		if early < n/3 || early > n*2/3 {
			t.Errorf("%d of %d ended in the first half, want about half", early, n)
		}
		if err := h.Serve(&conn{header: http.Header{}}, &http.Request{}, Request{Topics: []presence.Topic{lobby}}); !errors.Is(err, ErrDraining) {
			t.Errorf("a new stream: %v, want ErrDraining", err)
		}
	})
}

func TestDrainIsQuickWhenFewWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := hubFor(t, Config{})
		c := open(h, Request{Topics: []presence.Topic{lobby}})
		synctest.Wait()
		start := time.Now()
		if err := h.Drain(context.Background(), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		<-c.done
		if took := time.Since(start); took > 10*time.Millisecond {
			t.Errorf("draining one stream took %v", took)
		}
	})
}

// TestManyTopicsAtOnce has changes and streams of several topics race for real.
func TestManyTopicsAtOnce(t *testing.T) {
	h, tracker := hubFor(t, Config{Window: time.Millisecond, ResumeBytes: 10_000})
	stop := make(chan struct{})
	done := make(chan struct{})
	for i := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				s := track(t, tracker, topics[(i+n)%len(topics)], presence.Key(fmt.Sprint(i)))
				if n%3 > 0 {
					tracker.Leave(s)
				}
			}
		}()
	}
	for range 50 {
		c := open(h, Request{Topics: topics, Wrapped: true})
		deadline := time.Now().Add(10 * time.Second)
		last, events := uint64(0), 0
		for events < 20 {
			if time.Now().After(deadline) {
				t.Fatal("too few events")
			}
			got, _ := c.take()
			for _, e := range got {
				events++
				if e.id == "" {
					continue
				}
				seq := parseID(e.id, h.epoch)
				if seq <= last {
					t.Fatalf("id %d after %d", seq, last)
				}
				last = seq
			}
			if len(got) == 0 {
				time.Sleep(100 * time.Microsecond) // poll
			}
		}
		_ = c.close()
	}
	close(stop)
	for range 4 {
		<-done
	}
}

// TestStateDoesNotHoldBackOtherTopics: a reader that is too far behind in one topic gets the later diffs of another in the same batch,
// since nothing would wake it for them again.
func TestStateDoesNotHoldBackOtherTopics(t *testing.T) {
	h, tracker := hubFor(t, Config{Window: -1})
	s, err := h.subscribe([]presence.Topic{lobby, "attic"}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer h.unsubscribe(s)
	s.nextBatch()
	change := func(topic presence.Topic, f *feed) {
		before := f.head.Load()
		track(t, tracker, topic, "ann")
		for deadline := time.Now().Add(10 * time.Second); f.head.Load() == before; {
			if time.Now().After(deadline) {
				t.Fatalf("the change of %s was not published", topic)
			}
			time.Sleep(time.Millisecond) // poll
		}
	}
	change(lobby, s.feeds[0])
	s.feeds[0].forget(h.seq.Load())
	change("attic", s.feeds[1])
	b := s.nextBatch()
	if len(b.frames) != 2 || b.states != 1 || b.frames[1].topic != "attic" || b.upto != h.seq.Load() {
		t.Fatalf("batch of %d frames, %d states, upto %d, want the lobby's state and the attic's diff, upto %d", len(b.frames), b.states, b.upto, h.seq.Load())
	}
}
