package main

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// controlListener sets TCP_USER_TIMEOUT, which accepted connections inherit: without it the kernel takes what we write to a peer whose
// cable was pulled, and tries for a quarter of an hour to deliver it.
func controlListener(deadAfter time.Duration) func(network, address string, conn syscall.RawConn) error {
	return func(_, _ string, conn syscall.RawConn) error {
		var err error
		controlErr := conn.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()))
		})
		return errors.Join(controlErr, err)
	}
}
