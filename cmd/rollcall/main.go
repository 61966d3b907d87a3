package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		cancel(fmt.Errorf("signal: %v", <-signals))
		awaitImpatience(signals)
		os.Exit(exitFailure)
	}()
	os.Exit(run(ctx, os.Args[1:], newConsole(os.Stdout, os.Stderr)))
}

// awaitImpatience returns when somebody does not want to wait for a stop in good order. A second signal that comes together with the first
// is none: programs that run others, timeout(1) for one, send theirs to the process and to its group.
func awaitImpatience(signals <-chan os.Signal) {
	const together = 100 * time.Millisecond
	for first := time.Now(); time.Since(first) < together; {
		<-signals
	}
}
