package main

import (
	"context"
	"fmt"
	"net"
	"time"
)

// listenError says why an address cannot be listened on.
type listenError struct {
	flag  string // that says addr
	addr  string
	cause error
}

func (e *listenError) Error() string {
	return fmt.Sprintf("cannot listen on %s: %v; choose another %s", e.addr, e.cause, e.flag)
}

func (e *listenError) Unwrap() error { return e.cause }

// listen opens the public port. Unless open is set, the address must be a loopback one. A connection whose peer has acknowledged nothing
// for deadAfter is closed where the system can do that.
func listen(addr string, open bool, deadAfter time.Duration) (net.Listener, error) {
	resolved, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, &listenError{"--addr", addr, err}
	}
	if !open && !resolved.IP.IsLoopback() {
		return nil, usageError{fmt.Errorf("--addr %s can be reached from other machines, and without authentication whoever reaches it may "+
			"read and change everything: use a loopback address such as 127.0.0.1:7700, or accept that with --insecure-open", addr)}
	}
	config := net.ListenConfig{
		Control: controlListener(deadAfter),
		// For connections that are idle; on the others deadAfter comes first.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	listener, err := config.Listen(context.Background(), "tcp", resolved.String())
	if err != nil {
		return nil, &listenError{"--addr", addr, err}
	}
	return listener, nil
}
