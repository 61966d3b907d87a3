//go:build linux

package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollcall/tests/program"
)

var binary *program.Binary

func TestMain(m *testing.M) {
	code := program.Main(m, &binary)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const (
	echoPort = 7
	soon     = 20 * time.Second
	never    = 300 * time.Millisecond // how long tests wait for what must not come
)

// newEchoes makes a network in which each host echoes.
func newEchoes(t *testing.T, n int) (*Network, []*Host) {
	t.Helper()
	network := NewNetwork(t, n)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	for _, h := range network.Hosts {
		l, err := h.Listen(echoPort)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		wg.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() {
					defer conn.Close()
					_ = conn.SetDeadline(time.Now().Add(time.Minute))
					_, _ = io.Copy(conn, conn)
				})
			}
		})
	}
	return network, network.Hosts
}

// ask sends a byte over a connection and waits for its echo.
func ask(conn net.Conn, within time.Duration) error {
	_ = conn.SetDeadline(time.Now().Add(within))
	if _, err := conn.Write([]byte{1}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

func connect(from, to *Host, within time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return from.DialContext(ctx, "tcp", net.JoinHostPort(to.Addr(), "7"))
}

func mustConnect(t *testing.T, from, to *Host) net.Conn {
	t.Helper()
	conn, err := connect(from, to, soon)
	if err != nil {
		t.Fatalf("%s to %s: %v", from.Name, to.Name, err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := ask(conn, soon); err != nil {
		t.Fatalf("%s to %s: %v", from.Name, to.Name, err)
	}
	return conn
}

// reachable checks which pairs of hosts can talk; the others must not.
func reachable(t *testing.T, hosts []*Host, pairs string) {
	t.Helper()
	var wg sync.WaitGroup
	for i, from := range hosts {
		for _, to := range hosts[i+1:] {
			want := strings.Contains(pairs, from.Name+to.Name)
			wg.Go(func() {
				within := never
				if want {
					within = soon
				}
				for _, pair := range [][2]*Host{{from, to}, {to, from}} {
					conn, err := connect(pair[0], pair[1], within)
					if err == nil {
						err = ask(conn, within)
						conn.Close()
					}
					if (err == nil) != want {
						t.Errorf("%s to %s: %v, want success: %v", pair[0].Name, pair[1].Name, err, want)
					}
				}
			})
		}
	}
	wg.Wait()
}

func TestNetworkIsCutAndHealed(t *testing.T) {
	t.Parallel()
	network, hosts := newEchoes(t, 4)
	a, b, c, d := hosts[0], hosts[1], hosts[2], hosts[3]
	for _, step := range []struct {
		what  string
		do    func()
		pairs string
	}{
		{"nothing", func() {}, "ab ac ad bc bd cd"},
		{"one link", func() { network.Cut(a, b) }, "ac ad bc bd cd"},
		{"and one more", func() { network.Cut(d, c) }, "ac ad bc bd"},
		{"healed", network.Heal, "ab ac ad bc bd cd"},
		{"two and two", func() { network.Split(a, c) }, "ac bd"},
		{"healed again", network.Heal, "ab ac ad bc bd cd"},
		{"one way, which no TCP survives", func() { network.CutOneWay(a, d) }, "ab ac bc bd cd"},
	} {
		t.Log(step.what)
		step.do()
		reachable(t, hosts, step.pairs)
	}
}

func TestConnectionOutlivesACut(t *testing.T) {
	t.Parallel()
	network, hosts := newEchoes(t, 2)
	conn := mustConnect(t, hosts[0], hosts[1])
	network.Cut(hosts[0], hosts[1])
	if err := ask(conn, never); err == nil {
		t.Fatal("an echo over a cut link")
	}
	network.Heal()
	_ = conn.SetReadDeadline(time.Now().Add(soon))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("after healing: %v, want the echo that was not sent again", err)
	}
}

// What goes one way arrives; nothing comes back.
func TestCutIsOneWay(t *testing.T) {
	t.Parallel()
	network := NewNetwork(t, 2)
	a, b := network.Hosts[0], network.Hosts[1]
	sockets := map[*Host]net.PacketConn{}
	for _, h := range network.Hosts {
		var socket net.PacketConn
		var err error
		h.Do(func() { socket, err = net.ListenPacket("udp", h.Addr()+":9") })
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		sockets[h] = socket
	}
	network.CutOneWay(a, b)
	for _, test := range []struct {
		from, to *Host
		within   time.Duration
		arrives  bool
	}{{a, b, never, false}, {b, a, soon, true}} {
		to := sockets[test.to].LocalAddr()
		if _, err := sockets[test.from].WriteTo([]byte("hello"), to); err != nil {
			t.Fatal(err)
		}
		_ = sockets[test.to].SetReadDeadline(time.Now().Add(test.within))
		if _, _, err := sockets[test.to].ReadFrom(make([]byte, 5)); (err == nil) != test.arrives {
			t.Errorf("%s to %s: %v, want it to arrive: %v", test.from.Name, test.to.Name, err, test.arrives)
		}
	}
}

func TestImpair(t *testing.T) {
	t.Parallel()
	network, hosts := newEchoes(t, 2)
	conn := mustConnect(t, hosts[0], hosts[1])
	roundTrip := func() time.Duration {
		t.Helper()
		began := time.Now()
		if err := ask(conn, soon); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	network.Impair(100*time.Millisecond, 0)
	if took := roundTrip(); took < 200*time.Millisecond || took > 2*time.Second {
		t.Errorf("a round trip takes %v, want 200ms", took)
	}
	network.Impair(0, 1)
	if err := ask(conn, never); err == nil {
		t.Error("a round trip although every packet is lost")
	}
	network.Impair(10*time.Millisecond, 0.2)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil { // the one that was lost
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("abcdefgh"), 4<<10)
	go func() { _, _ = conn.Write(sent) }()
	echo := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, echo); err != nil || !bytes.Equal(echo, sent) {
		t.Errorf("32 KiB over a network that loses a fifth: %v, equal: %v", err, bytes.Equal(echo, sent))
	}
	network.Impair(0, 0)
	if took := roundTrip(); took > 100*time.Millisecond {
		t.Errorf("a round trip takes %v on a good network", took)
	}
}

func TestHostMoves(t *testing.T) {
	t.Parallel()
	network := NewNetwork(t, 2)
	a, b := network.Hosts[0], network.Hosts[1]
	old := b.Addr()
	b.Move()
	l, err := b.Listen(echoPort)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := connect(a, b, soon)
	if err != nil {
		t.Fatalf("to the new address: %v", err)
	}
	conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), never)
	defer cancel()
	if conn, err := a.DialContext(ctx, "tcp", old+":7"); err == nil {
		conn.Close()
		t.Error("the old address still answers")
	}
}

func TestProcessesRunOnTheirHost(t *testing.T) {
	t.Parallel()
	network := NewNetwork(t, 1)
	h := network.Hosts[0]
	var output []byte
	var err error
	h.Do(func() { output, err = exec.Command("ip", "-4", "-brief", "addr", "show", "dev", device).Output() })
	if err != nil || !strings.Contains(string(output), h.Addr()+"/24") {
		t.Errorf("ip addr on host %s: %q, %v, want %s", h.Name, output, err, h.Addr())
	}
	if output, err := exec.Command("ip", "addr", "show", "dev", device).CombinedOutput(); err == nil {
		t.Errorf("a process elsewhere sees the device: %s", output)
	}
}

func TestNetworksLeaveNothingBehind(t *testing.T) {
	before := openFiles(t)
	for range 5 {
		t.Run("network", func(t *testing.T) {
			_, hosts := newEchoes(t, 3)
			mustConnect(t, hosts[0], hosts[2])
		})
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d open sockets, devices and namespaces, before it were %d", after, before)
	}
}

// openFiles counts the descriptors of this process that are sockets, TUN devices or namespaces.
func openFiles(t *testing.T) int {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, file := range files {
		target, _ := os.Readlink(file)
		if strings.HasPrefix(target, "socket:") || strings.HasPrefix(target, "net:") || strings.HasSuffix(target, "/tun") {
			count++
		}
	}
	return count
}
