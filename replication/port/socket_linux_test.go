package port

import (
	"context"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestConnectionsNoticeDeadPeers(t *testing.T) {
	const deadAfter = 7 * time.Second
	l, err := listen("127.0.0.1:0", deadAfter)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := dialer(deadAfter).DialContext(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	for name, conn := range map[string]net.Conn{"dialled": dialled, "accepted": accepted} {
		for option, want := range map[int]int{unix.TCP_USER_TIMEOUT: 7000, unix.TCP_KEEPINTVL: 2, unix.TCP_KEEPCNT: 3} {
			if got := socketOption(t, conn, option); got != want {
				t.Errorf("%s: TCP option %d is %d, want %d", name, option, got, want)
			}
		}
	}
}

func socketOption(t *testing.T, conn net.Conn, option int) int {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var value int
	controlErr := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option) })
	if controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	return value
}
