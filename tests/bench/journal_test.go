//go:build linux

package bench

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/replication"
	"rollcall/store"
)

// BenchmarkTrackJournal is BenchmarkTrack with a journal that is written as by default, and with one that is not written while it runs. It also
// measures what the disk takes for a track.
func BenchmarkTrackJournal(b *testing.B) {
	for _, interval := range []string{"100ms", "1h"} {
		b.Run("interval="+interval, func(b *testing.B) {
			n := binary.ServeQuietly(b, "--journal-interval="+interval)
			b.ResetTimer()
			cpu, written := n.CPU(), n.Written()
			took := sendAll(b, n, clients, b.N, func(i int) []byte {
				return request("POST", fmt.Sprintf("/v1/topics/room-%d/presences", i/100), fmt.Sprintf(`{"key":"user-%d","meta":{"device":"phone"},"ttl":3600}`, i))
			})
			b.StopTimer()
			cpu, written = n.CPU()-cpu, n.Written()-written
			report(b,
				figure{"req/s", float64(b.N) / b.Elapsed().Seconds()},
				figure{"p50-us", micros(percentile(took, 50))},
				figure{"p99-us", micros(percentile(took, 99))},
				figure{"cpu-us/req", micros(cpu) / float64(b.N)},
				figure{"B-written/req", float64(written) / float64(b.N)},
			)
		})
	}
}

// BenchmarkStart measures how long a node takes from its start until it is ready, with so many sessions in its journal, of one presence each.
func BenchmarkStart(b *testing.B) {
	for _, sessions := range []int{0, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			dir := b.TempDir()
			size := fillJournal(b, dir, sessions)
			b.ResetTimer()
			var (
				ready, cpu time.Duration
				rss        int64
			)
			for range b.N {
				start := time.Now()
				n := binary.ServeQuietly(b, "--data-dir="+dir)
				ready += time.Since(start)
				cpu += n.CPU()
				rss += n.RSS()
				n.Kill()
			}
			each := float64(b.N)
			report(b,
				figure{"ms-until-ready", float64(ready.Milliseconds()) / each},
				figure{"cpu-ms", float64(cpu.Milliseconds()) / each},
				figure{"MB-resident", float64(rss>>20) / each},
				figure{"B-file/session", float64(size) / float64(max(sessions, 1))},
			)
		})
	}
}

// fillJournal writes sessions to the journal of a node that has not run yet, as a node does, and returns the size of the file.
func fillJournal(b *testing.B, dir string, sessions int) int64 {
	b.Helper()
	journal, err := store.OpenJournal(dir, store.JournalConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	const together = 10_000
	for first := 0; first < sessions; first += together {
		if err := journal.Write(sessionRecords(b, first, min(together, sessions-first))); err != nil {
			b.Fatal(err)
		}
	}
	if err := journal.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "journal.db"))
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}

// sessionRecords are what the journal is to hold of so many sessions.
func sessionRecords(b *testing.B, first, sessions int) (records []store.Record) {
	b.Helper()
	tracker, err := presence.Open(presence.Config{Replica: crdt.Replica{Name: "bench", Incarnation: 1}})
	if err != nil {
		b.Fatal(err)
	}
	defer tracker.Close()
	for i := first; i < first+sessions; i++ {
		id := presence.SessionID("ABCD" + rand.Text())
		_, err := tracker.Track(presence.TrackRequest{
			Topic: presence.Topic(fmt.Sprintf("room-%d", i/100)), Key: presence.Key(fmt.Sprintf("user-%d", i)), Session: id,
			Meta: presence.Meta(`{"device":"phone"}`), TTL: time.Hour,
		})
		if err != nil {
			b.Fatal(err)
		}
		state, _, _ := tracker.Session(id)
		state.Presences[0].Dots = nil
		value, err := replication.MarshalSession(state)
		if err != nil {
			b.Fatal(err)
		}
		records = append(records, store.Record{Key: string(id), Value: value, Deadline: time.Now().Add(time.Hour)})
	}
	return records
}
