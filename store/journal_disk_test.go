//go:build linux

package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dirty is a caller of a journal: it keeps what could not be written, and all that there is.
type dirty struct {
	j       *Journal
	all     map[string]Record
	pending map[string]bool
}

func openDirty(t *testing.T, dir string, config JournalConfig) *dirty {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	j, err := OpenJournal(dir, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() }) // where the test ends early
	return &dirty{j: j, all: map[string]Record{}, pending: map[string]bool{}}
}

// change makes or ends a few sessions.
func (d *dirty) change(round, sessions int) {
	for i := range sessions {
		key := fmt.Sprintf("session-%d-%d", round, i)
		d.all[key] = Record{Key: key, Value: make([]byte, 500), Deadline: time.Unix(1_900_000_000, 0)}
		d.pending[key] = true
		old := fmt.Sprintf("session-%d-%d", round-20, i)
		if _, ok := d.all[old]; ok {
			delete(d.all, old)
			d.pending[old] = true
		}
	}
}

// write writes what is pending, and all if the journal says so.
func (d *dirty) write() error {
	var batch []Record
	for key := range d.pending {
		r := d.all[key]
		r.Key = key
		batch = append(batch, r)
	}
	err := d.j.Write(batch)
	if errors.Is(err, ErrJournalReset) {
		for key := range d.all {
			d.pending[key] = true
		}
		return d.write()
	}
	if err == nil {
		clear(d.pending)
	}
	return err
}

// wantStored closes the journal and checks that it has everything.
func (d *dirty) wantStored(t *testing.T, dir string) {
	t.Helper()
	if err := d.j.Close(); err != nil {
		t.Fatal(err)
	}
	j, err := OpenJournal(dir, JournalConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}()
	n := 0
	if err := j.Load(func(r Record) error {
		n++
		if want, ok := d.all[r.Key]; !ok || len(r.Value) != len(want.Value) || !r.Deadline.Equal(want.Deadline) {
			return fmt.Errorf("%s is not what was written (there: %v)", r.Key, ok)
		}
		return nil
	}); err != nil || n != len(d.all) {
		t.Fatalf("Load = %d records, %v, want %d", n, err, len(d.all))
	}
	if s := j.Stats(); s.Resets+s.Damaged != 0 {
		t.Fatalf("opened again: %+v, want nothing damaged", s)
	}
}

// wantFailing checks that writing fails as it should. What bbolt says of a file that it cannot extend keeps the text of the cause alone.
func (d *dirty) wantFailing(t *testing.T, round int, want ...error) {
	t.Helper()
	err := d.write()
	if err == nil || !slices.ContainsFunc(want, func(want error) bool { return strings.Contains(err.Error(), want.Error()) }) {
		t.Fatalf("round %d: Write = %v, want one of %v", round, err, want)
	}
	if s := d.j.Stats(); s.Failures == 0 || s.Err == nil {
		t.Fatalf("round %d: Stats = %+v, want it to tell of %v", round, s, err)
	}
}

func (d *dirty) wantWorking(t *testing.T, round int) {
	t.Helper()
	if err := d.write(); err != nil {
		t.Fatalf("round %d: Write = %v", round, err)
	}
	if s := d.j.Stats(); s.Err != nil || s.Records != len(d.all) {
		t.Fatalf("round %d: Stats = %+v, want %d records and no error", round, s, len(d.all))
	}
}

// TestJournalOnAFullDisk lets the file grow no further, at many sizes: there the kernel fails to extend it as it does on a full disk.
func TestJournalOnAFullDisk(t *testing.T) {
	if inChild(t, nil) { // the limit is the whole process's
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limit := func(bytes uint64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
	}
	dir := os.Getenv(childDir)
	d := openDirty(t, dir, JournalConfig{LeaseInterval: 1})
	failed := 0
	for round := range 40 {
		if round%4 == 0 {
			limit(uint64(d.j.Stats().Bytes) / 4096 * uint64(round%16) / 4 * 1024) // up to the present size
		}
		d.change(round, 20+round)
		if err := d.write(); err != nil {
			failed++
			if !strings.Contains(err.Error(), syscall.EFBIG.Error()) {
				t.Fatalf("round %d: Write = %v, want EFBIG", round, err)
			}
		}
		if round%4 == 3 {
			limit(before.Cur)
			d.wantWorking(t, round)
		}
	}
	if failed < 5 {
		t.Errorf("%d of 40 Writes failed, want the disk to have been full more often", failed)
	}
	d.wantStored(t, dir)
}

// TestJournalOnAReadOnlyDisk takes the right to write away from the descriptor that bbolt holds, as a disk does that the kernel
// remounts after an error.
func TestJournalOnAReadOnlyDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, journalName)
	remounted := false
	d := openDirty(t, dir, JournalConfig{LeaseInterval: 1, Fault: func(op string) error {
		if remounted && op == "open" {
			return syscall.EROFS
		}
		return nil
	}})
	for round := range 20 {
		d.change(round, 30)
		d.wantWorking(t, round)
		readOnly, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Dup3(int(readOnly.Fd()), int(d.j.file.file.Fd()), 0); err != nil {
			t.Fatal(err)
		}
		_ = readOnly.Close()
		remounted = true
		d.change(round+100, 30)
		d.wantFailing(t, round, syscall.EBADF, syscall.EINVAL)
		d.wantFailing(t, round, syscall.EROFS) // it tries to open the file again
		remounted = false
	}
	d.wantWorking(t, 20)
	d.wantStored(t, dir)
}

// TestJournalWithFailingOperations lets each operation on files fail in turn, also several, while the journal is damaged, too.
func TestJournalWithFailingOperations(t *testing.T) {
	operations := []string{"open", "create", "rename", "remove", "compact", "commit"}
	for _, op := range operations {
		for _, damaged := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/damaged=%v", op, damaged), func(t *testing.T) {
				dir, fault := t.TempDir(), false
				d := openDirty(t, dir, JournalConfig{Fault: func(got string) error {
					if fault && got == op {
						return syscall.ENOSPC
					}
					return nil
				}})
				d.change(0, 100)
				d.wantWorking(t, 0)
				fault = true
				if damaged {
					if err := os.Truncate(filepath.Join(dir, journalName), 5000); err != nil {
						t.Fatal(err)
					}
				}
				d.change(1, 100)
				fails := op == "commit" || damaged && op != "compact"
				for round := range 3 {
					if fails {
						d.wantFailing(t, round, syscall.ENOSPC)
					} else {
						d.wantWorking(t, round)
					}
				}
				fault = false
				d.wantWorking(t, 3)
				d.wantStored(t, dir)
			})
		}
	}
}

// TestJournalOpenedOnAFailingDisk: the node starts, and its sessions are on disk as soon as that works.
func TestJournalOpenedOnAFailingDisk(t *testing.T) {
	for _, op := range []string{"open", "create"} {
		t.Run(op, func(t *testing.T) {
			dir, fault := t.TempDir(), op == "create"
			config := JournalConfig{Fault: func(got string) error {
				if fault && got == op {
					return syscall.EIO
				}
				return nil
			}}
			if op == "open" { // there is one of the run before
				d := openDirty(t, dir, config)
				d.change(0, 10)
				d.wantWorking(t, 0)
				d.wantStored(t, dir)
				fault = true
			}
			d := openDirty(t, dir, config)
			if s := d.j.Stats(); !errors.Is(s.Err, syscall.EIO) {
				t.Errorf("Stats = %+v, want it to tell of the disk", s)
			}
			if err := d.j.Load(func(r Record) error { return fmt.Errorf("restored %s", r.Key) }); err != nil {
				t.Errorf("Load = %v", err)
			}
			d.change(1, 10)
			d.wantFailing(t, 0, syscall.EIO)
			fault = false
			d.wantWorking(t, 1)
			d.wantStored(t, dir)
		})
	}
}

// TestJournalDamagedBeforeLoadOnAFullDisk: the new file waits for the disk, too.
func TestJournalDamagedBeforeLoadOnAFullDisk(t *testing.T) {
	dir, fault := t.TempDir(), false
	before := openDirty(t, dir, JournalConfig{})
	before.change(0, 5000)
	before.wantWorking(t, 0)
	before.wantStored(t, dir)
	d := openDirty(t, dir, JournalConfig{Fault: func(op string) error {
		if fault && op == "create" {
			return syscall.ENOSPC
		}
		return nil
	}})
	if err := d.j.Load(func(r Record) error {
		d.all[r.Key] = Record{Key: r.Key, Value: make([]byte, len(r.Value)), Deadline: r.Deadline}
		if fault {
			return nil
		}
		fault = true
		return os.Truncate(filepath.Join(dir, journalName), 500_000)
	}); err != nil || len(d.all) == 0 || len(d.all) == 5000 {
		t.Fatalf("Load = %v with %d records, want a part of them", err, len(d.all))
	}
	if err := d.j.Stats().Err; !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Stats tell of %v, want ENOSPC", err)
	}
	d.wantFailing(t, 0, syscall.ENOSPC)
	fault = false
	d.wantWorking(t, 1)
	d.wantStored(t, dir)
}

// TestJournalDeletedWhileItCouldNotBeWritten: the journal does not take an empty file for its own.
func TestJournalDeletedWhileItCouldNotBeWritten(t *testing.T) {
	dir, fault := t.TempDir(), false
	d := openDirty(t, dir, JournalConfig{Fault: func(op string) error {
		if fault && op == "commit" {
			return syscall.ENOSPC
		}
		return nil
	}})
	d.change(0, 10)
	d.wantWorking(t, 0)
	fault = true
	d.change(1, 10)
	d.wantFailing(t, 1, syscall.ENOSPC)
	if err := os.Remove(filepath.Join(dir, journalName)); err != nil {
		t.Fatal(err)
	}
	fault = false
	d.wantWorking(t, 2)
	d.wantStored(t, dir)
}

// childDir names the directory of a process that runs one test of these.
const childDir = "ROLLCALL_TEST_CHILD_DIR"

// inChild runs the test in a process of its own and returns true, or returns false if this is that process.
func inChild(t *testing.T, attr *syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv(childDir) != "" {
		return false
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), childDir+"="+t.TempDir())
	cmd.SysProcAttr = attr
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return true
}

// TestJournalOnASmallFileSystem has other files take the space and give it back. It mounts a file system, for which it needs a kernel
// that lets every user have mounts of their own.
func TestJournalOnASmallFileSystem(t *testing.T) {
	if inChild(t, &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}) {
		return
	}
	dir := os.Getenv(childDir)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	d := openDirty(t, dir, JournalConfig{LeaseInterval: 1})
	for round := range 15 {
		d.change(round, 30)
		d.wantWorking(t, round)
		if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("round %d: filling the disk: %v", round, err)
		}
		var err error
		for meanwhile := round + 1000; err == nil; meanwhile += 100 { // until the free pages of the file are used up
			d.change(meanwhile, 30)
			d.j.Renew([]Lease{{Key: fmt.Sprintf("session-%d-0", round), Deadline: time.Unix(1_900_000_000, 0)}})
			err = d.write()
		}
		if !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
			t.Fatalf("round %d: Write to a full disk = %v, want ENOSPC", round, err)
		}
		for key := range d.all { // what came meanwhile ends again, so that all fits
			if len(key) > len("session-99-99") {
				delete(d.all, key)
				d.pending[key] = true
			}
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	d.wantWorking(t, 15)
	d.wantStored(t, dir)
}
