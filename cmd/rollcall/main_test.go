package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// asProgram makes this test binary the program itself.
const asProgram = "ROLLCALL_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// program is a run of the program as a process.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  chan string // of stdout; closed at its end
	stderr *lockedBuffer
}

func startProgram(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(os.Args[0], args...), lines: make(chan string, 100), stderr: &lockedBuffer{}}
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	p.cmd.Stderr = p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			p.wait()
		}
	})
	return p
}

// startServe starts a node and returns its URL.
func startServe(t *testing.T, dir string, args ...string) (p *program, url string) {
	t.Helper()
	p = startProgram(t, append([]string{"serve", "--addr=127.0.0.1:0", "--data-dir=" + dir}, args...)...)
	line, ok := p.line()
	match := regexp.MustCompile(`^rollcall is ready on (http://127\.0\.0\.1:\d+)$`).FindStringSubmatch(line)
	if !ok || match == nil {
		t.Fatalf("first line %q, want that rollcall is ready; stderr:\n%s", line, p.stderr)
	}
	return p, match[1]
}

// line returns the next line of stdout, or false at its end.
func (p *program) line() (string, bool) {
	p.t.Helper()
	select {
	case line, ok := <-p.lines:
		return line, ok
	case <-time.After(10 * time.Second):
		p.t.Fatalf("nothing on stdout for 10 s; stderr:\n%s", p.stderr)
		return "", false
	}
}

func (p *program) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// wait waits for the end and returns the exit code and what else came on stdout.
func (p *program) wait() (code int, rest []string) {
	p.t.Helper()
	timer := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Signal(syscall.SIGQUIT) }) // prints where it hangs
	defer timer.Stop()
	for line := range p.lines {
		rest = append(rest, line)
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode(), rest
}

// lockedBuffer is a bytes.Buffer for two goroutines.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func (b *lockedBuffer) Len() int { return len(b.String()) }

// recorded returns a console whose output is kept.
func recorded() (con *console, stdout, stderr *lockedBuffer) {
	stdout, stderr = &lockedBuffer{}, &lockedBuffer{}
	return &console{stdout: stdout, stderr: stderr}, stdout, stderr
}

// openStream opens a stream and reads it up to its state.
func openStream(t *testing.T, url string) (body io.ReadCloser, reader *bufio.Reader) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", url, response.Status)
	}
	reader = bufio.NewReader(response.Body)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "event: presence_state") {
			return response.Body, reader
		}
	}
}

func TestServeStopsOnSignals(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(sig.String(), func(t *testing.T) {
			p, url := startServe(t, t.TempDir(), "--drain=200ms")
			_, one := openStream(t, url+"/v1/topics/lobby/events")
			_, two := openStream(t, url+"/v1/topics/lobby/events?key=Alice")
			p.signal(sig)
			for _, stream := range []io.Reader{one, two} {
				if _, err := io.Copy(io.Discard, stream); err != nil {
					t.Errorf("a stream ended with %v, want a clean end", err)
				}
			}
			code, rest := p.wait()
			if code != exitFine || len(rest) != 0 {
				t.Errorf("exit code %d and %q on stdout, want 0 and nothing more; stderr:\n%s", code, rest, p.stderr)
			}
		})
	}
}

func TestServeStopsAtOnceOnASecondSignal(t *testing.T) {
	p, url := startServe(t, t.TempDir(), "--drain=1h")
	for range 50 { // the drain time is for many
		openStream(t, url+"/v1/topics/lobby/events")
	}
	stalled, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")) // a request without an end keeps the node waiting
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close()
	if _, err := io.WriteString(stalled, "POST /v1/heartbeats HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGTERM) // together with the first, so it does not count
	eventually(t, func() bool { return strings.Contains(p.stderr.String(), "stopping") })
	ended := make(chan struct{})
	var impatience sync.WaitGroup
	impatience.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(20 * time.Millisecond):
				_ = p.cmd.Process.Signal(syscall.SIGTERM)
			}
		}
	})
	code, _ := p.wait()
	close(ended)
	impatience.Wait()
	if code != exitFailure {
		t.Errorf("exit code %d, want 1", code)
	}
}

func TestServeNeedsADataDirectoryOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	startServe(t, dir)
	second := startProgram(t, "serve", "--addr=127.0.0.1:0", "--data-dir="+dir)
	code, _ := second.wait()
	if code != exitData || !strings.Contains(second.stderr.String(), "another rollcall is using it") {
		t.Errorf("exit code %d, %q; want 3 and why", code, second.stderr)
	}
}

func TestServeRefusesADamagedDataFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rollcall.db"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	con, _, stderr := recorded()
	code := run(t.Context(), []string{"serve", "--addr=127.0.0.1:0", "--data-dir=" + dir}, con)
	if code != exitData || !strings.Contains(stderr.String(), "rollcall.db is damaged or not rollcall's") {
		t.Errorf("exit code %d, %q; want 3 and why", code, stderr)
	}
}

func TestServeReportsAnAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	con, _, stderr := recorded()
	code := run(t.Context(), []string{"serve", "--addr=" + taken.Addr().String(), "--data-dir=" + t.TempDir()}, con)
	if code != exitListen || !strings.Contains(stderr.String(), "cannot listen on "+taken.Addr().String()) {
		t.Errorf("exit code %d, %q; want 4 and the address", code, stderr)
	}
}

func TestServeListensBeyondLoopbackOnlyWhenTold(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0"} {
		con, _, stderr := recorded()
		code := run(t.Context(), []string{"serve", "--addr=" + addr, "--data-dir=" + t.TempDir()}, con)
		if code != exitUsage || !strings.Contains(stderr.String(), "--insecure-open") {
			t.Errorf("--addr %s: exit code %d, %q; want 2 and what to do", addr, code, stderr)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	con, stdout, stderr := recorded()
	code := run(ctx, []string{"serve", "--addr=0.0.0.0:0", "--insecure-open", "--data-dir=" + t.TempDir()}, con)
	if code != exitFine || !strings.HasPrefix(stdout.String(), "rollcall is ready on http://") {
		t.Errorf("--insecure-open: exit code %d, %q, %q; want 0", code, stdout, stderr)
	}
}

func TestServeGreetsOnlyPeople(t *testing.T) {
	for terminal, lines := range map[bool]int{true: 5, false: 1} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		con, stdout, stderr := recorded()
		con.terminal = terminal
		if code := run(ctx, []string{"serve", "--addr=localhost:0", "--data-dir=" + t.TempDir()}, con); code != exitFine {
			t.Fatalf("exit code %d, %q", code, stderr)
		}
		if got := strings.Count(stdout.String(), "\n"); got != lines || strings.Contains(stdout.String(), "/demo") != terminal {
			t.Errorf("terminal %v: stdout is %q, want %d lines", terminal, stdout, lines)
		}
	}
}

func TestServeLogsAsTold(t *testing.T) {
	for args, want := range map[string]string{
		"--log-format=text":                   `level=INFO msg=serving`,
		"--log-format=json":                   `"level":"INFO","msg":"serving"`,
		"--log-format=json --log-level=debug": `"level":"INFO","msg":"serving"`,
		"--log-level=error":                   "",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		con, _, stderr := recorded()
		code := run(ctx, append([]string{"serve", "--addr=127.0.0.1:0", "--data-dir=" + t.TempDir()}, strings.Fields(args)...), con)
		if code != exitFine || !strings.Contains(stderr.String(), want) || want == "" && stderr.Len() > 0 {
			t.Errorf("%s: exit code %d, log %q; want 0, %q", args, code, stderr, want)
		}
	}
}

// eventually waits until ok returns true.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within 10 s")
		}
	}
}
