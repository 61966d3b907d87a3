package store_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"rollcall/store"
)

// writeRaftLog makes this test binary a process that writes entries to the raft log in the directory it names, and prints the index of
// each that is written, until it is killed.
const writeRaftLog = "ROLLCALL_TEST_WRITE_RAFT_LOG"

func entry(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 7, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(index)}, int(index)%500)}
}

func writeForEver(dir string) int {
	s, err := store.Open(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	log, err := s.OpenRaftLog()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	last, err := log.LastIndex()
	for index := last + 1; err == nil; index++ {
		if err = log.StoreLog(entry(index)); err == nil {
			_, err = fmt.Println(index)
		}
		if first := index - min(index, 30); index%40 == 0 && err == nil {
			err = errors.Join(log.DeleteRange(1, first), log.SetUint64([]byte("CurrentTerm"), index))
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func TestRaftLogIsThereOnlyOnceItIsOpened(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "raft.db")
	s := open(t, dir)
	defer closeStore(t, s)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a node without a cluster has a raft.db (%v)", err)
	}
	log, err := s.OpenRaftLog()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenRaftLog(); !errors.Is(err, store.ErrLocked) {
		t.Errorf("OpenRaftLog of an open one = %v, want ErrLocked", err)
	}
	for index := uint64(1); index <= 50; index++ {
		if err := log.StoreLog(entry(index)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(log.DeleteRange(1, 20), log.Set([]byte("a"), []byte("b")), log.Close()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode of raft.db = %o, want 600", got)
	}
	if log, err = s.OpenRaftLog(); err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	checkEntries(t, log, 21, 50)
	if got, err := log.Get([]byte("a")); string(got) != "b" || err != nil {
		t.Errorf("Get = %q, %v, want b", got, err)
	}
}

// checkEntries checks that log has exactly these entries, and what they say.
func checkEntries(t *testing.T, log *store.RaftLog, wantFirst, wantLast uint64) {
	t.Helper()
	first, err := log.FirstIndex()
	last, lastErr := log.LastIndex()
	if err := errors.Join(err, lastErr); err != nil || first != wantFirst || last != wantLast {
		t.Fatalf("log from %d to %d, %v, want from %d to %d", first, last, err, wantFirst, wantLast)
	}
	for index := first; index <= last; index++ {
		var got raft.Log
		if err := log.GetLog(index, &got); err != nil {
			t.Fatalf("entry %d: %v", index, err)
		}
		if want := entry(index); got.Index != index || got.Term != want.Term || !bytes.Equal(got.Data, want.Data) {
			t.Fatalf("entry %d = %+v, want %+v", index, got, want)
		}
	}
}

func TestRaftLogOverKilledProcesses(t *testing.T) {
	dir := t.TempDir()
	for round := range 8 {
		written := writeAndKill(t, dir, 20+rand.IntN(50))
		s := open(t, dir)
		log, err := s.OpenRaftLog()
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		first, err := log.FirstIndex()
		last, lastErr := log.LastIndex()
		if err := errors.Join(err, lastErr); err != nil || last < written {
			t.Fatalf("round %d: last entry %d, %v, and %d was written", round, last, err, written)
		}
		checkEntries(t, log, first, last)
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
	}
}

// writeAndKill kills a process in the middle of its writing, after it has told of a number of entries, and returns the last of them.
func writeAndKill(t *testing.T, dir string, entries int) (written uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writeRaftLog+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for range entries {
		if !lines.Scan() {
			_ = cmd.Wait()
			t.Fatalf("the writer ended: %s", stderr.String())
		}
		if written, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return written
}

func TestOpenRaftLogOfDamagedFiles(t *testing.T) {
	valid := validRaftLog(t)
	page := os.Getpagesize()
	for name, file := range map[string][]byte{
		"text":            []byte("this is not a database\n"),
		"zeros":           make([]byte, len(valid)),
		"half":            valid[:len(valid)/2],
		"meta pages only": valid[:2*page],
		"no data":         append(bytes.Clone(valid[:2*page]), make([]byte, len(valid)-2*page)...),
	} {
		t.Run(name, func(t *testing.T) {
			if log := openDamagedRaftLog(t, file); log {
				t.Error("OpenRaftLog = nil, want ErrCorrupt")
			}
		})
	}
	random := rand.New(rand.NewPCG(5, 6))
	refused := 0
	for round := range 200 {
		file := bytes.Clone(valid)
		switch round % 3 {
		case 0:
			file[random.IntN(len(file))] ^= 1 << random.IntN(8)
		case 1:
			file[random.IntN(len(file)/page)*page+random.IntN(64)] ^= 1 << random.IntN(8)
		case 2:
			file = file[:1+random.IntN(len(file)-1)]
		}
		if !openDamagedRaftLog(t, file) {
			refused++
		}
	}
	if refused < 50 {
		t.Errorf("%d of 200 damaged files were refused, want at least the truncated ones", refused)
	}
}

func validRaftLog(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	defer closeStore(t, s)
	log, err := s.OpenRaftLog()
	if err != nil {
		t.Fatal(err)
	}
	for index := uint64(1); index <= 60; index++ {
		if err := log.StoreLog(entry(index)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(log.DeleteRange(1, 10), log.SetUint64([]byte("CurrentTerm"), 3), log.Close()); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// openDamagedRaftLog checks that such a raft.db is refused clearly, or can be read and written, and tells which.
func openDamagedRaftLog(t *testing.T, file []byte) (opened bool) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "raft.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	defer closeStore(t, s)
	log, err := s.OpenRaftLog()
	if err != nil {
		if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "--join") {
			t.Fatalf("OpenRaftLog = %v, want ErrCorrupt that names the path and says what to do", err)
		}
		if _, again := s.OpenRaftLog(); !errors.Is(again, store.ErrCorrupt) {
			t.Fatalf("OpenRaftLog = %v, and the next one %v: want the same refusal", err, again)
		}
		return false
	}
	if err := errors.Join(log.Set([]byte("k"), []byte("v")), log.Close()); err != nil {
		t.Fatal(err)
	}
	return true
}

func TestOpenRaftLogLeavesOtherDatabasesAlone(t *testing.T) {
	dir := t.TempDir()
	editDB(t, filepath.Join(dir, "raft.db"), func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("theirs"))
		return err
	})
	s := open(t, dir)
	defer closeStore(t, s)
	if _, err := s.OpenRaftLog(); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("OpenRaftLog of another program's database = %v, want ErrCorrupt that says so", err)
	}
}
