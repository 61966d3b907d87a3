package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		cancel(fmt.Errorf("signal: %v", <-signals))
		<-signals // a second one does not wait for anything
		os.Exit(exitFailure)
	}()
	os.Exit(run(ctx, os.Args[1:], newConsole(os.Stdout, os.Stderr)))
}
