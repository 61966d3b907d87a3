package e2e

import (
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/program"
)

// proxy returns the URL of a proxy to the node, which checks what a command of the program sends and gets.
func (n *node) proxy() string {
	target, err := url.Parse(n.URL)
	if err != nil {
		n.t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     n.http.Transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // of commands that hang up
	})
	n.t.Cleanup(func() {
		proxy.CloseClientConnections()
		proxy.Close()
	})
	return proxy.URL
}

func TestTrackIsPresentUntilCtrlC(t *testing.T) {
	t.Parallel()
	n := serve(t)
	w := n.watch(lobbyEvents)
	w.nextState()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		p := binary.Start(t, "track", "room:lobby", "Alice", `--meta={"device":"phone"}`, "--ttl=1h", "--url="+n.proxy())
		p.AwaitStdout(`^Alice is present in room:lobby: ref \S{16}, ttl 1h0m0s\. Ctrl-C to leave\.\n$`)
		joined := w.nextDiff().Joins["Alice"].Metas
		if len(joined) != 1 || joined[0].AdditionalProperties["device"] != "phone" {
			t.Errorf("joined %+v, want a phone", joined)
		}
		p.Signal(signal)
		if left := w.nextDiff().Leaves["Alice"].Metas; len(left) != 1 || left[0].PhxRef != joined[0].PhxRef { // long before the ttl
			t.Errorf("left %+v, want ref %s", left, joined[0].PhxRef)
		}
		if code := p.Wait(); code != 0 || !strings.HasSuffix(p.Stdout(), "\nAlice has left room:lobby.\n") || p.Stderr() != "" {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q; want 0 and nothing on stderr", signal, code, p.Stdout(), p.Stderr())
		}
	}
}

func TestTrackKeepsItsLeaseAndLosesItWhenKilled(t *testing.T) {
	t.Parallel()
	n := serve(t)
	p := binary.Start(t, "track", "room:lobby", "Alice", "--ttl=3s", "--url="+n.proxy())
	p.AwaitStdout("^Alice is present")
	n.track("room:lobby", `{"key":"clock","ttl":4}`)
	w := n.watch(lobbyEvents)
	w.until("Alice alone", func(state rollcallclient.PresenceState) bool {
		return len(state["Alice"].Metas) == 1 && len(state["clock"].Metas) == 0
	})
	p.Signal(syscall.SIGKILL)
	p.Wait()
	w.until("nobody", func(state rollcallclient.PresenceState) bool { return len(state) == 0 })
}

func TestWatchPrintsWhatHappens(t *testing.T) {
	t.Parallel()
	n := serve(t)
	alice := n.track("room:lobby", `{"key":"Alice"}`)
	p := binary.Start(t, "watch", "room:lobby", "--url="+n.proxy())
	lines := "1 person on 1 device\n  Alice\n"
	saw := func(line string) {
		t.Helper()
		lines += line
		p.AwaitStdout("^" + regexp.QuoteMeta(lines) + "$")
	}
	saw("")
	n.track("room:lobby", `{"key":"Bob","session":"bobs-phone-00001"}`)
	saw("+ Bob\n")
	second := n.track("room:lobby", `{"key":"Alice"}`)
	saw("+ Alice (2 devices)\n")
	n.call(200, "PUT", presenceOf("room:lobby", "Bob"), `{"session":"bobs-phone-00001","meta":{"status":"away"}}`)
	saw("~ Bob {\"status\":\"away\"}\n")
	n.leave(second.Session)
	saw("- Alice (1 device)\n")
	n.leave(alice.Session)
	saw("- Alice\n")

	many := binary.Start(t, "watch", "room:lobby", "room:attic", "--json", "--url="+n.proxy())
	many.AwaitStdout(`"topic":"room:attic","data":\{\}\}\n`)
	bob := n.track("room:attic", `{"key":"Bob"}`)
	many.AwaitStdout(`\n\{"event":"presence_diff","id":"\S+","topic":"room:attic","data":\{"joins":\{"Bob":\{"metas":\[\{"phx_ref":"` + bob.Ref + `"\}\]\}\},"leaves":\{\}\}\}\n$`)
	for _, p := range []*program.Program{p, many} {
		p.Signal(os.Interrupt)
		if code := p.Wait(); code != 0 || p.Stderr() != "" {
			t.Errorf("%s: exit code %d, stderr %q; want 0 and nothing", p, code, p.Stderr())
		}
	}
}

// run runs a command to its end.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := binary.Start(t, args...)
	code = p.Wait()
	return code, p.Stdout(), p.Stderr()
}

func TestTopicsAndCountPrintWhatThereIs(t *testing.T) {
	t.Parallel()
	n := serve(t)
	for _, body := range []string{`{"key":"Alice"}`, `{"key":"Alice"}`, `{"key":"Bob"}`} {
		n.track("room:lobby", body)
	}
	n.track("room:attic", `{"key":"Bob"}`)
	n.track("elsewhere", `{"key":"Bob"}`)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"count", "room:lobby"}, "2 people on 3 devices\n"},
		{[]string{"count", "room:attic"}, "1 person on 1 device\n"},
		{[]string{"count", "room:none", "--json"}, `{"keys":0,"metas":0}` + "\n"},
		{[]string{"topics", "--prefix=room:"}, "PEOPLE  DEVICES  TOPIC\n1       1        room:attic\n2       3        room:lobby\n"},
		{[]string{"topics", "--prefix=nope"}, ""},
		{[]string{"topics", "--prefix=e", "--json"}, `{"keys":1,"metas":1,"topic":"elsewhere"}` + "\n"},
	} {
		code, stdout, stderr := run(t, append(test.args, "--url="+n.proxy())...)
		if code != 0 || stdout != test.want || stderr != "" {
			t.Errorf("rollcall %v: exit code %d, stdout %q, stderr %q; want %q", test.args, code, stdout, stderr, test.want)
		}
	}
}

func TestVersionSaysWhatRuns(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := run(t, "version")
	want := regexp.MustCompile(`^rollcall \S+ \(` + regexp.QuoteMeta(runtime.Version()) + ` \w+/\w+\)\n$`)
	if code != 0 || !want.MatchString(stdout) || stderr != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q; want %s", code, stdout, stderr, want)
	}
}

func TestExitCodesSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	n := serve(t)
	damaged, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, "rollcall.db"), []byte("this is not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	nowhere := "--url=http://" + free.Addr().String()
	serveWith := func(flags ...string) []string { // of a flag that is given twice the last counts
		return append([]string{"serve", "--addr=127.0.0.1:0", "--data-dir=" + dir}, flags...)
	}
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{serveWith("--data-dir=" + n.DataDir), 3, "another rollcall is using it"},
		{serveWith("--data-dir=" + damaged), 3, "damaged"},
		{serveWith("--data-dir=/dev/null/x"), 3, "/dev/null/x"},
		{serveWith("--addr=" + n.Addr()), 4, "cannot listen on " + n.Addr()},
		{serveWith("--addr=0.0.0.0:0"), 2, "--insecure-open"},
		{serveWith("--addr=:0"), 2, "--insecure-open"},
		{serveWith("--max-tll=1h"), 2, "--max-tll"},
		{serveWith("--max-ttl=soon"), 2, "--max-ttl"},
		{serveWith("--max-ttl=10s"), 2, "--default-ttl"},
		{serveWith("--keepalive=1ms"), 2, "--keepalive"},
		{serveWith("--log-level=loud"), 2, "--log-level"},
		{serveWith("--config=/dev/null/x"), 2, "/dev/null/x"},
		{[]string{"sreve"}, 2, "sreve"},
		{[]string{"track", "room:lobby"}, 2, "key"},
		{[]string{"watch"}, 2, "topic"},
		{[]string{"track", "room:lobby", "Alice", "--meta=[]"}, 2, "--meta"},
		{[]string{"count", "room:lobby", "--url=nonsense"}, 2, "--url"},
		{[]string{"count", "room:lobby", nowhere}, 1, "cannot reach"},
		{[]string{"watch", "room:lobby", nowhere}, 1, "cannot reach"},
		{[]string{"track", "room:lobby", "Alice", nowhere}, 1, "cannot reach"},
		{[]string{"count", "a\nb", "--url=" + n.URL}, 1, "topic"},
	} {
		code, stdout, stderr := run(t, test.args...)
		if code != test.code || !strings.Contains(stderr, test.says) || stdout != "" {
			t.Errorf("rollcall %q: exit code %d, stdout %q, stderr %q; want %d and %q", test.args, code, stdout, stderr, test.code, test.says)
		}
	}
	n.stillServes()
}
