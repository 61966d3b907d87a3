package main

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rollcall/presence"
	"rollcall/replication"
	"rollcall/store"
)

const (
	// restartGrace is added to what remains of a lease when the node starts: its clients could not renew meanwhile, and need a moment to find that they can. It also covers by
	// how much a stored lease may be behind.
	restartGrace = 8 * time.Second
	// journalBatch bounds how many sessions are encoded at once.
	journalBatch = 10_000
	// journalRetry is the time between two attempts on a disk that fails.
	journalRetry = time.Second
)

// journalist keeps the sessions that live on this node in the journal, so that a restart brings them back.
type journalist struct {
	journal  *store.Journal
	tracker  *presence.Tracker
	interval time.Duration
	logger   *slog.Logger

	stop chan struct{} // closed by freeze
	done chan struct{} // closed when run has ended

	pending map[presence.SessionID]struct{} // changed, and not stored: run's alone

	mu  sync.Mutex
	err error // why what happens now would not survive a crash; nil when it would
}

// openJournal opens the journal in dir, restores the tracker's sessions from it, and returns for each shard how many presences that were.
func openJournal(dir string, tracker *presence.Tracker, interval time.Duration, logger *slog.Logger) (*journalist, []uint64, error) {
	journal, err := store.OpenJournal(dir, store.JournalConfig{Logger: logger})
	if err != nil {
		return nil, nil, err
	}
	j := &journalist{
		journal: journal, tracker: tracker, interval: interval, logger: logger,
		stop: make(chan struct{}), done: make(chan struct{}), pending: map[presence.SessionID]struct{}{},
	}
	tracker.RecordSessions()
	j.restore()
	restored := make([]uint64, presence.Shards)
	for shard := range restored {
		restored[shard] = tracker.Upto(shard, tracker.Replica())
	}
	go j.run()
	return j, restored, nil
}

// restore brings back the sessions whose leases have not run out while the node was down.
func (j *journalist) restore() {
	began, restored, lapsed := time.Now(), 0, 0
	var unreadable []error
	last := j.journal.LastWrite()
	err := j.journal.Load(func(record store.Record) error {
		state, err := replication.UnmarshalSession(record.Value)
		if err != nil {
			unreadable = append(unreadable, err)
			j.pending[presence.SessionID(record.Key)] = struct{}{}
			return nil
		}
		remaining, ok := remainingAfterRestart(state.TTL, record.Deadline, last, began)
		if !ok {
			lapsed++
			j.pending[state.ID] = struct{}{}
			return nil
		}
		state.Remaining = remaining
		j.tracker.Restore(state)
		restored++
		return nil
	})
	if err != nil {
		j.logger.Error("the journal cannot be read to its end", "err", err)
	}
	if len(unreadable) > 0 {
		j.logger.Warn("sessions in the journal cannot be read; their clients track again", "sessions", len(unreadable), "err", unreadable[0])
	}
	if restored+lapsed > 0 {
		j.logger.Info("sessions restored", "restored", restored, "lapsed", lapsed, "duration", time.Since(began))
	}
}

// remainingAfterRestart returns what a session has left that was stored with a deadline, or with none while a stream kept it alive; last is when the node was last known to live. ok is
// false when it has run out meanwhile.
func remainingAfterRestart(ttl time.Duration, deadline, last, now time.Time) (remaining time.Duration, ok bool) {
	if deadline.IsZero() { // its stream ended with the node, and there was none that its client could have come back to
		return presence.DefaultLinger + restartGrace, now.Sub(last) < ttl+restartGrace
	}
	remaining = min(deadline.Sub(now), ttl) // more than that comes of a clock that has jumped
	return max(remaining, 0) + restartGrace, remaining > -restartGrace
}

// run is the goroutine that writes. Only it touches pending.
func (j *journalist) run() {
	defer close(j.done)
	wait := time.NewTimer(j.interval)
	defer wait.Stop()
	for {
		select {
		case <-j.stop:
			_ = j.write()
			return
		case <-wait.C:
		}
		began := time.Now()
		err := j.write()
		// What happens while this write is under way is stored at the end of the next one, and that is to be within the interval.
		next := max(j.interval-2*time.Since(began), j.interval/4)
		if err != nil {
			next = max(next, journalRetry)
		}
		wait.Reset(next)
	}
}

// write stores what has changed since the last time, and what could not be stored then.
func (j *journalist) write() error {
	changed, renewed := j.tracker.TakeSessions()
	for _, id := range changed {
		j.pending[id] = struct{}{}
	}
	var leases []store.Lease
	for _, id := range renewed {
		if remaining, ok := j.tracker.Remaining(id); ok {
			leases = append(leases, store.Lease{Key: string(id), Deadline: time.Now().Add(remaining)})
		}
	}
	j.journal.Renew(leases)
	err := j.writePending()
	if errors.Is(err, store.ErrJournalReset) {
		for _, id := range j.tracker.Sessions() {
			j.pending[id] = struct{}{}
		}
		err = j.writePending()
	}
	j.report(err)
	return err
}

// writePending stores the sessions that are pending, as they are now. What it could not store stays pending.
func (j *journalist) writePending() error {
	batch := make([]store.Record, 0, min(len(j.pending), journalBatch))
	flush := func() error {
		if err := j.journal.Write(batch); err != nil {
			return err
		}
		for _, record := range batch {
			delete(j.pending, presence.SessionID(record.Key))
		}
		batch = batch[:0]
		return nil
	}
	for id := range j.pending {
		record, err := j.record(id)
		if err != nil {
			j.logger.Error("a session cannot be encoded, and would not survive a restart", "err", err)
			delete(j.pending, id)
			continue
		}
		if batch = append(batch, record); len(batch) == journalBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush() // also when it is empty: leases may be due
}

// record returns what the journal is to hold of a session.
func (j *journalist) record(id presence.SessionID) (store.Record, error) {
	record := store.Record{Key: string(id)}
	state, bound, ok := j.tracker.Session(id)
	if !ok {
		return record, nil // it has ended, or moved
	}
	if !bound {
		record.Deadline = time.Now().Add(state.Remaining)
	}
	for i := range state.Presences {
		state.Presences[i].Dots = nil // of this run alone
	}
	var err error
	record.Value, err = replication.MarshalSession(state)
	return record, err
}

// report tells the log when the disk begins and ceases to fail.
func (j *journalist) report(err error) {
	j.mu.Lock()
	before := j.err
	j.err = err
	j.mu.Unlock()
	switch {
	case err != nil && before == nil:
		j.logger.Error("the journal cannot be written: sessions of now would not survive a restart; presence goes on", "err", err)
	case err == nil && before != nil:
		j.logger.Info("the journal is written again: sessions survive a restart")
	}
}

// durable says why what happens now would not survive a crash, if it would not.
func (j *journalist) durable() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return fmt.Errorf("durability is lost, sessions would not survive a restart: %w", j.err)
	}
	return nil
}

// freeze stores what there is a last time, and nothing that happens from then on.
func (j *journalist) freeze() {
	select {
	case <-j.stop:
	default:
		close(j.stop)
	}
	<-j.done
}

func (j *journalist) close() error {
	j.freeze()
	return j.journal.Close()
}

// collectors are the journal's metrics.
func (j *journalist) collectors() []prometheus.Collector {
	gauge := func(name, help string, value func(store.JournalStats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rollcall_journal_" + name, Help: help},
			func() float64 { return value(j.journal.Stats()) })
	}
	counter := func(name, help string, value func(store.JournalStats) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "rollcall_journal_" + name, Help: help},
			func() float64 { return value(j.journal.Stats()) })
	}
	return []prometheus.Collector{
		gauge("durable", "1 while what happens survives a crash, but for the last journal interval; else 0.", func(store.JournalStats) float64 {
			if j.durable() != nil {
				return 0
			}
			return 1
		}),
		gauge("bytes", "Size of the journal's file.", func(s store.JournalStats) float64 { return float64(s.Bytes) }),
		gauge("records", "Sessions in the journal.", func(s store.JournalStats) float64 { return float64(s.Records) }),
		counter("commits_total", "Commits that were stored.", func(s store.JournalStats) float64 { return float64(s.Commits) }),
		counter("commit_seconds_total", "Time that they took.", func(s store.JournalStats) float64 { return s.CommitTime.Seconds() }),
		counter("failures_total", "Writes that failed.", func(s store.JournalStats) float64 { return float64(s.Failures) }),
		counter("damaged_records_total", "Records that could not be read back.", func(s store.JournalStats) float64 { return float64(s.Damaged) }),
	}
}
