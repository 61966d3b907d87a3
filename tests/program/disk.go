//go:build linux

package program

import (
	"bytes"
	"fmt"
	"os"
)

// Written is how many bytes the program has had written to disks.
func (p *Program) Written() int64 {
	p.tb.Helper()
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		p.tb.Fatal(err)
	}
	_, rest, found := bytes.Cut(io, []byte("\nwrite_bytes: "))
	if !found {
		p.tb.Fatalf("no write_bytes in %s", io)
	}
	return p.number(bytes.Fields(rest)[0])
}
