package store_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rollcall/store"
)

// validFile returns the bytes of a data file, its node id and its incarnation.
func validFile(tb testing.TB) (file []byte, nodeID string, incarnation uint64) {
	tb.Helper()
	dir := tb.TempDir()
	for range 5 { // so that its pages have moved and some are free
		s, err := store.Open(dir)
		if err != nil {
			tb.Fatal(err)
		}
		nodeID, incarnation = s.NodeID(), s.Incarnation()
		if err := s.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	file, err := os.ReadFile(filepath.Join(dir, "rollcall.db"))
	if err != nil {
		tb.Fatal(err)
	}
	return file, nodeID, incarnation
}

// openDamaged opens a data directory with the given file. Either that fails with a clear error, or the store works.
// It returns nil or the node id and incarnation.
func openDamaged(tb testing.TB, file []byte) (nodeID string, incarnation uint64, err error) {
	tb.Helper()
	dir := tb.TempDir()
	path := filepath.Join(dir, "rollcall.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		tb.Fatal(err)
	}
	s, err := store.Open(dir)
	if err != nil {
		if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			tb.Fatalf("Open = %v, want one line that is ErrCorrupt and names the path", err)
		}
		if _, again := store.Open(dir); again == nil || errors.Is(again, store.ErrLocked) {
			tb.Fatalf("Open = %v, and the next one %v: want the same refusal, and no lock left behind", err, again)
		}
		return "", 0, err
	}
	nodeID, incarnation = s.NodeID(), s.Incarnation()
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	s, err = store.Open(dir)
	if err != nil {
		tb.Fatalf("a damaged file opened once, and then not again: %v", err)
	}
	if s.NodeID() != nodeID || s.Incarnation() <= incarnation {
		tb.Fatalf("reopened as %s %d after %s %d", s.NodeID(), s.Incarnation(), nodeID, incarnation)
	}
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	return nodeID, incarnation, nil
}

func TestOpenOfDamagedFiles(t *testing.T) {
	valid, _, _ := validFile(t)
	random := make([]byte, len(valid))
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	ones := bytes.Repeat([]byte{0xff}, len(valid))
	page := os.Getpagesize()
	metaPages := 2 * page
	for name, file := range map[string][]byte{
		"one byte":        {0},
		"text":            []byte("this is not a database\n"),
		"garbage":         random,
		"zeros":           make([]byte, len(valid)),
		"ones":            ones,
		"header only":     valid[:100],
		"first page only": valid[:page],
		"meta pages only": valid[:metaPages],
		"half":            valid[:len(valid)/2],
		"no data":         append(bytes.Clone(valid[:metaPages]), make([]byte, len(valid)-metaPages)...),
		"garbage data":    append(bytes.Clone(valid[:metaPages]), random[metaPages:]...),
		"data of ones":    append(bytes.Clone(valid[:metaPages]), ones[metaPages:]...),
		"no meta pages":   append(make([]byte, metaPages), valid[metaPages:]...),
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := openDamaged(t, file); err == nil {
				t.Error("Open = nil, want ErrCorrupt")
			}
		})
	}
	t.Run("empty", func(t *testing.T) { // a crash at the very first start
		if _, incarnation, err := openDamaged(t, nil); err != nil || incarnation != 1 {
			t.Errorf("Open = incarnation %d, %v, want 1", incarnation, err)
		}
	})
	t.Run("one meta page gone", func(t *testing.T) {
		for _, at := range []int{0, page} {
			checkNoReuse(t, append(append(bytes.Clone(valid[:at]), make([]byte, page)...), valid[at+page:]...))
		}
	})
}

// checkNoReuse opens a damaged copy of validFile and checks that no incarnation is used twice.
func checkNoReuse(t *testing.T, file []byte) {
	t.Helper()
	if _, incarnation, err := openDamaged(t, file); err == nil && incarnation <= 5 {
		t.Fatalf("incarnation %d was used before", incarnation)
	}
}

func TestOpenOfRandomDamage(t *testing.T) {
	valid, nodeID, last := validFile(t)
	random := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for round := range 400 {
		file := bytes.Clone(valid)
		switch round % 4 {
		case 0: // one bit
			file[random.IntN(len(file))] ^= 1 << random.IntN(8)
		case 1: // one bit of a page's header
			page := os.Getpagesize()
			file[random.IntN(len(file)/page)*page+random.IntN(64)] ^= 1 << random.IntN(8)
		case 2: // a few bytes in a row
			at := random.IntN(len(file) - 16)
			for i := range 1 + random.IntN(16) {
				file[at+i] = byte(random.Uint32())
			}
		case 3:
			file = file[:1+random.IntN(len(file)-1)]
		}
		gotID, incarnation, err := openDamaged(t, file)
		if err != nil {
			refused++
			continue
		}
		if gotID != nodeID || incarnation <= last {
			t.Fatalf("round %d: opened as %s %d after %s %d", round, gotID, incarnation, nodeID, last)
		}
	}
	if refused < 50 {
		t.Errorf("%d of 400 damaged files were refused, want at least the truncated ones", refused)
	}
}

func FuzzOpen(f *testing.F) {
	valid, _, _ := validFile(f)
	f.Add(uint16(0), []byte{}, uint32(len(valid)))
	f.Add(uint16(8), []byte{0xff, 0xff, 0xff, 0xff}, uint32(len(valid)))
	for at := 8; at < len(valid); at += os.Getpagesize() {
		f.Add(uint16(at), []byte{0x02, 0, 0xff, 0xff, 0, 0, 0, 0x80}, uint32(len(valid)))
	}
	f.Fuzz(func(t *testing.T, at uint16, patch []byte, size uint32) {
		file := bytes.Clone(valid)
		copy(file[int(at)%len(file):], patch)
		_, _, _ = openDamaged(t, file[:int(size)%(len(file)+1)])
	})
}
