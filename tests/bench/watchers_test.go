//go:build linux

package bench

import (
	"bytes"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rollcall/tests/program"
)

// watchers are many open streams that one goroutine reads, by epoll: a goroutine each would cost more than the node that is measured.
type watchers struct {
	b       *testing.B
	node    *program.Node
	address unix.SockaddrInet4
	epoll   int
	onEvent func(watcher int, event []byte, at time.Time) // called by the goroutine
	bytes   atomic.Int64                                  // received, all of HTTP and below it nothing

	mu      sync.Mutex
	streams map[int32]*watching // by file descriptor

	stopping atomic.Bool
	stopped  sync.WaitGroup
}

// watching is one stream.
type watching struct {
	number int
	head   bool // the answer's head has come
	chunks chunks
	text   []byte // of which no whole event has come
}

// watch returns watchers that have no stream yet. They hang up when the benchmark ends.
func watch(b *testing.B, n *program.Node, onEvent func(watcher int, event []byte, at time.Time)) *watchers {
	b.Helper()
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	address := netip.MustParseAddrPort(n.Addr())
	w := &watchers{
		b: b, node: n, epoll: epoll, onEvent: onEvent,
		address: unix.SockaddrInet4{Addr: address.Addr().As4(), Port: int(address.Port())},
		streams: map[int32]*watching{},
	}
	w.stopped.Go(w.readAll)
	b.Cleanup(w.close)
	return w
}

// open opens one more stream, without waiting for the answer.
func (w *watchers) open(path string) {
	w.b.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		w.b.Fatal(err)
	}
	if err := unix.Connect(fd, &w.address); err != nil {
		w.b.Fatal(err)
	}
	if _, err := unix.Write(fd, request("GET", path, "")); err != nil {
		w.b.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		w.b.Fatal(err)
	}
	w.mu.Lock()
	w.streams[int32(fd)] = &watching{number: len(w.streams)}
	w.mu.Unlock()
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		w.b.Fatal(err)
	}
}

// close hangs up.
func (w *watchers) close() {
	if w.stopping.Swap(true) {
		return
	}
	w.stopped.Wait()
	for fd := range w.streams {
		unix.Close(int(fd))
	}
	unix.Close(w.epoll)
}

// readAll is the goroutine.
func (w *watchers) readAll() {
	ready := make([]unix.EpollEvent, 256)
	buffer := make([]byte, 256<<10)
	for !w.stopping.Load() {
		n, err := unix.EpollWait(w.epoll, ready, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			w.b.Error(err)
			return
		}
		for _, event := range ready[:max(n, 0)] {
			size, err := unix.Read(int(event.Fd), buffer)
			switch {
			case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
				continue
			case err != nil || size == 0:
				w.b.Errorf("a stream has ended: %v", err)
				return
			}
			w.mu.Lock()
			stream := w.streams[event.Fd]
			w.mu.Unlock()
			w.read(stream, buffer[:size])
		}
	}
}

var (
	endOfHead  = []byte("\r\n\r\n")
	endOfEvent = []byte("\n\n")
)

// read takes what has come on one stream.
func (w *watchers) read(s *watching, data []byte) {
	at := time.Now()
	w.bytes.Add(int64(len(data)))
	if !s.head {
		s.text = append(s.text, data...)
		end := bytes.Index(s.text, endOfHead)
		if end < 0 {
			return
		}
		if !bytes.HasPrefix(s.text, []byte("HTTP/1.1 200 ")) {
			w.b.Errorf("a stream was refused: %.500s", s.text)
		}
		data, s.head, s.text = s.text[end+len(endOfHead):], true, nil
	}
	s.text = s.chunks.appendTo(s.text, data)
	rest := s.text
	for {
		end := bytes.Index(rest, endOfEvent)
		if end < 0 {
			break
		}
		w.onEvent(s.number, rest[:end], at)
		rest = rest[end+len(endOfEvent):]
	}
	if len(rest) == 0 {
		s.text = nil // idle streams hold nothing
	} else {
		s.text = append([]byte(nil), rest...)
	}
}
