package program

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is how long tests wait for what should come at once. It is for machines under load.
const Patience = 30 * time.Second

// Eventually waits until ok returns true. The rest says what for.
func Eventually(tb testing.TB, ok func() bool, format string, args ...any) {
	tb.Helper()
	for deadline := time.Now().Add(Patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", Patience, fmt.Sprintf(format, args...))
		}
	}
}

// Program is a run of the binary.
type Program struct {
	tb             testing.TB
	cmd            *exec.Cmd
	stdout, stderr output
	ended          chan struct{} // closed when the process has ended
	waited         bool          // the test has asked for the exit code
}

// Start runs the binary. At the end of the test the program is stopped with SIGTERM if it still runs, and must then exit with code 0.
func (b *Binary) Start(tb testing.TB, args ...string) *Program { return b.start(tb, nil, args) }

// start is Start, with a place for what goes to stderr; nil keeps it for Stderr and the checks.
func (b *Binary) start(tb testing.TB, stderr io.Writer, args []string) *Program {
	tb.Helper()
	p := &Program{tb: tb, cmd: exec.Command(b.Path, args...), ended: make(chan struct{})}
	if stderr == nil {
		stderr = &p.stderr
	}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = environment(), &p.stdout, stderr
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // Wait returns the exit code
	}()
	tb.Cleanup(p.cleanup)
	return p
}

func (p *Program) cleanup() {
	p.tb.Helper()
	if !p.waited {
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(); code != 0 {
			p.tb.Errorf("%s: exit code %d after SIGTERM, want 0; stderr:\n%s", p, code, p.Stderr())
		}
	}
	if at := faults.FindStringIndex(p.Stderr()); at != nil {
		p.tb.Errorf("%s has written to stderr: …%.6000s", p, p.Stderr()[max(0, at[0]-200):])
	}
}

// faults are what the program never writes to stderr, whatever it is asked for.
var faults = regexp.MustCompile(`DATA RACE|panic|fatal error|level=ERROR|"level":"ERROR"`)

// String names the command.
func (p *Program) String() string { return "rollcall " + strings.Join(p.cmd.Args[1:], " ") }

// Stdout returns what was written there until now.
func (p *Program) Stdout() string { return p.stdout.String() }

// Stderr returns what was written there until now.
func (p *Program) Stderr() string { return p.stderr.String() }

// AwaitStdout waits until stdout matches, and returns the match and its groups.
func (p *Program) AwaitStdout(pattern string) []string {
	p.tb.Helper()
	var match []string
	found := func() bool {
		match = regexp.MustCompile(pattern).FindStringSubmatch(p.Stdout())
		return match != nil
	}
	for deadline := time.Now().Add(Patience); !found(); {
		select {
		case <-p.ended:
			if !found() {
				p.tb.Fatalf("%s has ended with code %d; stdout, without %q:\n%s\nstderr:\n%s",
					p, p.cmd.ProcessState.ExitCode(), pattern, p.Stdout(), p.Stderr())
			}
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.tb.Fatalf("%s: not within %v: %q on stdout, which is:\n%s\nstderr:\n%s", p, Patience, pattern, p.Stdout(), p.Stderr())
		}
	}
	return match
}

// Signal sends a signal, if the program still runs.
func (p *Program) Signal(signal os.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.tb.Errorf("%s: %v", p, err)
	}
}

// Kill ends the program as a crash does, and waits until it is gone.
func (p *Program) Kill() {
	p.tb.Helper()
	p.Signal(syscall.SIGKILL)
	p.Wait()
}

// Resume lets a program go on that is suspended.
func (p *Program) Resume() { p.Signal(syscall.SIGCONT) }

// Running tells whether the program has not ended.
func (p *Program) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Wait waits for the program's end and returns its exit code, -1 if it was killed. One that does not end is made to show its goroutines.
func (p *Program) Wait() int {
	p.tb.Helper()
	p.waited = true
	select {
	case <-p.ended:
	case <-time.After(Patience):
		p.Signal(syscall.SIGQUIT)
		<-p.ended
		p.tb.Errorf("%s has not ended within %v; stderr:\n%s", p, Patience, p.Stderr())
	}
	return p.cmd.ProcessState.ExitCode()
}

// output is a buffer that one goroutine writes and others read.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}
