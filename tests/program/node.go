package program

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Node is a run of rollcall serve.
type Node struct {
	*Program
	URL         string // http://127.0.0.1:PORT
	DataDir     string
	ClusterAddr string // of a node of a [Cluster]; the fields below, too

	addr  string
	flags []string // that stay the same in each run
}

// Serve runs a node on a free port, with a data directory of its own unless --data-dir is among the flags, and waits until it is ready.
func (b *Binary) Serve(tb testing.TB, flags ...string) *Node {
	tb.Helper()
	return b.serve(tb, nil, flags)
}

// ServeQuietly is Serve for benchmarks: the log goes nowhere, though it is still written, and is not checked.
func (b *Binary) ServeQuietly(tb testing.TB, flags ...string) *Node {
	tb.Helper()
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer nowhere.Close()
	return b.serve(tb, nowhere, flags)
}

func (b *Binary) serve(tb testing.TB, stderr io.Writer, flags []string) *Node {
	tb.Helper()
	n := &Node{}
	for _, flag := range flags {
		if dir, ok := strings.CutPrefix(flag, "--data-dir="); ok {
			n.DataDir = dir
		}
	}
	args := append([]string{"serve", "--addr=127.0.0.1:0"}, flags...)
	if n.DataDir == "" {
		n.DataDir = filepath.Join(tb.TempDir(), "data")
		args = append(args, "--data-dir="+n.DataDir)
	}
	n.Program = b.start(tb, stderr, args)
	n.awaitReady()
	return n
}

func (n *Node) awaitReady() {
	n.tb.Helper()
	n.URL = n.AwaitStdout(`^rollcall is ready on (http://127\.0\.0\.1:\d+)\n`)[1]
}

// Addr is the node's host and port.
func (n *Node) Addr() string { return strings.TrimPrefix(n.URL, "http://") }
