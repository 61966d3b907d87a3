//go:build !linux

package port

import (
	"syscall"
	"time"
)

// controlDeadAfter leaves it to TCP's keep-alive and to the callers' timeouts to notice a peer that is gone.
func controlDeadAfter(time.Duration) func(network, address string, conn syscall.RawConn) error {
	return nil
}
