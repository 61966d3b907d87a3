package port

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// controlDeadAfter sets TCP_USER_TIMEOUT, which accepted connections inherit: without it the kernel tries for a quarter of an hour to
// deliver what we write to a peer that is gone.
func controlDeadAfter(deadAfter time.Duration) func(network, address string, conn syscall.RawConn) error {
	return func(_, _ string, conn syscall.RawConn) error {
		var err error
		controlErr := conn.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()))
		})
		return errors.Join(controlErr, err)
	}
}
