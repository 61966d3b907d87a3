// Package e2e tests the real binary from outside, as its users meet it: over HTTP, event streams and the command line.
//
// Every request, answer and event is checked against openapi.yaml on the way, except where a test sends what the contract forbids.
package e2e

import (
	"flag"
	"os"
	"testing"

	"rollcall/tests/program"
)

var binary *program.Binary

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8") // unless the command line says otherwise: most tests wait for a lease to end, not for a processor
	os.Exit(program.Main(m, &binary))
}
