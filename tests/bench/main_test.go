//go:build linux

// Package bench measures the real binary from outside. It reports figures and judges none: what a machine can do is its own affair.
//
// The load comes from this process, on the same processors as the node. Therefore its client is as cheap as it can be, and what a call costs
// the node is taken from /proc/PID/stat rather than from how long the call took. After the benchmarks, which print as Go's do, comes a table with
// the median of all runs (go test -count) and how far the runs lie apart.
package bench

import (
	"os"
	"testing"

	"rollcall/tests/program"
)

var (
	binary *program.Binary
	bare   *program.Binary // see bare_test.go
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		serveBare()
		return
	}
	bare = &program.Binary{Path: os.Args[0]}
	code := program.Main(m, &binary)
	results.print(os.Stdout)
	os.Exit(code)
}
