package store_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"rollcall/store"
)

// valueBytes is about what a session with one presence and a small meta takes.
const valueBytes = 200

func benchRecord(n int, deadline time.Time) store.Record {
	value := make([]byte, valueBytes)
	random := rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), uint64(n))))
	_, _ = random.Read(value)
	return store.Record{Key: fmt.Sprintf("session-%016x", uint64(n)*0x9e3779b97f4a7c15), Value: value, Deadline: deadline}
}

// fillJournal stores records in the data directory, as many as are asked for.
func fillJournal(tb testing.TB, j *store.Journal, records int) {
	tb.Helper()
	deadline := time.Now().Add(30 * time.Second)
	batch := make([]store.Record, 0, 10_000)
	for n := range records {
		batch = append(batch, benchRecord(n, deadline))
		if len(batch) == cap(batch) || n == records-1 {
			if err := j.Write(batch); err != nil {
				tb.Fatal(err)
			}
			batch = batch[:0]
		}
	}
}

func BenchmarkJournalWrite(b *testing.B) {
	for _, live := range []int{10_000, 100_000, 1_000_000} {
		j := openJournal(b, b.TempDir(), store.JournalConfig{})
		fillJournal(b, j, live)
		for _, changes := range []int{1, 100, 1000, 10_000} {
			b.Run(fmt.Sprintf("live=%d/changes=%d", live, changes), func(b *testing.B) {
				batch := make([]store.Record, changes)
				deadline := time.Now().Add(time.Minute)
				before := writtenBytes(b)
				for b.Loop() {
					for i := range batch {
						batch[i] = benchRecord(rand.IntN(live), deadline)
					}
					if err := j.Write(batch); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(writtenBytes(b)-before)/float64(b.N*changes), "B/change")
			})
		}
		closeJournal(b, j)
	}
}

// BenchmarkJournalChurn ends the oldest sessions and begins as many new ones.
func BenchmarkJournalChurn(b *testing.B) {
	const live, changes = 100_000, 500
	j := openJournal(b, b.TempDir(), store.JournalConfig{})
	fillJournal(b, j, live)
	next := live
	deadline := time.Now().Add(time.Minute)
	before := writtenBytes(b)
	for b.Loop() {
		batch := make([]store.Record, 0, 2*changes)
		for range changes {
			batch = append(batch, store.Record{Key: benchRecord(next-live, deadline).Key}, benchRecord(next, deadline))
			next++
		}
		if err := j.Write(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(writtenBytes(b)-before)/float64(b.N*2*changes), "B/change")
	b.ReportMetric(float64(j.Stats().Bytes)/live, "B/live")
	closeJournal(b, j)
}

// BenchmarkJournalLeases is what four seconds, one LeaseInterval, cost a node whose sessions renew their leases every ten.
func BenchmarkJournalLeases(b *testing.B) {
	for _, live := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("live=%d", live), func(b *testing.B) {
			j := openJournal(b, b.TempDir(), store.JournalConfig{LeaseInterval: 1}) // each Write stores what was renewed
			fillJournal(b, j, live)
			keys := make([]string, live)
			for n := range keys {
				keys[n] = benchRecord(n, time.Time{}).Key
			}
			leases := make([]store.Lease, live*4/10)
			deadline := time.Now().Add(30 * time.Second)
			before, cpu := writtenBytes(b), cpuTime(b)
			for b.Loop() {
				deadline = deadline.Add(4 * time.Second)
				for i := range leases {
					leases[i] = store.Lease{Key: keys[rand.IntN(live)], Deadline: deadline}
				}
				j.Renew(leases)
				if err := j.Write(nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(writtenBytes(b)-before)/float64(b.N)/4, "B/s")
			b.ReportMetric((cpuTime(b)-cpu).Seconds()/float64(b.N)/4*100, "CPU-%")
			closeJournal(b, j)
		})
	}
}

func BenchmarkJournalLoad(b *testing.B) {
	for _, live := range []int{100_000, 1_000_000} {
		dir := b.TempDir()
		j := openJournal(b, dir, store.JournalConfig{})
		fillJournal(b, j, live)
		closeJournal(b, j)
		b.Run(fmt.Sprintf("live=%d", live), func(b *testing.B) {
			for b.Loop() {
				began := time.Now()
				j := openJournal(b, dir, store.JournalConfig{})
				opened := time.Now()
				n := 0
				if err := j.Load(func(store.Record) error { n++; return nil }); err != nil || n != live {
					b.Fatalf("Load = %d records, %v, want %d", n, err, live)
				}
				b.ReportMetric(float64(opened.Sub(began).Milliseconds()), "open-ms")
				b.ReportMetric(float64(time.Since(opened).Milliseconds()), "load-ms")
				closeJournal(b, j)
			}
			info, err := os.Stat(filepath.Join(dir, "journal.db"))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Size())/float64(live), "B/live")
		})
	}
}

// writtenBytes is what this process has written to files.
func writtenBytes(tb testing.TB) (n int64) {
	tb.Helper()
	file, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0 // not Linux
	}
	if _, err := fmt.Sscanf(string(file), "rchar: %d\nwchar: %d", new(int64), &n); err != nil {
		tb.Fatal(err)
	}
	return n
}

// cpuTime is what this process has used.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
