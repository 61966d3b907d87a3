package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// ErrJournalReset is returned by [Journal.Write] when the journal has lost what it held and begins anew. It works, nothing of the batch has been
// stored, and every session that there is must be written again.
var ErrJournalReset = errors.New("the journal begins anew")

var (
	errDamaged       = errors.New("file damaged")
	errJournalClosed = errors.New("journal closed")
)

// Record is one session as the journal keeps it.
type Record struct {
	Key      string    // 1 to 255 bytes
	Value    []byte    // opaque. In Write nil deletes the record, and an empty one does not
	Deadline time.Time // when the lease runs out on the wall clock, kept to the second, rounded up. Zero: not known
}

// Lease is the new deadline of a record.
type Lease struct {
	Key      string
	Deadline time.Time
}

// JournalConfig configures a [Journal]. The zero value works.
type JournalConfig struct {
	// LeaseInterval is how long a renewed lease may wait until a Write stores it, and so by how much more than the time between two
	// calls of Write a restored deadline may be too early. Default 4 s.
	LeaseInterval time.Duration
	Logger        *slog.Logger // default slog.Default()
	// Fault is for tests: it is asked before each operation on files ("open", "create", "rename", "remove", "compact", "commit"),
	// which fails with the error that it returns.
	Fault func(op string) error
}

func (c *JournalConfig) setDefaults() {
	if c.LeaseInterval == 0 {
		c.LeaseInterval = 4 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Fault == nil {
		c.Fault = func(string) error { return nil }
	}
}

// JournalStats says how a journal is doing.
type JournalStats struct {
	Records    int           // stored ones
	Bytes      int64         // size of the file
	FreeBytes  int64         // of these, free for reuse
	Commits    uint64        // transactions since the journal was opened
	CommitTime time.Duration // that they took, in all
	LastCommit time.Time     // when the last one ended, zero for none
	Failures   uint64        // Writes that failed, and what else did of which Err tells
	Damaged    uint64        // records and pages of leases that were skipped because their checksums were wrong
	Resets     uint64        // how often a damaged or lost file was replaced by a new one
	Err        error         // why the last Write or Close failed, nil if it did not: what has been written is durable
}

// Journal keeps the sessions of a node over a crash, in the file journal.db of the data directory. It holds their present state, not their
// history: a record for each session, by its key, so that its size is bounded by how many there are.
//
// Load first, once, then Write what changes. Its methods may be called from any goroutine; all but Stats wait for a Write that is under way.
type Journal struct {
	config JournalConfig
	dir    string
	path   string

	mu     sync.Mutex
	file   *boltFile // nil after a failure, until a Write can open it again
	begin  bool      // with file nil: start over with a new file, since the old one is damaged or was never loaded
	reset  bool      // the next Write is an ErrJournalReset
	closed bool
	loaded bool // the fields below are as the file says
	index  index
	leases leaseTable
	seq    uint64    // of the last commit
	last   time.Time // when it was, on the wall clock; with Load that of the run before

	noCompactBefore time.Time // after a compaction that failed
	statsMu         sync.Mutex
	stats           JournalStats
}

// OpenJournal opens the journal in the data directory dir, which must exist and which only one process may use (see [Open]). It fails only with
// [ErrLocked]. A damaged journal is renamed journal.db.damaged-<time> and a new one begun. When the disk is full or fails, the journal is returned
// all the same: then Load finds nothing, and Write tries again. Both are logged, and Stats tells them.
func OpenJournal(dir string, config JournalConfig) (*Journal, error) {
	config.setDefaults()
	j := &Journal{config: config, dir: dir, path: filepath.Join(dir, journalName), leases: leaseTable{interval: config.LeaseInterval}}
	err := j.open()
	switch {
	case err == nil:
		j.compactIfSparse()
		j.begin = j.file == nil // the disk failed just then, and Load will restore nothing
		j.note(nil)
	case errors.Is(err, ErrLocked):
		return nil, err
	default:
		j.begin = !j.reset
		j.fail(err)
		j.config.Logger.Error("the session journal cannot be opened; sessions of the last run are not restored", "file", j.path, "error", err)
	}
	return j, nil
}

// open opens the file, or makes it where there is none or only a damaged one.
func (j *Journal) open() error {
	_ = j.remove(j.path + newSuffix) // of a process that was killed while it made one
	err := j.openFile()
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := j.create(); err != nil {
			return err
		}
		return j.openFile()
	case errors.Is(err, errDamaged):
		if err := j.abandon(err); err != nil {
			return err
		}
		j.reset = false // nobody has lost anything by it
		return nil
	default:
		return err
	}
}

// Load hands every record to restore, in no particular order. Its Value is valid until restore returns. Damaged records are skipped, counted and logged. An
// error of restore ends Load, which returns it. If the file turns out to be damaged on the way, what was readable has been restored, Load
// returns nil, and the next Write is an [ErrJournalReset].
func (j *Journal) Load(restore func(Record) error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return errJournalClosed
	}
	if j.file == nil {
		return nil
	}
	return j.load(restore)
}

func (j *Journal) load(restore func(Record) error) error {
	l := newLoading(j)
	err := l.run(restore)
	if errors.Is(err, errDamaged) {
		if err := j.abandon(err); err != nil { // Write tries again
			j.fail(err)
		}
		j.note(nil)
		return nil
	}
	if err != nil {
		return err
	}
	l.finish()
	j.note(nil)
	return nil
}

// LastWrite is the time, on the wall clock, of the last commit; before the first one of this run, that of the runs before: when the node was last
// known to live, within LeaseInterval if it had records. Zero if there was none. For leases that count from the end of a process, such as those of
// sessions with an open stream.
func (j *Journal) LastWrite() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last
}

// Renew notes new deadlines of stored records; others are ignored. It touches no file: a later Write stores them, those of a thousand neighbouring
// sessions in one page, at most once in LeaseInterval.
func (j *Journal) Renew(leases []Lease) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	for _, lease := range leases {
		if slot, ok := j.index.slots[lease.Key]; ok {
			j.leases.renew(slot, deadlineOf(lease.Deadline), now)
		}
	}
}

// Write makes a batch durable in one transaction, together with the renewed leases whose time has come. So call it regularly, if only with an empty
// batch, which costs nothing when no leases are due. A batch is held in memory until it is written: write very many records in several.
//
// When it fails, nothing of the batch or all of it has been stored; keep these keys, and write what they are then in a later batch. A full or
// read-only disk is tried anew by each Write, so wait a second or so between two that fail. [ErrJournalReset] means that the journal
// works, but that it was damaged and begins anew: write every session that there is.
func (j *Journal) Write(batch []Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return errJournalClosed
	}
	for _, r := range batch {
		if len(r.Key) == 0 || len(r.Key) > maxKeyBytes {
			return fmt.Errorf("write journal: a key of %d bytes", len(r.Key))
		}
	}
	err := j.write(batch, false)
	if err != nil {
		j.fail(err)
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func (j *Journal) write(batch []Record, all bool) error {
	if err := j.ready(); err != nil {
		return err
	}
	now := time.Now()
	if len(batch) == 0 && !all && !j.leases.anyDue(now) {
		if len(j.index.slots) == 0 || now.Sub(j.last).Abs() < j.config.LeaseInterval {
			return nil
		}
		all = true // for LastWrite; leases that are due soon need no commit of their own then
	}
	c := &commit{Journal: j, now: now, all: all}
	err := j.file.guard(func() error {
		if err := j.config.Fault("commit"); err != nil {
			return err
		}
		return j.file.db.Update(func(tx *bbolt.Tx) error { return c.apply(tx, batch) })
	})
	if errors.Is(err, errDamaged) {
		if err := j.abandon(err); err != nil {
			return err
		}
		return j.ready()
	}
	if err != nil {
		j.seq++ // the file may have the transaction all the same
		j.closeFile()
		return err
	}
	c.done()
	j.compactIfSparse()
	j.note(c)
	return nil
}

// ready sees to it that there is an open file whose records are known. After a reset it says so, once.
func (j *Journal) ready() error {
	if j.file == nil {
		if err := j.reopen(); err != nil {
			return err
		}
	}
	if !j.loaded {
		if err := j.load(func(Record) error { return nil }); err != nil {
			return err
		}
		if j.file == nil { // damaged
			return j.Stats().Err
		}
	}
	if j.reset {
		j.reset = false
		return ErrJournalReset
	}
	return nil
}

// reopen opens the file after a failure.
func (j *Journal) reopen() error {
	if j.begin {
		return j.startOver()
	}
	err := j.openFile()
	if errors.Is(err, errDamaged) || errors.Is(err, os.ErrNotExist) {
		return j.abandon(err)
	}
	if err != nil {
		return err
	}
	// When the fsync of a meta page failed, the file shows a transaction that the disk may not have. After an empty one the disk has both
	// before pages of the state before them are reused.
	if err := j.file.guard(func() error { return j.file.db.Update(func(*bbolt.Tx) error { return nil }) }); err != nil {
		j.closeFile()
		return err
	}
	return nil
}

// abandon gives the file up, since it is damaged or gone, and starts over.
func (j *Journal) abandon(cause error) error {
	j.config.Logger.Error("the session journal is damaged; it is set aside and a new one begun", "file", j.path, "error", cause)
	if j.file != nil {
		j.file.abandon()
		j.file = nil
	}
	j.begin = true
	return j.startOver()
}

// startOver opens a new file in the place of the present one, if any, which it sets aside. When it fails, ready goes on with it.
func (j *Journal) startOver() error {
	if err := j.setAside(); err != nil {
		return err
	}
	if err := j.create(); err != nil {
		return err
	}
	j.begin, j.reset = false, true
	j.statsMu.Lock()
	j.stats.Resets++
	j.statsMu.Unlock()
	return j.openFile()
}

// Close stores all renewed leases and lets go of the file. An error of it means that these, at most LeaseInterval old, are not stored.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	var err error
	if j.file != nil && j.loaded {
		err = j.write(nil, true)
	}
	j.closed = true
	if j.file != nil {
		err = errors.Join(err, j.file.close())
		j.file = nil
	}
	if err != nil {
		j.fail(err)
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

// Stats says how the journal is doing. It waits for nothing, also while a Write hangs on a slow disk.
func (j *Journal) Stats() JournalStats {
	j.statsMu.Lock()
	defer j.statsMu.Unlock()
	return j.stats
}

// note updates the stats after c, or without a commit if that is nil.
func (j *Journal) note(c *commit) {
	var bytes, free int64
	if j.file != nil {
		bytes, free = j.file.size()
	}
	j.statsMu.Lock()
	defer j.statsMu.Unlock()
	j.stats.Records, j.stats.Bytes, j.stats.FreeBytes = len(j.index.slots), bytes, free
	if c != nil {
		j.stats.Commits++
		j.stats.LastCommit = time.Now()
		j.stats.CommitTime += j.stats.LastCommit.Sub(c.now)
		j.stats.Err = nil
	}
}

func (j *Journal) fail(err error) {
	j.statsMu.Lock()
	defer j.statsMu.Unlock()
	j.stats.Failures++
	j.stats.Err = err
}
