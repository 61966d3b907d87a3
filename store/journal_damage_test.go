package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rollcall/store"
)

// history is every record that a journal ever had.
type history map[string][]store.Record

// validJournal returns the bytes of a journal with branch pages, records longer than a page and free pages, and what it has held.
func validJournal(tb testing.TB) (file []byte, held history) {
	tb.Helper()
	dir := tb.TempDir()
	j, held := openJournal(tb, dir, store.JournalConfig{LeaseInterval: 1}), history{}
	random := rand.New(rand.NewPCG(7, 8))
	for round := range 6 {
		var batch []store.Record
		for i := range 250 {
			r := store.Record{Key: fmt.Sprintf("session-%d", random.IntN(600)), Deadline: time.Unix(int64(1_900_000_000+round*1000+i), 0)}
			if random.IntN(4) > 0 {
				r.Value = fmt.Appendf(nil, "%d %s", i, strings.Repeat("v", random.IntN(300)+random.IntN(100)/99*9000))
				held[r.Key] = append(held[r.Key], r)
			}
			batch = append(batch, r)
		}
		mustWrite(tb, j, batch...)
	}
	closeJournal(tb, j)
	file, err := os.ReadFile(filepath.Join(dir, "journal.db"))
	if err != nil {
		tb.Fatal(err)
	}
	return file, held
}

// checkDamaged opens a journal with the given file, takes only what it once held from it, and then uses it. It returns how much that was.
func checkDamaged(tb testing.TB, file []byte, held history) (restored int, stats store.JournalStats) {
	tb.Helper()
	dir := tb.TempDir()
	path := filepath.Join(dir, "journal.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		tb.Fatal(err)
	}
	var log bytes.Buffer
	j := openJournal(tb, dir, store.JournalConfig{LeaseInterval: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	got := load(tb, j)
	for key, r := range got {
		known := slices.ContainsFunc(held[key], func(h store.Record) bool {
			return string(h.Value) == string(r.Value) && (r.Deadline.IsZero() || r.Deadline.Equal(h.Deadline))
		})
		if !known {
			tb.Fatalf("the journal made up %v", r)
		}
	}
	got["new"] = store.Record{Key: "new", Value: []byte("v"), Deadline: time.Unix(1_900_000_000, 0)}
	err := j.Write([]store.Record{got["new"]})
	if errors.Is(err, store.ErrJournalReset) {
		var all []store.Record
		for _, r := range got {
			all = append(all, r)
		}
		err = j.Write(all)
	}
	if err != nil {
		tb.Fatal(err)
	}
	stats = j.Stats()
	aside, err := filepath.Glob(path + ".damaged-*")
	if err != nil || len(aside) != int(stats.Resets) {
		tb.Fatalf("%d files set aside after %+v", len(aside), stats)
	}
	if lines := strings.Count(log.String(), "\n"); lines > 2 || (stats.Resets > 0) != strings.Contains(log.String(), "is set aside") ||
		(stats.Damaged > 0) != strings.Contains(log.String(), "are skipped") {
		tb.Fatalf("after %+v the log says:\n%s", stats, log.String())
	}
	closeJournal(tb, j)
	j = openJournal(tb, dir, store.JournalConfig{LeaseInterval: 1})
	wantRecords(tb, load(tb, j), got)
	if again := j.Stats(); again.Resets+again.Damaged != 0 {
		tb.Fatalf("opened again: %+v, want nothing damaged any more", again)
	}
	closeJournal(tb, j)
	return len(got) - 1, stats
}

func TestJournalOfDamagedFiles(t *testing.T) {
	valid, held := validJournal(t)
	random := make([]byte, len(valid))
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	metaPages := 2 * os.Getpagesize()
	identity, _, _ := validFile(t)
	for name, file := range map[string][]byte{
		"empty":            nil,
		"one byte":         {0},
		"text":             []byte("this is not a database\n"),
		"garbage":          random,
		"zeros":            make([]byte, len(valid)),
		"meta pages only":  valid[:metaPages],
		"half":             valid[:len(valid)/2],
		"no data":          append(bytes.Clone(valid[:metaPages]), make([]byte, len(valid)-metaPages)...),
		"garbage data":     append(bytes.Clone(valid[:metaPages]), random[metaPages:]...),
		"no meta pages":    append(make([]byte, metaPages), valid[metaPages:]...),
		"another database": identity,
	} {
		t.Run(name, func(t *testing.T) {
			if restored, stats := checkDamaged(t, file, held); restored != 0 || stats.Resets != 1 {
				t.Errorf("restored %d, %+v, want nothing and one reset", restored, stats)
			}
		})
	}
	t.Run("no damage", func(t *testing.T) {
		if restored, stats := checkDamaged(t, valid, held); restored < 200 || stats.Resets+stats.Damaged != 0 {
			t.Errorf("restored %d, %+v, want all of them", restored, stats)
		}
	})
}

func TestJournalOfRandomDamage(t *testing.T) {
	valid, held := validJournal(t)
	random := rand.New(rand.NewPCG(1, 2))
	page := os.Getpagesize()
	var intact, partly, lost int
	for round := range 300 {
		file := bytes.Clone(valid)
		switch round % 6 {
		case 0: // one bit
			file[random.IntN(len(file))] ^= 1 << random.IntN(8)
		case 1: // one bit of a page's header or first elements
			file[random.IntN(len(file)/page)*page+random.IntN(256)] ^= 1 << random.IntN(8)
		case 2: // many bytes in a row
			at := random.IntN(len(file) - 512)
			for i := range 1 + random.IntN(512) {
				file[at+i] = byte(random.Uint32())
			}
		case 3: // a page is another one's copy, as of a write that went astray
			copy(file[random.IntN(len(file)/page)*page:][:page], file[random.IntN(len(file)/page)*page:])
		case 4: // one bit of what leads to other pages
			at := random.IntN(len(file)/page) * page
			for file[at+8] != 1 {
				at = (at + page) % len(file)
			}
			file[at+random.IntN(page)] ^= 1 << random.IntN(8)
		case 5:
			file = file[:1+random.IntN(len(file)-1)]
		}
		switch _, stats := checkDamaged(t, file, held); {
		case stats.Resets > 0:
			lost++
		case stats.Damaged > 0:
			partly++
		default:
			intact++
		}
	}
	t.Logf("%d intact, %d partly, %d lost", intact, partly, lost)
	if intact == 0 || partly == 0 || lost == 0 {
		t.Error("want some of each")
	}
}

func TestJournalOfANewerFormat(t *testing.T) {
	valid, held := validJournal(t)
	at := bytes.Index(valid, append([]byte("format"), 0, 0, 0, 0, 0, 0, 0, 1))
	for ; at >= 0; at = bytes.Index(valid, append([]byte("format"), 0, 0, 0, 0, 0, 0, 0, 1)) {
		binary.BigEndian.PutUint64(valid[at+6:], 2)
		binary.BigEndian.PutUint32(valid[at+14:], crc32.Checksum(valid[at:at+14], crc32.MakeTable(crc32.Castagnoli)))
	}
	if restored, stats := checkDamaged(t, valid, held); restored != 0 || stats.Resets != 1 {
		t.Errorf("restored %d, %+v, want it set aside", restored, stats)
	}
}

func TestJournalKeepsThreeDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "journal.db")
	old := path + ".damaged-20200101T000000.000Z"
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range 6 {
		if err := os.WriteFile(path, fmt.Appendf(nil, "damage %d", n), 0o600); err != nil {
			t.Fatal(err)
		}
		closeJournal(t, openJournal(t, dir, store.JournalConfig{}))
		// names tell milliseconds apart
		for stamp := time.Now().UnixMilli(); time.Now().UnixMilli() == stamp; {
		}
	}
	wantFiles(t, dir, "journal.db", "journal.db.damaged-*", "journal.db.damaged-*", "journal.db.damaged-*")
	aside, _ := filepath.Glob(path + ".damaged-*")
	for i, name := range aside {
		if got, err := os.ReadFile(name); err != nil || string(got) != fmt.Sprintf("damage %d", i+3) {
			t.Errorf("%s holds %q, %v, want the youngest three in order", name, got, err)
		}
	}
}

// TestJournalDamagedWhileOpen: what happens to the file below a journal costs neither the process nor any session that it still knows.
func TestJournalDamagedWhileOpen(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	page := int64(os.Getpagesize())
	resets := 0
	for round := range 60 {
		dir := t.TempDir()
		config := store.JournalConfig{LeaseInterval: 1}
		j, want := openJournal(t, dir, config), map[string]store.Record{}
		var all []store.Record
		for i := range 1000 {
			r := store.Record{Key: fmt.Sprintf("session-%d", i), Value: make([]byte, 100), Deadline: time.Unix(1_900_000_000, 0)}
			all, want[r.Key] = append(all, r), r
		}
		mustWrite(t, j, all...)
		damage(t, filepath.Join(dir, "journal.db"), func(file *os.File, size int64) error {
			switch round % 3 {
			case 0:
				return file.Truncate(random.Int64N(size/page) * page)
			case 1:
				_, err := file.WriteAt(make([]byte, page), (2+random.Int64N(size/page-2))*page)
				return err
			default:
				return errors.Join(file.Truncate(0), file.Truncate(size))
			}
		})
		err := j.Write(all)
		if errors.Is(err, store.ErrJournalReset) {
			resets++
			err = j.Write(all)
		}
		if err != nil {
			t.Fatalf("round %d: Write = %v", round, err)
		}
		_ = j.Close() // damage that was not met yet may fail it
		j = openJournal(t, dir, config)
		got := load(t, j)
		if j.Stats().Resets > 0 { // and is met now
			resets++
			continue
		}
		wantRecords(t, got, want)
		closeJournal(t, j)
	}
	if resets < 20 {
		t.Errorf("%d resets in 60 rounds, want at least those after truncations", resets)
	}
}

func damage(t *testing.T, path string, change func(file *os.File, size int64) error) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := file.Stat()
	if err == nil {
		err = change(file, info.Size())
	}
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestJournalDamagedBeforeLoad: what was read before the damage is restored, and the next Write says that all must be written.
func TestJournalDamagedBeforeLoad(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, store.JournalConfig{})
	fillJournal(t, j, 5000)
	closeJournal(t, j)
	j = openJournal(t, dir, store.JournalConfig{})
	restored := map[string]store.Record{}
	if err := j.Load(func(r store.Record) error {
		if len(restored) == 0 {
			damage(t, filepath.Join(dir, "journal.db"), func(file *os.File, size int64) error { return file.Truncate(size / 2) })
		}
		r.Value = bytes.Clone(r.Value)
		restored[r.Key] = r
		return nil
	}); err != nil || len(restored) == 0 || len(restored) == 5000 {
		t.Fatalf("Load = %v with %d records, want a part of them", err, len(restored))
	}
	var all []store.Record
	for _, r := range restored {
		all = append(all, r)
	}
	if err := j.Write(all[:1]); !errors.Is(err, store.ErrJournalReset) {
		t.Fatalf("Write = %v, want ErrJournalReset", err)
	}
	mustWrite(t, j, all...)
	closeJournal(t, j)
	wantRecords(t, load(t, openJournal(t, dir, store.JournalConfig{})), restored)
}

func FuzzOpenJournal(f *testing.F) {
	valid, held := validJournal(f)
	f.Add(uint32(0), []byte{}, uint32(len(valid)))
	for at := 8; at < len(valid); at += os.Getpagesize() {
		f.Add(uint32(at), []byte{0x02, 0, 0xff, 0xff, 0, 0, 0, 0x80}, uint32(len(valid)))
	}
	f.Fuzz(func(t *testing.T, at uint32, patch []byte, size uint32) {
		file := bytes.Clone(valid)
		copy(file[int(at)%len(file):], patch)
		checkDamaged(t, file[:int(size)%(len(file)+1)], held)
	})
}
