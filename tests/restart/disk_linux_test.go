package restart

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rollcall/tests/program"
)

// mountPoint names the directory of a process that runs one test of these, with mounts of its own.
const mountPoint = "ROLLCALL_TEST_MOUNT_POINT"

// inNamespace runs the test in a process that may mount file systems, and returns true, or returns false if this is that process. It needs a kernel that
// lets every user have mounts of their own.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(mountPoint) != "" {
		return false
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), mountPoint+"="+t.TempDir(), builtPath+"="+binary.Path)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return true
}

// logged makes a binary whose log goes to a file: what is checked of other programs' logs, that they have no errors, does not hold where the disk fails.
func logged(t *testing.T) (b *program.Binary, log func() string) {
	t.Helper()
	dir := t.TempDir()
	file, script := filepath.Join(dir, "log"), filepath.Join(dir, "rollcall")
	text := fmt.Sprintf("#!/bin/sh\nexec %q \"$@\" 2>>%q\n", binary.Path, file)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	log = func() string {
		content, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(content)
	}
	t.Cleanup(func() {
		for _, fault := range []string{"DATA RACE", "panic", "fatal error"} {
			if strings.Contains(log(), fault) {
				t.Errorf("the log has %s:\n%s", fault, log())
			}
		}
	})
	return &program.Binary{Path: script}, log
}

// TestTheDiskFillsUp: the node says so wherever somebody may look, goes on, and stores everything when there is space again.
func TestTheDiskFillsUp(t *testing.T) {
	t.Parallel()
	if inNamespace(t) {
		return
	}
	disk := os.Getenv(mountPoint)
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	logging, log := logged(t)
	c := newCrowd(t, 10*time.Minute)
	flags := []string{"--addr=" + freeAddr(t), "--data-dir=" + filepath.Join(disk, "data"), "--default-ttl=10m", "--log-level=warn"}
	n := logging.Serve(t, flags...)
	c.serial("before", n.URL, 20)
	c.awaitJournal(n.URL)
	c.wantDurable(n.URL, true)

	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	for i := 0; c.metric(n.URL, "rollcall_journal_durable") == 1; i++ { // until the free pages of the file are used up
		if i > 200 {
			t.Fatal("the journal takes any number of sessions on a full disk")
		}
		c.serial(fmt.Sprintf("meanwhile-%d", i), n.URL, 20)
	}
	c.wantDurable(n.URL, false, "no space left on device")
	if !strings.Contains(log(), "the journal cannot be written") {
		t.Errorf("the log is\n%s\nwant it to tell of the journal", log())
	}
	c.serial("on the full disk", n.URL, 5)
	c.settle(nobody, n.URL)

	// The file is not open while it cannot be written, so the disk can become read-only as well, for whoever opens it.
	const bind = syscall.MS_BIND
	data := filepath.Join(disk, "data")
	if err := errors.Join(syscall.Mount(data, data, "", bind, ""), syscall.Mount("", data, "", bind|syscall.MS_REMOUNT|syscall.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	program.Eventually(t, func() bool {
		_, reason := c.ready(n.URL)
		return strings.Contains(reason, "read-only file system")
	}, "/readyz says that the disk is read-only")
	c.wantDurable(n.URL, false, "read-only file system")
	c.serial("on the read-only disk", n.URL, 5)

	if err := errors.Join(syscall.Unmount(data, syscall.MNT_DETACH), os.Remove(ballast)); err != nil {
		t.Fatal(err)
	}
	program.Eventually(t, func() bool { return c.metric(n.URL, "rollcall_journal_durable") == 1 }, "the journal is written again")
	c.awaitJournal(n.URL)
	c.wantDurable(n.URL, true)
	n.Kill()
	n = logging.Serve(t, flags...)
	c.settle(nobody, n.URL) // with all refs
}

// serial makes so many people present, who do nothing for it.
func (c *crowd) serial(name, node string, people int) {
	c.t.Helper()
	for i := range people {
		id := fmt.Sprintf("%s-%d", strings.ReplaceAll(name, " ", "-"), i)
		c.arrive(node, &person{topic: roomOf(0), key: id, session: "session-of-" + id})
	}
}

// wantDurable checks what a node says of its journal, with these words as the reason.
func (c *crowd) wantDurable(node string, durable bool, reasons ...string) {
	c.t.Helper()
	status, body := c.ready(node)
	want, metric := http.StatusOK, 1
	if !durable {
		want, metric = http.StatusServiceUnavailable, 0
		reasons = append(reasons, "durability is lost", "would not survive a restart")
	}
	if status != want {
		c.t.Errorf("/readyz: %d %s, want %d", status, body, want)
	}
	for _, reason := range reasons {
		if !strings.Contains(body, reason) {
			c.t.Errorf("/readyz says %s, want it to say %q", body, reason)
		}
	}
	if got := c.metric(node, "rollcall_journal_durable"); got != metric {
		c.t.Errorf("rollcall_journal_durable is %d, want %d", got, metric)
	}
}

// TestADamagedJournalIsSetAside: the node starts, says what it has done, and keeps its id and what happens from then on.
func TestADamagedJournalIsSetAside(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string, size int64) error{
		"torn":  func(path string, size int64) error { return os.Truncate(path, size/2+100) },
		"empty": func(path string, _ int64) error { return os.Truncate(path, 0) },
		"garbage": func(path string, size int64) error {
			return os.WriteFile(path, []byte(strings.Repeat("garbage ", int(size/8))), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logging, log := logged(t)
			dir := filepath.Join(t.TempDir(), "data")
			flags := []string{"--data-dir=" + dir, "--default-ttl=10m", "--log-level=warn"}
			c := newCrowd(t, 10*time.Minute)
			n := logging.Serve(t, flags...)
			c.serial("before", n.URL, 200)
			c.awaitJournal(n.URL)
			n.Kill()
			path := filepath.Join(dir, "journal.db")
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(path, info.Size()); err != nil {
				t.Fatal(err)
			}
			n = logging.Serve(t, flags...)
			aside, err := filepath.Glob(path + ".damaged-*")
			if err != nil || len(aside) != 1 || !strings.Contains(log(), "the session journal is damaged; it is set aside") || !strings.Contains(log(), path) {
				t.Errorf("set aside are %v, %v; want one file, of which the log tells:\n%s", aside, err, log())
			}
			c.wantDurable(n.URL, true)
			c.present = nil
			c.serial("after", n.URL, 20)
			c.awaitJournal(n.URL)
			n.Kill()
			n = logging.Serve(t, flags...)
			for _, p := range c.present {
				c.renew(n.URL, p)
			}
			if status, _ := c.ready(n.URL); status != http.StatusOK {
				t.Errorf("/readyz: %d, want 200", status)
			}
		})
	}
}
