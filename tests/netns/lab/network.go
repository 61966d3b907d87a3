//go:build linux

package lab

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Network is hosts and the links between them. All links work at first. Its methods may be called at any time, from any goroutine.
type Network struct {
	Hosts []*Host

	tb    testing.TB
	wg    sync.WaitGroup
	bytes atomic.Int64

	mu       sync.RWMutex
	byAddr   map[netip.Addr]*Host
	lastAddr netip.Addr
	links    map[direction]*link
	delay    time.Duration // of every packet
	loss     float64       // of every packet, 0 to 1
}

// direction is a link, from one end.
type direction struct{ from, to *Host }

// link is one direction of a link.
type link struct {
	cut     bool         // guarded by Network.mu
	delayed chan delayed // closed by Network.close
}

// delayed is a packet on its way.
type delayed struct {
	packet []byte
	due    time.Time
}

// maxDelayed bounds the packets on their way in one direction; more are lost, as in a router.
const maxDelayed = 1 << 14

// NewNetwork makes a network of n hosts, a, b, c and so on, which ends with the test.
func NewNetwork(tb testing.TB, n int) *Network {
	tb.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		tb.Fatal("the ip command is missing: install iproute2 (apt-get install iproute2, or make deps as root)")
	}
	if os.Geteuid() != 0 {
		tb.Fatal("this test makes network namespaces, which needs root: run it as root")
	}
	network := &Network{
		tb: tb, byAddr: map[netip.Addr]*Host{}, lastAddr: netip.MustParseAddr("10.213.78.0"), links: map[direction]*link{},
	}
	tb.Cleanup(network.close)
	for i := range n {
		network.addHost(string(rune('a' + i)))
	}
	for _, h := range network.Hosts {
		network.wg.Go(h.forward)
	}
	return network
}

func (n *Network) addHost(name string) {
	n.tb.Helper()
	h := newHost(n, name)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range n.Hosts {
		for _, d := range []direction{{h, other}, {other, h}} {
			l := &link{delayed: make(chan delayed, maxDelayed)}
			n.links[d] = l
			n.wg.Go(func() { l.deliver(d.to) })
		}
	}
	n.Hosts = append(n.Hosts, h)
}

// takeAddr gives h an address that nobody has had.
func (n *Network) takeAddr(h *Host) netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.byAddr, h.addr)
	n.lastAddr = n.lastAddr.Next()
	n.byAddr[n.lastAddr] = h
	h.addr = n.lastAddr
	return h.addr
}

func (n *Network) close() {
	for _, h := range n.Hosts {
		h.close()
	}
	n.mu.Lock()
	for _, l := range n.links {
		close(l.delayed)
	}
	n.links = nil
	n.mu.Unlock()
	n.wg.Wait()
}

// Cut cuts the link between a and b.
func (n *Network) Cut(a, b *Host) { n.cut(direction{a, b}, direction{b, a}) }

// CutOneWay lets nothing go from one host to the other, while the way back works.
func (n *Network) CutOneWay(from, to *Host) { n.cut(direction{from, to}) }

// Split cuts every link between a host of the group and one that is not.
func (n *Network) Split(group ...*Host) {
	for _, in := range group {
		for _, other := range n.Hosts {
			if !slices.Contains(group, other) {
				n.Cut(in, other)
			}
		}
	}
}

func (n *Network) cut(directions ...direction) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, d := range directions {
		n.links[d].cut = true
	}
}

// Heal makes every link work again. It leaves what Impair did.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		l.cut = false
	}
}

// Impair delays every packet, so that a round trip takes twice that, and loses a share of them, from 0 to 1, by chance. Zeros end it.
func (n *Network) Impair(delay time.Duration, loss float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay, n.loss = delay, loss
}

// Bytes is how much the hosts have sent each other, IP headers included, whether or not it arrived.
func (n *Network) Bytes() int64 { return n.bytes.Load() }

// pass takes a packet that from has sent.
func (n *Network) pass(from *Host, packet []byte) {
	destination, ok := destinationOf(packet)
	if !ok {
		return
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	to := n.byAddr[destination]
	l := n.links[direction{from, to}]
	if l == nil {
		return // to nobody
	}
	n.bytes.Add(int64(len(packet)))
	switch {
	case l.cut, rand.Float64() < n.loss:
	case n.delay == 0:
		to.receive(packet)
	default:
		select {
		case l.delayed <- delayed{slices.Clone(packet), time.Now().Add(n.delay)}:
		default:
		}
	}
}

// deliver is the goroutine of a direction's delayed packets, in their order.
func (l *link) deliver(to *Host) {
	for d := range l.delayed {
		time.Sleep(time.Until(d.due))
		to.receive(d.packet)
	}
}

// destinationOf returns where an IPv4 packet goes. Others, such as IPv6's search for routers, go nowhere.
func destinationOf(packet []byte) (netip.Addr, bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(packet[16:20])
}
