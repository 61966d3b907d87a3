package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// Binary is a program that was built.
type Binary struct {
	Path string
	dir  string
}

// Build builds cmd/rollcall, with the race detector if the test program itself has it. It is for TestMain; call Remove afterwards.
func Build() (*Binary, error) {
	dir, err := os.MkdirTemp("", "rollcall-test-")
	if err != nil {
		return nil, fmt.Errorf("build the program: %w", err)
	}
	b := &Binary{Path: filepath.Join(dir, "rollcall"), dir: dir}
	args := []string{"build", "-buildvcs=false", "-o", b.Path}
	if RaceDetector() {
		args = append(args, "-race")
	}
	output, err := exec.Command("go", append(args, "rollcall/cmd/rollcall")...).CombinedOutput()
	if err != nil {
		b.Remove()
		return nil, fmt.Errorf("build the program: %w\n%s", err, output)
	}
	return b, nil
}

// Remove deletes the binary.
func (b *Binary) Remove() { _ = os.RemoveAll(b.dir) }

// RaceDetector tells whether this test program has the race detector.
func RaceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, setting := range info.Settings {
		if setting.Key == "-race" {
			return setting.Value == "true"
		}
	}
	return false
}

// Main is TestMain for packages that test the program: it builds it, keeps it in binary while the tests run, and returns their exit code.
func Main(m *testing.M, binary **Binary) int {
	built, err := Build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer built.Remove()
	*binary = built
	return m.Run()
}

// environment is this process's without the settings of rollcall that may be in it.
func environment() []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "ROLLCALL_") {
			env = append(env, entry)
		}
	}
	return append(env, "GORACE=atexit_sleep_ms=10")
}
