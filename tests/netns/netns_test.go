// Package netns cuts the network between a node and its clients, and between the nodes of a cluster, and looks whether they notice in the time that
// their flags promise, and find together again.
//
// It needs Linux, root and the ip command of iproute2. Where it has not, it fails and says so.
package netns

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/program"
)

const (
	serverIP = "10.213.77.1"
	clientIP = "10.213.77.2"

	keepAlive = time.Second
	linger    = time.Second
)

// readURL makes this test binary a client that opens the stream it names and prints each line.
const readURL = "ROLLCALL_TEST_READ_URL"

var binary *program.Binary

func TestMain(m *testing.M) {
	if url := os.Getenv(readURL); url != "" {
		os.Exit(read(url))
	}
	_ = flag.Set("test.parallel", "4") // unless the command line says otherwise: most tests wait for a time-out, not for a processor
	os.Exit(program.Main(m, &binary))
}

func read(url string) int {
	response, err := http.Get(url)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer response.Body.Close()
	for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
		fmt.Println(scanner.Text())
	}
	return 0
}

// network is two network namespaces with a cable between them.
type network struct{ server, client string }

var networks atomic.Int32

func newNetwork(t *testing.T) network {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Fatal("the ip command is missing: install iproute2 (apt-get install iproute2, or make deps as root)")
	}
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces, which needs root: run it as root")
	}
	id := fmt.Sprintf("%d-%d", os.Getpid(), networks.Add(1))
	n := network{server: "rollcall-server-" + id, client: "rollcall-client-" + id}
	for _, name := range []string{n.server, n.client} {
		if output, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
			t.Fatalf("no network namespace can be made here (%v: %s): run this as root on Linux; in a container, with CAP_NET_ADMIN and CAP_SYS_ADMIN",
				err, bytes.TrimSpace(output))
		}
		t.Cleanup(func() { ip(t, "netns", "del", name) })
	}
	ip(t, "link", "add", "server0", "netns", n.server, "type", "veth", "peer", "name", "client0", "netns", n.client)
	ip(t, "-n", n.server, "addr", "add", serverIP+"/24", "dev", "server0")
	ip(t, "-n", n.client, "addr", "add", clientIP+"/24", "dev", "client0")
	for _, link := range []string{"lo", "server0"} {
		ip(t, "-n", n.server, "link", "set", link, "up")
	}
	ip(t, "-n", n.client, "link", "set", "client0", "up")
	return n
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if output, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %v: %s", strings.Join(args, " "), err, bytes.TrimSpace(output))
	}
}

// process runs in one of the namespaces until the test ends.
type process struct {
	t     *testing.T
	lines chan string // of stdout
}

func start(t *testing.T, namespace string, env []string, command ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", namespace}, command...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, lines: make(chan string, 1000)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return p
}

// await returns the first line that matches pattern, and its groups.
func (p *process) await(pattern string, within time.Duration) []string {
	p.t.Helper()
	wanted, deadline := regexp.MustCompile(pattern), time.After(within)
	for {
		select {
		case line := <-p.lines:
			if match := wanted.FindStringSubmatch(line); match != nil {
				return match
			}
		case <-deadline:
			p.t.Fatalf("no line %q within %v", pattern, within)
		}
	}
}

// scene is a node on one side, and on the other a client that is present as Alice by an open stream.
type scene struct {
	network
	watch *process // of the topic, beside the node
	alice *process
	url   string
}

const patience = 10 * time.Second // for what does not depend on the network that is cut

func newScene(t *testing.T, writeTimeout time.Duration) *scene {
	t.Helper()
	s := &scene{network: newNetwork(t)}
	node := start(t, s.server, nil, binary.Path, "serve", "--addr="+serverIP+":0", "--insecure-open", "--data-dir="+t.TempDir(), "--log-level=error",
		"--keepalive="+keepAlive.String(), "--write-timeout="+writeTimeout.String())
	s.url = node.await("^rollcall is ready on (.*)$", patience)[1]
	s.watch = start(t, s.server, nil, binary.Path, "watch", "lobby", "--url="+s.url)
	s.watch.await("^0 people", patience)
	s.alice = start(t, s.client, []string{fmt.Sprintf("%s=%s/v1/topics/lobby/events?key=Alice&linger=%d", readURL, s.url, int(linger.Seconds()))}, os.Args[0])
	s.watch.await(`^\+ Alice$`, patience)
	for range 2 {
		s.alice.await("^:", patience) // a keep-alive, so all before it has arrived
	}
	return s
}

func TestNodeNoticesThatTheNetworkIsCut(t *testing.T) {
	// The next keep-alive is not acknowledged for the write timeout; then the session lingers. The rest is for timers that are late.
	const writeTimeout = 2 * time.Second
	const promised = keepAlive + writeTimeout + linger + 2*time.Second
	for name, cut := range map[string]func(t *testing.T, s *scene){
		"cable pulled":      func(t *testing.T, s *scene) { ip(t, "-n", s.client, "link", "set", "client0", "down") },
		"packets disappear": func(t *testing.T, s *scene) { ip(t, "-n", s.client, "addr", "flush", "dev", "client0") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, writeTimeout)
			cutAt := time.Now()
			cut(t, s)
			s.watch.await("^- Alice$", promised)
			t.Logf("gone after %v; promised are %v", time.Since(cutAt), promised)
		})
	}
}

func TestNodeForgivesAShortCut(t *testing.T) {
	t.Parallel()
	s := newScene(t, 10*time.Second)
	ip(t, "-n", s.client, "link", "set", "client0", "down")
	start(t, s.server, nil, binary.Path, "track", "lobby", "Bob", "--url="+s.url) // must reach Alice's stream all the same
	s.watch.await(`^\+ Bob$`, patience)
	ip(t, "-n", s.client, "link", "set", "client0", "up")
	s.alice.await(`^data: .*Bob`, patience)
	s.alice.await("^:", patience)
	select {
	case line := <-s.watch.lines:
		t.Errorf("the watcher saw %q, want nothing", line)
	default:
	}
}
