package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/store"
)

func openJournal(tb testing.TB, dir string, config store.JournalConfig) *store.Journal {
	tb.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	j, err := store.OpenJournal(dir, config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = j.Close() }) // where the test ends early
	return j
}

func closeJournal(tb testing.TB, j *store.Journal) {
	tb.Helper()
	if err := j.Close(); err != nil {
		tb.Fatal(err)
	}
}

func mustWrite(tb testing.TB, j *store.Journal, batch ...store.Record) {
	tb.Helper()
	if err := j.Write(batch); err != nil {
		tb.Fatal(err)
	}
}

// load returns the journal's records.
func load(tb testing.TB, j *store.Journal) map[string]store.Record {
	tb.Helper()
	records := map[string]store.Record{}
	if err := j.Load(func(r store.Record) error {
		if _, twice := records[r.Key]; twice {
			tb.Errorf("Load has %s twice", r.Key)
		}
		r.Value = bytes.Clone(r.Value)
		records[r.Key] = r
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
	return records
}

// afterCrash returns what a journal has that was never closed: it opens a copy of the file.
func afterCrash(tb testing.TB, dir string) map[string]store.Record {
	tb.Helper()
	file, err := os.ReadFile(filepath.Join(dir, "journal.db"))
	if err != nil {
		tb.Fatal(err)
	}
	other := tb.TempDir()
	if err := os.WriteFile(filepath.Join(other, "journal.db"), file, 0o600); err != nil {
		tb.Fatal(err)
	}
	j := openJournal(tb, other, store.JournalConfig{})
	defer closeJournal(tb, j)
	return load(tb, j)
}

func wantRecords(tb testing.TB, got, want map[string]store.Record) {
	tb.Helper()
	if maps.EqualFunc(got, want, sameRecord) {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if r, ok := got[key]; !ok || !sameRecord(r, want[key]) {
			tb.Errorf("%s: got %v (there: %v), want %v", key, r, ok, want[key])
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			tb.Errorf("%s is there, want it gone", key)
		}
	}
	tb.FailNow()
}

func sameRecord(a, b store.Record) bool {
	return a.Key == b.Key && string(a.Value) == string(b.Value) && a.Deadline.Equal(b.Deadline)
}

// TestJournalAgainstAModel writes, renews, closes and crashes at random, and compares with a map.
func TestJournalAgainstAModel(t *testing.T) {
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(5, 6))
	config := store.JournalConfig{LeaseInterval: 1} // so that each Write stores all leases
	j, want := openJournal(t, dir, config), map[string]store.Record{}
	newest := time.Unix(1_800_000_000, 0)
	for range 400 {
		var batch []store.Record
		for range random.IntN(60) {
			newest = newest.Add(time.Second)
			r := store.Record{Key: fmt.Sprintf("session-%d", random.IntN(3000)), Deadline: newest}
			if random.IntN(3) > 0 {
				r.Value = make([]byte, random.IntN(6000)*random.IntN(2))
				r.Value = fmt.Append(r.Value, newest.Unix())
			}
			batch = append(batch, r) // at times with a key twice: the last one counts
		}
		mustWrite(t, j, batch...)
		for _, r := range batch {
			if want[r.Key] = r; r.Value == nil {
				delete(want, r.Key)
			}
		}
		var leases []store.Lease
		for range random.IntN(60) {
			newest = newest.Add(time.Second)
			key := fmt.Sprintf("session-%d", random.IntN(3000))
			leases = append(leases, store.Lease{Key: key, Deadline: newest})
			if r, ok := want[key]; ok {
				r.Deadline = newest
				want[key] = r
			}
		}
		j.Renew(leases)
		switch random.IntN(20) {
		case 0:
			closeJournal(t, j)
			j = openJournal(t, dir, config)
			wantRecords(t, load(t, j), want)
		case 1:
			mustWrite(t, j)
			wantRecords(t, afterCrash(t, dir), want)
		}
		if got := j.Stats(); got.Records != len(want) || got.Err != nil || got.Damaged+got.Resets+got.Failures != 0 {
			t.Fatalf("Stats = %+v, want %d records and nothing wrong", got, len(want))
		}
	}
}

func TestJournalStoresLeasesWithinTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j := openJournal(t, dir, store.JournalConfig{})
		start := time.Now()
		mustWrite(t, j, store.Record{Key: "ann", Value: []byte("v"), Deadline: start.Add(30 * time.Second)})
		commits := j.Stats().Commits
		for range 600 { // a minute of heartbeats, each tenth of a second
			time.Sleep(100 * time.Millisecond)
			j.Renew([]store.Lease{{Key: "ann", Deadline: time.Now().Add(30 * time.Second)}, {Key: "unknown", Deadline: time.Now()}})
			mustWrite(t, j)
			late := time.Now().Add(30 * time.Second).Sub(j.LastWrite().Add(30 * time.Second))
			if late > 4*time.Second+100*time.Millisecond {
				t.Fatalf("the last Write was %v ago, want it within the default LeaseInterval", late)
			}
		}
		if got := j.Stats().Commits - commits; got < 12 || got > 16 {
			t.Errorf("%d commits in a minute of heartbeats, want one in four seconds", got)
		}
		deadline := afterCrash(t, dir)["ann"].Deadline
		if lost := time.Now().Add(30 * time.Second).Sub(deadline); lost < -time.Second || lost > 5*time.Second {
			t.Errorf("after a crash the deadline is %v too early, want at most five seconds", lost)
		}
		closeJournal(t, j)
		deadline = afterCrash(t, dir)["ann"].Deadline
		if lost := time.Now().Add(30 * time.Second).Sub(deadline); lost < -time.Second || lost > 0 {
			t.Errorf("after Close the deadline is %v too early, want it rounded up to the second", lost)
		}
	})
}

// TestJournalLeaseOfAReusedSlot: a new session gets nothing of the deadline of the one before it.
func TestJournalLeaseOfAReusedSlot(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, store.JournalConfig{})
	far, near := time.Unix(2_000_000_000, 0), time.Unix(1_900_000_000, 0)
	mustWrite(t, j, store.Record{Key: "old", Value: []byte("v"), Deadline: near})
	j.Renew([]store.Lease{{Key: "old", Deadline: far}})
	closeJournal(t, j) // stores the page of leases
	j = openJournal(t, dir, store.JournalConfig{})
	load(t, j)
	mustWrite(t, j, store.Record{Key: "old"})
	mustWrite(t, j, store.Record{Key: "new", Value: []byte("v"), Deadline: near}, store.Record{Key: "none", Value: []byte{}})
	want := map[string]store.Record{"new": {Key: "new", Value: []byte("v"), Deadline: near}, "none": {Key: "none"}}
	wantRecords(t, afterCrash(t, dir), want)
}

func TestJournalTellsWhenItWasWrittenLast(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, store.JournalConfig{})
	if got := j.LastWrite(); !got.IsZero() {
		t.Errorf("LastWrite of a new journal = %v, want none", got)
	}
	before := time.Now().Round(0)
	mustWrite(t, j, store.Record{Key: "ann", Value: []byte("v")})
	after := time.Now().Round(0)
	closeJournal(t, j)
	got := openJournal(t, dir, store.JournalConfig{}).LastWrite()
	if got.Before(before) || got.After(time.Now()) || got.Sub(after) > time.Minute {
		t.Errorf("LastWrite after a restart = %v, want it between %v and now", got, before)
	}
}

func TestJournalUsedInOtherOrders(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, store.JournalConfig{})
	mustWrite(t, j, store.Record{Key: "a", Value: []byte("1")}, store.Record{Key: "b", Value: []byte("1")})
	closeJournal(t, j)

	j = openJournal(t, dir, store.JournalConfig{})
	mustWrite(t, j, store.Record{Key: "a"}, store.Record{Key: "c", Value: []byte("2")}) // without a Load
	want := map[string]store.Record{"b": {Key: "b", Value: []byte("1")}, "c": {Key: "c", Value: []byte("2")}}
	wantRecords(t, load(t, j), want)
	wantRecords(t, load(t, j), want)

	stop := errors.New("stop")
	if err := j.Load(func(store.Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Load = %v, want the error of restore", err)
	}
	for _, key := range []string{"", strings.Repeat("x", 256)} {
		if err := j.Write([]store.Record{{Key: "d", Value: []byte("3")}, {Key: key, Value: []byte("3")}}); err == nil {
			t.Errorf("Write of a key of %d bytes = nil, want an error", len(key))
		}
	}
	wantRecords(t, load(t, j), want)
	if _, err := store.OpenJournal(dir, store.JournalConfig{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("second OpenJournal = %v, want ErrLocked", err)
	}
	closeJournal(t, j)
	closeJournal(t, j)
	if err := j.Write(nil); err == nil {
		t.Error("Write after Close = nil, want an error")
	}
	if err := j.Load(func(store.Record) error { return nil }); err == nil {
		t.Error("Load after Close = nil, want an error")
	}
}

// TestJournalLoadLetsPanicsPass: a mistake in restore is not taken for a damaged file.
func TestJournalLoadLetsPanicsPass(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, store.JournalConfig{})
	mustWrite(t, j, store.Record{Key: "ann", Value: []byte("v")})
	func() {
		defer func() {
			if r := recover(); r != "mistake" {
				t.Errorf("recovered %v, want the panic of restore", r)
			}
		}()
		_ = j.Load(func(store.Record) error { panic("mistake") })
	}()
	mustWrite(t, j, store.Record{Key: "bob", Value: []byte("v")})
	if got := len(load(t, j)); got != 2 || j.Stats().Resets != 0 {
		t.Errorf("%d records after %+v, want both and no reset", got, j.Stats())
	}
}

// TestJournalStaysBoundedUnderChurn begins and ends a million sessions, of which a thousand live at a time.
func TestJournalStaysBoundedUnderChurn(t *testing.T) {
	const live, perBatch, batches = 1000, 5000, 200
	dir := t.TempDir()
	j := openJournal(t, dir, store.JournalConfig{})
	batch := make([]store.Record, 0, 2*perBatch)
	var largest int64
	for n := range batches {
		batch = batch[:0]
		for i := n * perBatch; i < (n+1)*perBatch; i++ {
			batch = append(batch, store.Record{Key: fmt.Sprintf("session-%d", i), Value: make([]byte, 50+i%400)})
			if i >= live {
				batch = append(batch, store.Record{Key: fmt.Sprintf("session-%d", i-live)})
			}
		}
		mustWrite(t, j, batch...)
		if n == batches/10 {
			largest = j.Stats().Bytes
		}
		if got := j.Stats(); got.Records != live || n > batches/10 && got.Bytes > largest {
			t.Fatalf("after %d sessions: %d records in %d bytes, want %d in at most %d", (n+1)*perBatch, got.Records, got.Bytes, live, largest)
		}
	}
	if largest > 8<<20 {
		t.Errorf("the file has %d bytes for %d records", largest, live)
	}
	closeJournal(t, j)
	if got := len(load(t, openJournal(t, dir, store.JournalConfig{}))); got != live {
		t.Errorf("%d records after all, want %d", got, live)
	}
}

// fillLarge writes 30 MB, and deletes all but a few records, which it returns.
func fillLarge(t *testing.T, j *store.Journal) (left map[string]store.Record) {
	t.Helper()
	left = map[string]store.Record{}
	for n := range 30 {
		batch := make([]store.Record, 1000)
		for i := range batch {
			batch[i] = store.Record{Key: fmt.Sprintf("session-%d-%d", n, i), Value: make([]byte, 1000), Deadline: time.Unix(1_900_000_000, 0)}
		}
		left[batch[n].Key] = batch[n]
		mustWrite(t, j, batch...)
	}
	for n := range 30 {
		batch := make([]store.Record, 0, 1000)
		for i := range 1000 {
			if i != n {
				batch = append(batch, store.Record{Key: fmt.Sprintf("session-%d-%d", n, i)})
			}
		}
		mustWrite(t, j, batch...)
	}
	return left
}

func TestJournalShrinks(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, store.JournalConfig{})
	want := fillLarge(t, j)
	if got := j.Stats().Bytes; got > 16<<20 {
		t.Errorf("the file has %d bytes, want less than 16 MiB", got)
	}
	wantRecords(t, afterCrash(t, dir), want)
	r := store.Record{Key: "ann", Value: []byte("v")} // the new file takes more
	mustWrite(t, j, r)
	want[r.Key] = r
	closeJournal(t, j)
	j = openJournal(t, dir, store.JournalConfig{})
	wantRecords(t, load(t, j), want)
	wantFiles(t, dir, "journal.db")
}

func TestJournalThatCannotShrinkGoesOn(t *testing.T) {
	for _, op := range []string{"compact", "rename"} {
		t.Run(op, func(t *testing.T) {
			dir := t.TempDir()
			var failing bool
			j := openJournal(t, dir, store.JournalConfig{Fault: func(got string) error {
				if failing && got == op {
					return errors.New("fault")
				}
				return nil
			}})
			failing = true
			want := fillLarge(t, j)
			if got := j.Stats(); got.Bytes < 30<<20 || got.Failures != 0 {
				t.Fatalf("Stats = %+v, want a large file and no failure", got)
			}
			closeJournal(t, j)
			failing = false
			j = openJournal(t, dir, store.JournalConfig{})
			if got := j.Stats().Bytes; got > 16<<20 {
				t.Errorf("opened with %d bytes, want it made smaller", got)
			}
			wantRecords(t, load(t, j), want)
			wantFiles(t, dir, "journal.db")
		})
	}
}

// TestJournalKilledWhileItMakesANewFile: the one in the making is not taken for the journal, and does not stay.
func TestJournalKilledWhileItMakesANewFile(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, store.JournalConfig{})
	mustWrite(t, j, store.Record{Key: "ann", Value: []byte("v")})
	closeJournal(t, j)
	if err := os.WriteFile(filepath.Join(dir, "journal.db.new"), make([]byte, 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, dir, store.JournalConfig{})
	if got := load(t, j); len(got) != 1 {
		t.Errorf("Load = %v, want ann", got)
	}
	wantFiles(t, dir, "journal.db")
}

// wantFiles checks what is in dir, where a name ending in * stands for any that begin so.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if !slices.EqualFunc(got, want, func(name, pattern string) bool {
		ok, _ := filepath.Match(pattern, name)
		return ok
	}) {
		t.Errorf("files %v, want %v", got, want)
	}
}

func TestJournalFromManyGoroutines(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, store.JournalConfig{LeaseInterval: time.Millisecond})
	var wg sync.WaitGroup
	const writers, rounds = 4, 25
	for w := range writers {
		wg.Go(func() {
			for n := range rounds {
				key := fmt.Sprintf("session-%d-%d", w, n)
				if err := j.Write([]store.Record{{Key: key, Value: []byte("v")}, {Key: fmt.Sprintf("session-%d-%d", w, n-2)}}); err != nil {
					t.Error(err)
				}
				j.Renew([]store.Lease{{Key: key, Deadline: time.Now()}})
			}
		})
		wg.Go(func() {
			for range rounds {
				if s := j.Stats(); s.Err != nil || s.Records > 3*writers {
					t.Errorf("Stats = %+v", s)
				}
				j.LastWrite()
				if err := j.Load(func(store.Record) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(load(t, j)); got != 2*writers {
		t.Errorf("%d records, want %d", got, 2*writers)
	}
	closeJournal(t, j)
}
