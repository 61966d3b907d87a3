package replication

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/replication/protocol"
)

// What is generated here is whatever a node may have to say.

var (
	genReplica = rapid.Custom(func(t *rapid.T) crdt.Replica {
		return crdt.Replica{Name: rapid.SampledFrom([]string{"a", "b", "ördög", strings.Repeat("n", maxNodeID)}).Draw(t, "node"), Incarnation: rapid.Uint64Range(1, 3).Draw(t, "incarnation")}
	})
	genCounter = rapid.OneOf(rapid.Uint64Range(1, 20), rapid.Uint64Range(1, maxCounter))
	genDot     = rapid.Custom(func(t *rapid.T) crdt.Dot {
		return crdt.Dot{Replica: genReplica.Draw(t, "replica"), Counter: genCounter.Draw(t, "counter")}
	})
	genContext = rapid.Custom(func(t *rapid.T) crdt.Context {
		var c crdt.Context
		for range rapid.IntRange(0, 12).Draw(t, "ranges") {
			dot := genDot.Draw(t, "from")
			c.AddRange(dot.Replica, crdt.Range{From: dot.Counter, To: min(dot.Counter+rapid.Uint64Range(0, 5).Draw(t, "more"), maxCounter)})
		}
		return c
	})
	genName    = rapid.OneOf(rapid.SampledFrom([]string{"lobby", "ann", `"\`, strings.Repeat("x", 255), "топик"}), rapid.StringMatching(`[a-z:]{1,20}`))
	genSession = rapid.Custom(func(t *rapid.T) presence.SessionID {
		return presence.SessionID(rapid.StringMatching(`[A-Za-z0-9_-]{16,64}`).Draw(t, "session"))
	})
	genRef = rapid.Custom(func(t *rapid.T) presence.Ref {
		return presence.Ref(rapid.StringMatching(`[A-Za-z0-9_-]{16}`).Draw(t, "ref"))
	})
	genMeta  = rapid.SampledFrom([]string{`{}`, `{"name":"Ann"}`, `{"a":{"b":[1,2,"ü\u0000"]}}`, `{"pad":"` + strings.Repeat("y", 4000) + `"}`})
	genTime  = rapid.Map(rapid.Int64Range(0, 4_000_000), func(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond })
	genEntry = rapid.Custom(func(t *rapid.T) *presence.Entry {
		p := &presence.Presence{
			Topic: presence.Topic(genName.Draw(t, "topic")), Key: presence.Key(genName.Draw(t, "key")), Session: genSession.Draw(t, "session"),
			Ref: genRef.Draw(t, "ref"), Meta: presence.Meta(genMeta.Draw(t, "meta")),
		}
		if rapid.Bool().Draw(t, "updated") {
			p.PrevRef = genRef.Draw(t, "prev")
		}
		return presence.NewEntry(p, genTime.Draw(t, "ttl"), rapid.Uint64().Draw(t, "claim"), rapid.Bool().Draw(t, "by stream"))
	})
	genPart = rapid.Custom(func(t *rapid.T) Part {
		part := Part{Shard: rapid.IntRange(0, presence.Shards-1).Draw(t, "shard")}
		part.Delta = presence.Delta{Seen: genContext.Draw(t, "seen"), Live: genContext.Draw(t, "live"), Applied: genContext.Draw(t, "applied")}
		dots := rapid.SliceOfNDistinct(genDot, 0, 8, rapid.ID).Draw(t, "dots")
		slices.SortFunc(dots, crdt.Dot.Compare)
		for _, dot := range dots {
			part.Delta.Seen.Add(dot)
			part.Delta.Items = append(part.Delta.Items, crdt.Item[*presence.Entry]{Dot: dot, Value: genEntry.Draw(t, "entry")})
		}
		for range rapid.IntRange(0, 3).Draw(t, "removals") {
			dots := append([]crdt.Dot(nil), rapid.SliceOfN(genDot, 0, 3).Draw(t, "dots")...)
			part.Delta.Removals = append(part.Delta.Removals, crdt.Removal{Event: genDot.Draw(t, "event"), Dots: dots})
		}
		return part
	})
	genPush = rapid.Custom(func(t *rapid.T) Push {
		return Push{From: genReplica.Draw(t, "from"), Parts: append([]Part(nil), rapid.SliceOfN(genPart, 0, 4).Draw(t, "parts")...)}
	})
	genBeat = rapid.Custom(func(t *rapid.T) protocol.Beat {
		return protocol.Beat{
			Replica: genReplica.Draw(t, "replica"), Count: rapid.Uint64Min(1).Draw(t, "count"), Age: genTime.Draw(t, "age"),
			Status: protocol.Status{
				Restored: append([]uint64(nil), rapid.SliceOfN(rapid.Uint64(), 0, presence.Shards).Draw(t, "restored")...),
				Leaving:  rapid.Bool().Draw(t, "leaving"), Sessions: rapid.Uint64().Draw(t, "sessions"), Presences: rapid.Uint64().Draw(t, "presences"),
				Changes: rapid.Uint64().Draw(t, "changes"), Version: rapid.String().Draw(t, "version"), PublicAddr: genName.Draw(t, "addr"),
			},
		}
	})
	genDigest = rapid.Custom(func(t *rapid.T) crdt.Digest {
		return crdt.Digest{
			Seen: genContext.Draw(t, "seen"), Removals: genContext.Draw(t, "removals"),
			Prints:    rapid.MapOfN(genReplica, rapid.Uint64(), 0, 4).Draw(t, "prints"),
			Forgotten: rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.Uint64Min(1), 0, 3).Draw(t, "forgotten"),
		}
	})
	genDigests = rapid.Custom(func(t *rapid.T) Digests {
		d := Digests{From: genReplica.Draw(t, "from"), Beats: append([]protocol.Beat(nil), rapid.SliceOfN(genBeat, 0, 5).Draw(t, "beats")...)}
		if rapid.Bool().Draw(t, "asks") {
			for range presence.Shards {
				d.Shards = append(d.Shards, genDigest.Draw(t, "digest"))
			}
		}
		return d
	})
	genState = rapid.Custom(func(t *rapid.T) *presence.SessionState {
		if rapid.Bool().Draw(t, "no state") {
			return nil
		}
		s := &presence.SessionState{ID: genSession.Draw(t, "id"), TTL: genTime.Draw(t, "ttl"), Remaining: genTime.Draw(t, "remaining"), Claim: rapid.Uint64().Draw(t, "claim")}
		if earlier := rapid.MapOfN(genReplica, rapid.Uint64(), 0, 3).Draw(t, "earlier"); len(earlier) > 0 {
			s.Earlier = earlier
		}
		for range rapid.IntRange(0, 3).Draw(t, "presences") {
			entry := genEntry.Draw(t, "entry")
			entry.Session = s.ID
			s.Presences = append(s.Presences, presence.HeldPresence{Entry: entry, Dots: append([]crdt.Dot(nil), rapid.SliceOfN(genDot, 0, 3).Draw(t, "dots")...)})
		}
		return s
	})
	genOp = rapid.Custom(func(t *rapid.T) Op {
		op := Op{Kind: OpKind(rapid.IntRange(1, 30).Draw(t, "kind")), Session: genSession.Draw(t, "session"), State: genState.Draw(t, "state")}
		if rapid.Bool().Draw(t, "of a presence") {
			op.Topic, op.Key = presence.Topic(genName.Draw(t, "topic")), presence.Key(genName.Draw(t, "key"))
			op.Meta, op.TTL = presence.Meta(rapid.SampledFrom([]string{`{}`, `{ "a" : 1}`, `no JSON`, "\xff"}).Draw(t, "meta")), genTime.Draw(t, "ttl")
		}
		return op
	})
	genOps = rapid.Custom(func(t *rapid.T) Ops {
		return Ops{From: genReplica.Draw(t, "from"), Ops: append([]Op(nil), rapid.SliceOfN(genOp, 0, 5).Draw(t, "ops")...)}
	})
	genLease = rapid.Custom(func(t *rapid.T) presence.Lease {
		return presence.Lease{TTL: genTime.Draw(t, "ttl"), ExpiresAt: time.UnixMilli(rapid.Int64Range(0, maxWall).Draw(t, "expires"))}
	})
	genError = rapid.Custom(func(t *rapid.T) error {
		return rapid.SampledFrom([]error{
			nil, presence.ErrUnknownSession, presence.ErrNotPresent, &presence.AlreadyTrackedError{Ref: genRef.Draw(t, "ref")},
			&presence.InvalidError{Field: "meta", Reason: rapid.String().Draw(t, "reason")}, &presence.MovedError{Owner: genReplica.Draw(t, "owner")},
			&RemoteError{Text: "the disk is full"},
		}).Draw(t, "error")
	})
	genResult = rapid.Custom(func(t *rapid.T) OpResult {
		r := OpResult{Err: genError.Draw(t, "err"), Created: rapid.Bool().Draw(t, "created"), State: genState.Draw(t, "state")}
		if rapid.Bool().Draw(t, "tracked") {
			r.Tracked = &presence.Tracked{Presence: genEntry.Draw(t, "presence").Presence, Lease: genLease.Draw(t, "lease")}
		}
		if rapid.Bool().Draw(t, "renewed") {
			lease := genLease.Draw(t, "lease")
			r.Lease = &lease
		}
		return r
	})
	genResults = rapid.Custom(func(t *rapid.T) []OpResult {
		return append([]OpResult(nil), rapid.SliceOfN(genResult, 0, 5).Draw(t, "results")...)
	})
)

// checkRoundTrip checks that what is written is read as it was, compressed or not.
func checkRoundTrip[T any](t *testing.T, gen *rapid.Generator[T], marshal func(T) ([]byte, error), unmarshal func([]byte) (T, error)) {
	rapid.Check(t, func(t *rapid.T) {
		want := gen.Draw(t, "message")
		message, err := marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unmarshal(message)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("read %+v, want %+v", got, want)
		}
	})
}

func TestPushRoundTrip(t *testing.T) { checkRoundTrip(t, genPush, marshalPush, unmarshalPush) }
func TestDigestsRoundTrip(t *testing.T) {
	checkRoundTrip(t, genDigests, marshalDigests, unmarshalDigests)
}
func TestOpsRoundTrip(t *testing.T) { checkRoundTrip(t, genOps, marshalOps, unmarshalOps) }
func TestResultsRoundTrip(t *testing.T) {
	checkRoundTrip(t, genResults, marshalResults, unmarshalResults)
}

func writeStream(d Digests, parts []Part, end bool) ([]byte, error) {
	var buffer bytes.Buffer
	w := newStreamWriter(&buffer)
	defer w.close()
	if err := w.begin(d); err != nil {
		return nil, err
	}
	for _, part := range parts {
		if err := w.part(part); err != nil {
			return nil, err
		}
	}
	if !end {
		return buffer.Bytes(), nil
	}
	err := w.end()
	return buffer.Bytes(), err
}

func readStream(r io.Reader) (d Digests, parts []Part, err error) {
	s, err := newStreamReader(r)
	if err != nil {
		return Digests{}, nil, err
	}
	defer s.close()
	if d, err = s.begin(); err != nil {
		return Digests{}, nil, err
	}
	for {
		part, err := s.part()
		if errors.Is(err, io.EOF) {
			return d, parts, nil
		}
		if err != nil {
			return d, parts, err
		}
		parts = append(parts, part)
	}
}

func TestStreamRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, parts := genDigests.Draw(t, "digests"), append([]Part(nil), rapid.SliceOfN(genPart, 0, 4).Draw(t, "parts")...)
		stream, err := writeStream(d, parts, true)
		if err != nil {
			t.Fatal(err)
		}
		var r io.Reader = bytes.NewReader(stream)
		if rapid.Bool().Draw(t, "byte by byte") {
			r = iotest.OneByteReader(r)
		}
		gotDigests, gotParts, err := readStream(r)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(gotDigests, d) || !reflect.DeepEqual(gotParts, parts) {
			t.Fatalf("read %+v and %+v, want %+v and %+v", gotDigests, gotParts, d, parts)
		}
		cut := rapid.IntRange(0, len(stream)-1).Draw(t, "cut")
		_, gotParts, err = readStream(bytes.NewReader(stream[:cut]))
		if endAt := len(stream) - zstdTail; err == nil && cut < endAt {
			t.Fatalf("a stream of %d bytes, cut after %d, was taken as whole", len(stream), cut)
		}
		if len(gotParts) > 0 && !reflect.DeepEqual(gotParts, parts[:len(gotParts)]) {
			t.Fatalf("before the cut: read %+v, want a beginning of %+v", gotParts, parts)
		}
	})
}

// zstdTail is how a zstd frame ends after the last flush: with an empty block. Nothing of ours is in it.
const zstdTail = 3

// TestStreamsAreReadAsTheyCome: what was written can be read before anything else is.
func TestStreamsAreReadAsTheyCome(t *testing.T) {
	part := Part{Shard: 3, Delta: presence.Delta{Seen: crdt.ContextOf(crdt.Dot{Replica: crdt.Replica{Name: "a", Incarnation: 1}, Counter: 7})}}
	in, out := io.Pipe()
	steps := make(chan error)
	go func() {
		w := newStreamWriter(out)
		defer w.close()
		steps <- w.begin(Digests{From: crdt.Replica{Name: "a", Incarnation: 1}})
		for range 3 {
			steps <- w.part(part)
		}
		steps <- w.end()
		steps <- out.Close()
	}()
	s, err := newStreamReader(in)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if _, err := s.begin(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := <-steps; err != nil {
			t.Fatal(err)
		}
		if got, err := s.part(); err != nil || !reflect.DeepEqual(got, part) {
			t.Fatalf("part = %+v, %v, want %+v", got, err, part)
		}
	}
	if err := <-steps; err != nil {
		t.Fatal(err)
	}
	if _, err := s.part(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the end: %v, want io.EOF", err)
	}
	go func() { _, _ = io.Copy(io.Discard, in) }()
	for range 2 {
		if err := <-steps; err != nil {
			t.Fatal(err)
		}
	}
}

func TestWrappedErrorsKeepTheirKind(t *testing.T) {
	for _, err := range []error{presence.ErrUnknownSession, presence.ErrNotPresent, &presence.InvalidError{Field: "ttl", Reason: "is too long"}} {
		message, encodeErr := marshalResults([]OpResult{{Err: fmt.Errorf("track: %w", err)}, {Err: errors.New("no idea")}})
		if encodeErr != nil {
			t.Fatal(encodeErr)
		}
		got, decodeErr := unmarshalResults(message)
		if decodeErr != nil {
			t.Fatal(decodeErr)
		}
		if !reflect.DeepEqual(got[0].Err, err) {
			t.Errorf("read %v, want %v", got[0].Err, err)
		}
		var remote *RemoteError
		if !errors.As(got[1].Err, &remote) || remote.Text != "no idea" {
			t.Errorf("read %v, want its words", got[1].Err)
		}
	}
}

func TestTimesAreRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]int64{0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, -time.Second: -1000} {
		if got := milliseconds(d); got != want {
			t.Errorf("milliseconds(%v) = %d, want %d", d, got, want)
		}
	}
}

// cborOf encodes what no node of this version would write.
func cborOf(t testing.TB, v any) []byte {
	t.Helper()
	encoded, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestLaterVersions(t *testing.T) {
	sender := []any{[]any{"a", 1}}
	known := map[int]any{0: sender, 1: []any{map[int]any{1: 5, 99: "new of a beat"}}, 77: "new of the message"}
	d, err := unmarshalDigests(cborOf(t, []any{9, 1, kindDigests, known}))
	if err != nil || len(d.Beats) != 1 || d.Beats[0].Count != 5 {
		t.Errorf("a later version that can be read: %+v, %v", d, err)
	}
	var version *VersionError
	_, err = unmarshalDigests(cborOf(t, []any{9, 2, kindDigests, "something else altogether"}))
	if !errors.As(err, &version) || version.Version != 9 || version.Needs != 2 {
		t.Errorf("a later version that cannot be read: %v", err)
	}
	if want := "the message is of protocol version 9 and needs a node that knows version 2; this one knows 1: upgrade it"; version.Error() != want {
		t.Errorf("it says %q, want %q", version, want)
	}
	stream := slices.Concat(
		cborOf(t, []any{9, 1, kindDigests, known}), cborOf(t, []any{9, 1, 200, "a message of a new kind"}), cborOf(t, []any{9, 1, kindEnd, map[int]any{}}))
	if _, parts, err := readStream(bytes.NewReader(stream)); err != nil || len(parts) != 0 {
		t.Errorf("a stream of a later version, not compressed: %v, %v", parts, err)
	}
	stream = slices.Concat(cborOf(t, []any{9, 1, kindDigests, known}), cborOf(t, []any{9, 2, 200, "one that must be understood"}))
	if _, _, err := readStream(bytes.NewReader(stream)); !errors.As(err, &version) {
		t.Errorf("a stream that needs a later version: %v", err)
	}
}

// TestGarbage: each of these is wrong in one thing.
func TestGarbage(t *testing.T) {
	sender := []any{[]any{"a", 1}}
	entry := func(change map[int]any) map[int]any {
		e := map[int]any{1: 1, 3: "ann", 4: "0123456789abcdef", 5: "0123456789abcdef", 8: 30_000, 9: 1}
		for k, v := range change {
			e[k] = v
		}
		return e
	}
	part := func(change map[int]any) map[int]any {
		p := map[int]any{0: 1, 1: []byte{0, 1, 0, 9}}
		for k, v := range change {
			p[k] = v
		}
		return p
	}
	push := func(parts ...any) any { return map[int]any{0: sender, 1: []any{"lobby"}, 2: parts} }
	if _, err := unmarshalPush(cborOf(t, []any{1, 1, kindPush, push(part(map[int]any{2: []any{entry(nil)}}))})); err != nil {
		t.Fatalf("what the garbage is made of is garbage itself: %v", err)
	}
	for name, body := range map[string]any{
		"no sender":                      map[int]any{0: []any{}, 2: []any{}},
		"a sender without a name":        map[int]any{0: []any{[]any{"", 1}}, 2: []any{}},
		"a sender without incarnation":   map[int]any{0: []any{[]any{"a", 0}}, 2: []any{}},
		"an invalid topic":               map[int]any{0: sender, 1: []any{""}, 2: []any{}},
		"a shard too many":               push(part(map[int]any{0: presence.Shards})),
		"a negative shard":               push(part(map[int]any{0: -1})),
		"too many parts":                 push(slices.Repeat([]any{part(nil)}, presence.Shards+1)...),
		"an unknown replica":             push(part(map[int]any{1: []byte{1, 1, 0, 9}})),
		"a replica twice":                push(part(map[int]any{1: []byte{0, 1, 0, 9, 0, 1, 0, 9}})),
		"a replica without dots":         push(part(map[int]any{1: []byte{0, 0}})),
		"more ranges than there are":     push(part(map[int]any{1: []byte{0, 2, 0, 9}})),
		"ranges that touch":              push(part(map[int]any{1: []byte{0, 2, 0, 9, 0, 1}})),
		"half a number":                  push(part(map[int]any{1: []byte{0, 1, 0, 0x80}})),
		"a number not in shortest form":  push(part(map[int]any{1: []byte{0, 1, 0, 0x80, 0}})),
		"a counter beyond all":           push(part(map[int]any{3: append([]byte{0, 1}, append(bytes.Repeat([]byte{0xff}, 8), 0x7f, 0)...)})),
		"a removal's event of nobody":    push(part(map[int]any{4: []byte{5, 1, 1, 0, 1}})),
		"a removal's event 0":            push(part(map[int]any{4: []byte{0, 0, 1, 0, 1}})),
		"a removal's dots missing":       push(part(map[int]any{4: []byte{0, 1, 2, 0, 1}})),
		"an item's dot 0":                push(part(map[int]any{2: []any{entry(map[int]any{1: 0})}})),
		"an item that is not spoken of":  push(part(map[int]any{2: []any{entry(map[int]any{1: 11})}})),
		"items out of order":             push(part(map[int]any{2: []any{entry(map[int]any{1: 2}), entry(nil)}})),
		"an item twice":                  push(part(map[int]any{2: []any{entry(nil), entry(nil)}})),
		"an item's topic missing":        push(part(map[int]any{2: []any{entry(map[int]any{2: 1})}})),
		"an item's key":                  push(part(map[int]any{2: []any{entry(map[int]any{3: "\n"})}})),
		"an item's session":              push(part(map[int]any{2: []any{entry(map[int]any{4: "short"})}})),
		"an item's ref":                  push(part(map[int]any{2: []any{entry(map[int]any{5: `"},"x":{"012345`})}})),
		"an item's previous ref":         push(part(map[int]any{2: []any{entry(map[int]any{6: "x"})}})),
		"an item's meta: no JSON":        push(part(map[int]any{2: []any{entry(map[int]any{7: []byte(`{"a":}`)})}})),
		"an item's meta: no object":      push(part(map[int]any{2: []any{entry(map[int]any{7: []byte(`[1]`)})}})),
		"an item's meta: two":            push(part(map[int]any{2: []any{entry(map[int]any{7: []byte(`{"a":1}{"b":1}`)})}})),
		"an item's meta: not canonical":  push(part(map[int]any{2: []any{entry(map[int]any{7: []byte(`{ }`)})}})),
		"an item's meta: no UTF-8":       push(part(map[int]any{2: []any{entry(map[int]any{7: []byte("{\"a\":\"\xff\"}")})}})),
		"an item's meta: too long":       push(part(map[int]any{2: []any{entry(map[int]any{7: []byte(`{"a":"` + strings.Repeat("x", maxMeta) + `"}`)})}})),
		"an item's ttl: negative":        push(part(map[int]any{2: []any{entry(map[int]any{8: -1})}})),
		"an item's ttl: for ever":        push(part(map[int]any{2: []any{entry(map[int]any{8: int64(1) << 62})}})),
		"a number where there is a list": map[int]any{0: sender, 2: 7},
	} {
		if _, err := unmarshalPush(cborOf(t, []any{1, 1, kindPush, body})); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	digest := func(field int, encoded ...byte) any {
		return map[int]any{0: sender, 2: slices.Repeat([]any{map[int]any{field: encoded}}, presence.Shards)}
	}
	for name, body := range map[string]any{
		"a beat of nobody":          map[int]any{0: sender, 1: []any{map[int]any{0: 9, 1: 1}}},
		"a beat without a count":    map[int]any{0: sender, 1: []any{map[int]any{1: 0}}},
		"a beat from the future":    map[int]any{0: sender, 1: []any{map[int]any{1: 1, 2: -1}}},
		"a beat of too many shards": map[int]any{0: sender, 1: []any{map[int]any{1: 1, 3: make([]int, presence.Shards+1)}}},
		"a beat with a long story":  map[int]any{0: sender, 1: []any{map[int]any{1: 1, 8: strings.Repeat("x", maxText+1)}}},
		"other shards":              map[int]any{0: sender, 2: []any{map[int]any{}}},
		"half a print":              digest(2, 0, 1, 2, 3),
		"a print of nobody":         digest(2, 7, 1, 2, 3, 4, 5, 6, 7, 8),
		"nobody is forgotten":       digest(3, 4),
	} {
		if _, err := unmarshalDigests(cborOf(t, []any{1, 1, kindDigests, body})); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	id := "0123456789abcdef"
	state := func(field int, value any) any {
		s := map[int]any{0: sender, 1: []any{"lobby"}, 2: id, 3: 1, 4: 1, 5: 1}
		s[field] = value
		return map[int]any{0: sender, 1: []any{map[int]any{0: OpAdopt, 1: id, 6: s}}}
	}
	if _, err := unmarshalOps(cborOf(t, []any{1, 1, kindOps, state(6, []any{entry(map[int]any{11: []byte{0, 1}})})})); err != nil {
		t.Fatalf("what the garbage is made of is garbage itself: %v", err)
	}
	for name, body := range map[string]any{
		"no session":                  map[int]any{0: sender, 1: []any{map[int]any{0: 1}}},
		"a topic that is none":        map[int]any{0: sender, 1: []any{map[int]any{0: 1, 1: id, 2: "\x00"}}},
		"a key that is none":          map[int]any{0: sender, 1: []any{map[int]any{0: 1, 1: id, 3: "\x00"}}},
		"an absurd ttl":               map[int]any{0: sender, 1: []any{map[int]any{0: 1, 1: id, 5: int64(-1) << 62}}},
		"a state's session":           state(2, "short"),
		"a state's ttl":               state(3, -1),
		"a state's rest":              state(4, -1),
		"another session's presence":  state(6, []any{entry(map[int]any{4: "another-session-1"})}),
		"a presence's dots of nobody": state(6, []any{entry(map[int]any{11: []byte{1, 1}})}),
		"half a dot":                  state(6, []any{entry(map[int]any{11: []byte{0}})}),
	} {
		if _, err := unmarshalOps(cborOf(t, []any{1, 1, kindOps, body})); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	result := func(r map[int]any) any { return map[int]any{0: []any{r}} }
	for name, body := range map[string]any{
		"a presence without a lease":       result(map[int]any{2: "lobby", 3: entry(nil)}),
		"a presence without a topic":       result(map[int]any{3: entry(nil), 5: map[int]any{0: 1, 1: 1}}),
		"a lease beyond what can be shown": result(map[int]any{4: map[int]any{0: 1, 1: int64(1) << 60}}),
		"a lease of less than nothing":     result(map[int]any{4: map[int]any{0: -1, 1: 1}}),
		"tracked under no ref":             result(map[int]any{0: map[int]any{0: codeAlreadyTracked}}),
		"moved to nobody":                  result(map[int]any{0: map[int]any{0: codeMoved}}),
	} {
		if _, err := unmarshalResults(cborOf(t, []any{1, 1, kindResults, body})); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	for name, message := range map[string][]byte{
		"nothing":               {},
		"no CBOR":               {0xff},
		"no array":              cborOf(t, map[int]int{1: 1}),
		"too short an envelope": cborOf(t, []any{1, 1, kindPush}),
		"another kind":          cborOf(t, []any{1, 1, kindOps, push()}),
		"something after it":    append(cborOf(t, []any{1, 1, kindPush, push()}), 0),
		"no zstd":               {zstdMagic, 1, 2, 3},
		"half a zstd frame":     compressor.EncodeAll(cborOf(t, []any{1, 1, kindPush, push()}), nil)[:12],
		"an unbounded string":   {0x9f, 0x01, 0x01, 0x04, 0xa0, 0xff},
	} {
		if got, err := unmarshalPush(message); err == nil {
			t.Errorf("%s: was taken as %+v", name, got)
		}
	}
}

// TestGarbageIsCheap: what is wrong is found before it has cost much more memory than it has bytes.
func TestGarbageIsCheap(t *testing.T) {
	const most = 256 << 20 // for three attempts, each of which may fill a whole message
	raw := func(b byte, n int) cbor.RawMessage { return bytes.Repeat([]byte{b}, n) }
	list := func(n int, item []byte) cbor.RawMessage {
		return append([]byte{0x99, byte(n >> 8), byte(n)}, bytes.Repeat(item, n)...)
	}
	sender := []any{[]any{"a", 1}}
	parts := list(200, append(cborOf(t, map[int]any{0: 0, 2: 0})[:4], list(maxList, []byte{0xa0})...))
	ops := list(maxList, cborOf(t, map[int]any{0: 1, 6: map[int]any{6: list(200, []byte{0xa0})}}))
	bomb := compressor.EncodeAll(make([]byte, maxMessage+1), nil)
	var unsized bytes.Buffer
	w, err := zstd.NewWriter(&unsized)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(make([]byte, maxMessage+1)) // into a buffer, which takes all
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, message := range map[string][]byte{
		"a list of a billion":        {0x9a, 0x3f, 0xff, 0xff, 0xff, 1},
		"a string of exabytes":       {0x5b, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"lists in lists":             raw(0x81, maxMessage),
		"many parts, empty items":    cborOf(t, []any{1, 1, kindPush, map[int]any{0: sender, 2: parts}}),
		"many ops, empty states":     cborOf(t, []any{1, 1, kindOps, map[int]any{0: sender, 1: ops}}),
		"a bomb that tells its size": bomb,
		"a bomb":                     unsized.Bytes(),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, pushErr := unmarshalPush(message)
		_, opsErr := unmarshalOps(message)
		_, _, streamErr := readStream(bytes.NewReader(message))
		runtime.ReadMemStats(&after)
		if pushErr == nil || opsErr == nil || streamErr == nil {
			t.Errorf("%s: was taken", name)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > most {
			t.Errorf("%s (%d bytes): took %d MiB", name, len(message), used>>20)
		}
	}
}

func TestTooLongIsNotSent(t *testing.T) {
	meta := presence.Meta(`{"a":"` + strings.Repeat("x", maxMeta-10) + `"}`)
	ops := Ops{From: crdt.Replica{Name: "a", Incarnation: 1}, Ops: slices.Repeat([]Op{{Kind: OpTrack, Session: "0123456789abcdef", Meta: meta}}, 17)}
	if _, err := marshalOps(ops); !errors.Is(err, errTooLong) {
		t.Errorf("marshal of 17 MiB: %v, want %v", err, errTooLong)
	}
}

func checkFuzzed[T any](t *testing.T, message []byte, unmarshal func([]byte) (T, error), marshal func(T) ([]byte, error)) {
	value, err := unmarshal(message)
	if err != nil {
		return
	}
	again, err := marshal(value)
	if err != nil {
		t.Fatalf("what was read cannot be written: %v", err)
	}
	if got, err := unmarshal(again); err != nil || !reflect.DeepEqual(got, value) {
		t.Fatalf("read %+v, wrote and read %+v (%v)", value, got, err)
	}
}

// maxSeed keeps the fuzzer from spending its time on making large messages smaller.
const maxSeed = 1000

// seeds gives the fuzzer small messages, compressed and not.
func seeds[T any](f *testing.F, gen *rapid.Generator[T], marshal func(T) ([]byte, error)) {
	for i, added := 0, 0; added < 20; i++ {
		message, err := marshal(gen.Example(i))
		if err != nil {
			f.Fatal(err)
		}
		plain := message
		if message[0] == zstdMagic {
			if plain, err = decompressor.DecodeAll(message, nil); err != nil {
				f.Fatal(err)
			}
		}
		if len(plain) <= maxSeed {
			f.Add(message)
			f.Add(plain)
			added++
		}
	}
}

func FuzzPush(f *testing.F) {
	seeds(f, genPush, marshalPush)
	f.Fuzz(func(t *testing.T, message []byte) { checkFuzzed(t, message, unmarshalPush, marshalPush) })
}

func FuzzDigests(f *testing.F) {
	seeds(f, genDigests, marshalDigests)
	f.Fuzz(func(t *testing.T, message []byte) { checkFuzzed(t, message, unmarshalDigests, marshalDigests) })
}

func FuzzOps(f *testing.F) {
	seeds(f, genOps, marshalOps)
	f.Fuzz(func(t *testing.T, message []byte) { checkFuzzed(t, message, unmarshalOps, marshalOps) })
}

func FuzzResults(f *testing.F) {
	seeds(f, genResults, marshalResults)
	f.Fuzz(func(t *testing.T, message []byte) { checkFuzzed(t, message, unmarshalResults, marshalResults) })
}

type stream struct {
	digests Digests
	parts   []Part
}

func FuzzStream(f *testing.F) {
	streams := rapid.Custom(func(t *rapid.T) stream {
		return stream{genDigests.Draw(t, "digests"), rapid.SliceOfN(genPart, 0, 2).Draw(t, "parts")}
	})
	seeds(f, streams, func(s stream) ([]byte, error) { return writeStream(s.digests, s.parts, true) })
	f.Fuzz(func(t *testing.T, stream []byte) {
		d, parts, err := readStream(bytes.NewReader(stream))
		if err != nil {
			return
		}
		again, err := writeStream(d, parts, true)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		gotDigests, gotParts, err := readStream(bytes.NewReader(again))
		if err != nil || !reflect.DeepEqual(gotDigests, d) || !reflect.DeepEqual(gotParts, parts) {
			t.Fatalf("read %+v and %+v, wrote and read %+v and %+v (%v)", d, parts, gotDigests, gotParts, err)
		}
	})
}
