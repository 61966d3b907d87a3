//go:build linux

package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// device is the name of each host's interface.
const device = "net0"

// Host is a network namespace with one interface.
type Host struct {
	Name    string
	network *Network

	namespace int        // descriptor
	cable     *os.File   // the interface's other end
	addr      netip.Addr // guarded by network.mu
}

// newHost makes a host. When it cannot, the test ends.
func newHost(n *Network, name string) *Host {
	n.tb.Helper()
	h := &Host{Name: name, network: n, namespace: -1}
	var err error
	inThread(func() { err = h.enterNew() })
	if err != nil {
		h.close()
		n.tb.Fatalf("no host can be made here (%v): run this as root on Linux; in a container, with CAP_NET_ADMIN, CAP_SYS_ADMIN and /dev/net/tun", err)
	}
	h.Move()
	return h
}

// inThread runs f in a thread of its own, which ends with it: what f does to its thread touches nobody else.
func inThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever, so the thread ends with the goroutine
		f()
	}()
	<-done
}

// enterNew makes a namespace with its devices.
func (h *Host) enterNew() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("new network namespace: %w", err)
	}
	var err error
	if h.namespace, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	if h.cable, err = openTUN(); err != nil {
		return err
	}
	return ip("link", "set", "lo", "up")
}

// openTUN makes the interface in the namespace of this thread.
func openTUN() (*os.File, error) {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	request, err := unix.NewIfreq(device)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (h *Host) close() {
	if h.cable != nil {
		_ = h.cable.Close()
	}
	if h.namespace >= 0 {
		_ = unix.Close(h.namespace)
	}
}

// forward is the goroutine that takes what the host sends.
func (h *Host) forward() {
	packet := make([]byte, 64<<10)
	for {
		size, err := h.cable.Read(packet)
		if err != nil {
			return // closed
		}
		h.network.pass(h, packet[:size])
	}
}

// receive gives the host a packet. One that it does not take, because its queue is full, is lost.
func (h *Host) receive(packet []byte) { _, _ = h.cable.Write(packet) }

// Addr is the host's address.
func (h *Host) Addr() string {
	h.network.mu.RLock()
	defer h.network.mu.RUnlock()
	return h.addr.String()
}

// Move gives the host another address and takes away the one it had. No process should run there that listens on it.
func (h *Host) Move() {
	h.network.tb.Helper()
	addr := h.network.takeAddr(h)
	var err error
	h.Do(func() {
		for _, command := range []string{
			"addr flush dev " + device,
			"addr add " + addr.String() + "/24 dev " + device,
			"link set " + device + " up mtu 1500 txqueuelen 10000",
		} {
			if err == nil {
				err = ip(strings.Fields(command)...)
			}
		}
	})
	if err != nil {
		h.network.tb.Fatal(err)
	}
}

func ip(args ...string) error {
	if output, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(output))
	}
	return nil
}

// Do runs f on the host: sockets that it opens and processes that it starts, in its own goroutine, are there.
func (h *Host) Do(f func()) {
	h.network.tb.Helper()
	inThread(func() {
		if err := unix.Setns(h.namespace, unix.CLONE_NEWNET); err != nil {
			h.network.tb.Errorf("host %s: %v", h.Name, err)
			return
		}
		f()
	})
}

// Listen opens a TCP port of the host.
func (h *Host) Listen(port int) (net.Listener, error) {
	l, err := net.Listener(nil), error(nil)
	h.Do(func() { l, err = net.Listen("tcp", fmt.Sprintf("%s:%d", h.Addr(), port)) })
	return l, err
}

// DialContext opens a connection from the host. addr is an IP address and a port.
func (h *Host) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := net.Conn(nil), error(nil)
	h.Do(func() { conn, err = (&net.Dialer{}).DialContext(ctx, network, addr) })
	return conn, err
}

// transport makes HTTP requests from the host, until the test ends.
func (h *Host) transport() http.RoundTripper {
	t := &http.Transport{DialContext: h.DialContext, MaxIdleConnsPerHost: 32}
	h.network.tb.Cleanup(t.CloseIdleConnections)
	return t
}
