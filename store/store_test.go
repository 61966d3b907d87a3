package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"rollcall/store"
)

// holdDir makes this test binary a process that opens the directory it names, prints its incarnation and holds it until it is killed.
const holdDir = "ROLLCALL_TEST_HOLD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writeJournalDir); dir != "" {
		fmt.Fprintln(os.Stderr, writeJournal(dir))
		os.Exit(1)
	}
	if dir := os.Getenv(holdDir); dir != "" {
		os.Exit(hold(dir))
	}
	if dir := os.Getenv(writeRaftLog); dir != "" {
		os.Exit(writeForEver(dir))
	}
	os.Exit(m.Run())
}

func hold(dir string) int {
	s, err := store.Open(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.Incarnation())
	_, _ = io.Copy(io.Discard, os.Stdin) // for ever, or until the test that started it is gone
	return 0
}

// startHolder starts such a process, waits until it has the directory, and returns its incarnation and a way to kill it.
func startHolder(t *testing.T, dir string) (incarnation uint64, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdDir+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = stdin.Close()
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the holder said nothing: %v", err)
	}
	incarnation, err = strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return incarnation, kill
}

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// reopen opens and closes dir and returns what it read.
func reopen(t *testing.T, dir string) (nodeID string, incarnation uint64) {
	t.Helper()
	s := open(t, dir)
	defer closeStore(t, s)
	return s.NodeID(), s.Incarnation()
}

func TestOpenKeepsTheNodeIDAndRaisesTheIncarnation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	id, first := reopen(t, dir)
	if !regexp.MustCompile(`^[a-z2-7]{16}$`).MatchString(id) {
		t.Errorf("NodeID = %q, want 16 of a-z2-7", id)
	}
	if first != 1 {
		t.Errorf("Incarnation of a new directory = %d, want 1", first)
	}
	for want := first + 1; want < first+20; want++ {
		gotID, got := reopen(t, dir)
		if gotID != id || got != want {
			t.Fatalf("reopened: node %s incarnation %d, want %s %d", gotID, got, id, want)
		}
	}
	if other, _ := reopen(t, t.TempDir()); other == id {
		t.Errorf("two directories have the node id %s", id)
	}
}

func TestOpenMakesTheDirectoryForItsUserOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	reopen(t, dir)
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "rollcall.db"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %s = %o, want %o", path, got, want)
		}
	}
}

func TestIncarnationRisesOverKilledProcesses(t *testing.T) {
	dir := t.TempDir()
	var last uint64
	for range 5 {
		incarnation, kill := startHolder(t, dir)
		kill()
		if incarnation <= last {
			t.Fatalf("incarnation %d after %d", incarnation, last)
		}
		last = incarnation
	}
	if _, got := reopen(t, dir); got <= last {
		t.Errorf("incarnation %d after %d", got, last)
	}
}

func TestOpenRefusesADirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	_, kill := startHolder(t, dir)
	checkLocked(t, dir) // by another process
	kill()
	s := open(t, dir)
	checkLocked(t, dir) // by this one
	closeStore(t, s)
	reopen(t, dir)
}

func checkLocked(t *testing.T, dir string) {
	t.Helper()
	s, err := store.Open(dir)
	if err == nil {
		closeStore(t, s)
	}
	if !errors.Is(err, store.ErrLocked) {
		t.Fatalf("Open of a directory in use = %v, want ErrLocked", err)
	}
	for _, part := range []string{dir, "another rollcall is using it", "--data-dir"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error %q does not contain %q", err, part)
		}
	}
}

func TestOpenRefusesWhatIsNoDataDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "taken", "rollcall.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below"), filepath.Join(dir, "taken")} {
		_, err := store.Open(path)
		if !errors.Is(err, store.ErrUnreadable) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%s) = %v, want ErrUnreadable with the path", path, err)
		}
	}
}

func TestOpenLeavesOtherDatabasesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rollcall.db")
	editDB(t, path, func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("theirs"))
		return err
	})
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(filepath.Dir(path))
	if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("Open of another program's database = %v, want ErrCorrupt that says so", err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("Open changed another program's database")
	}
}

func TestOpenStartsADatabaseThatWasNeverFilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rollcall.db")
	editDB(t, path, func(*bbolt.Tx) error { return nil })
	if _, incarnation := reopen(t, filepath.Dir(path)); incarnation != 1 {
		t.Errorf("incarnation %d, want 1", incarnation)
	}
}

func editDB(t *testing.T, path string, edit func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(edit), db.Close()); err != nil {
		t.Fatal(err)
	}
}
