//go:build linux

package program

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// clockTick is the unit of /proc/PID/stat: the kernel reports in hundredths of a second on every architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// Suspend stops the program where it is, with its connections open, and returns when all its threads stand still. Signal goes on with SIGCONT.
func (p *Program) Suspend() {
	p.tb.Helper()
	p.Signal(syscall.SIGSTOP)
	Eventually(p.tb, p.suspended, "%s stands still", p)
}

func (p *Program) suspended() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	if err != nil {
		p.tb.Fatal(err)
	}
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if err != nil {
			return false // a thread that has just ended
		}
		if state := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])[0]; string(state) != "T" {
			return false
		}
	}
	return true
}

// CPU is the processor time that the program has used, its own and the kernel's for it.
func (p *Program) CPU() time.Duration {
	p.tb.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.tb.Fatal(err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from the third, after the name in parentheses
	const utime, stime = 14 - 3, 15 - 3
	return time.Duration(p.number(fields[utime])+p.number(fields[stime])) * clockTick
}

// RSS is the memory of the program that is resident, in bytes.
func (p *Program) RSS() int64 { return p.memory("VmRSS:") }

// memory returns a line of /proc/PID/status, in bytes.
func (p *Program) memory(line string) int64 {
	p.tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.tb.Fatal(err)
	}
	_, rest, found := bytes.Cut(status, []byte(line))
	if !found {
		p.tb.Fatalf("no %s in %s", line, status)
	}
	return p.number(bytes.Fields(rest)[0]) << 10
}

func (p *Program) number(text []byte) int64 {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		p.tb.Fatal(err)
	}
	return n
}

// ForgetPeak makes PeakRSS begin anew.
func (p *Program) ForgetPeak() {
	p.tb.Helper()
	const peakRSS = "5" // proc(5), clear_refs
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte(peakRSS), 0); err != nil {
		p.tb.Fatal(err)
	}
}

// PeakRSS is the most that RSS has been, in bytes.
func (p *Program) PeakRSS() int64 { return p.memory("VmHWM:") }
