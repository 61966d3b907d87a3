// Package restart kills, stops and starts real nodes while many clients use them, and checks that nobody who watches can tell.
//
// The tests run at a size that suits every build. With ROLLCALL_LONG=1 in the environment they run at full size, for which they take
// some minutes, and -v shows what was measured.
package restart

import (
	"flag"
	"os"
	"testing"

	"rollcall/tests/program"
)

var binary *program.Binary

const (
	long       = "ROLLCALL_LONG"
	builtPath  = "ROLLCALL_TEST_BINARY" // of the binary, for a test that runs in a process of its own
	inParallel = "2"                    // tests: they wait for leases more than for processors, but a node that gets none is taken for one that is down
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", inParallel)
	if path := os.Getenv(builtPath); path != "" {
		binary = &program.Binary{Path: path}
		os.Exit(m.Run())
	}
	os.Exit(program.Main(m, &binary))
}

// scaled returns full in a long run, else brief.
func scaled[T any](brief, full T) T {
	if os.Getenv(long) != "" {
		return full
	}
	return brief
}
