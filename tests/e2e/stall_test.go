package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"

	"rollcall/tests/contract"
)

// stalled is an open stream whose client reads nothing but the head of the answer. Between the two sockets there is room for about 100 KiB.
type stalled struct {
	n    *node
	conn net.Conn
	body io.ReadCloser
}

// stall opens a stream and stops reading.
func (n *node) stall(path string) *stalled {
	n.t.Helper()
	s := &stalled{n: n}
	dialer := net.Dialer{Control: func(_, _ string, conn syscall.RawConn) (err error) {
		controlErr := conn.Control(func(fd uintptr) {
			err = errors.Join(
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400), // loopback's own makes the node's buffer megabytes
			)
		})
		return errors.Join(controlErr, err)
	}}
	base := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		s.conn, err = dialer.DialContext(ctx, network, addr)
		return s.conn, err
	}}
	client := &http.Client{Transport: &contract.Transport{TB: n.t, Base: base, Requests: true}}
	s.body = n.openStream(context.Background(), client, path, nil).Body
	n.t.Cleanup(s.hangUp)
	return s
}

// hangUp closes the connection.
func (s *stalled) hangUp() { s.conn.Close() }

// resume reads on.
func (s *stalled) resume() *watcher {
	w, ctx := newWatcher(s.n)
	context.AfterFunc(ctx, s.hangUp)
	go w.read(ctx, s.body)
	return w
}

func TestOneWhoTakesNothingIsCutOffAndItsSessionEnds(t *testing.T) {
	t.Parallel()
	n := serve(t, "--write-timeout=1s", "--max-meta=1MiB", "--max-body=2MiB")
	n.fill("room:huge")
	w := n.watch(lobbyEvents)
	w.nextState()
	n.stall("/v1/events?topic=room:huge&topic=room:lobby&key=Alice&linger=0")
	if joins := w.nextDiff().Joins; len(joins) != 1 {
		t.Errorf("joined %v, want Alice", devices(joins))
	}
	if leaves := w.nextDiff().Leaves; len(leaves["Alice"].Metas) != 1 {
		t.Errorf("left %v, want Alice", devices(leaves))
	}
	if streams, cutOff := n.metric("rollcall_streams"), n.metric("rollcall_streams_cut_off_total"); streams != 1 || cutOff != 1 {
		t.Errorf("%v streams, %v cut off; want 1 and 1", streams, cutOff)
	}
}
