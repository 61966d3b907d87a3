package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	journalName   = "journal.db"
	newSuffix     = ".new"      // a file in the making; renamed when it is whole and on disk
	damagedSuffix = ".damaged-" // and the time
	damagedKept   = 3

	compactBytes  = 16 << 20    // smaller files are not worth it
	compactRetry  = time.Minute // after a failure, such as a full disk
	compactTxSize = 16 << 20    // bytes of records that compacting holds in memory
)

// tune: the list of free pages is kept in the file. Without it bbolt would search all pages for free ones, at each open and after each failed
// commit, in a goroutine of its own, where nobody survives a damaged page.
func tune(options *bbolt.Options) { options.FreelistType = bbolt.FreelistMapType }

// openFile opens the file that is there. An error is os.ErrNotExist, ErrLocked, errDamaged, or of a disk that may work later.
func (j *Journal) openFile() error {
	if err := j.config.Fault("open"); err != nil {
		return err
	}
	file, err := openBolt(j.path, func(options *bbolt.Options) {
		tune(options)
		openFile := options.OpenFile
		options.OpenFile = func(name string, flag int, perm os.FileMode) (*os.File, error) {
			return openFile(name, flag&^os.O_CREATE, perm)
		}
	}, j.prepare)
	var errno syscall.Errno
	switch {
	case err == nil:
		j.file = file
		return nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return locked(j.dir)
	case errors.Is(err, errDamaged):
		return err
	case errors.As(err, &errno) && errno != syscall.EIO:
		return err
	default:
		return &damagedError{err}
	}
}

// prepare checks a file that bbolt has opened.
func (j *Journal) prepare(f *boltFile) error {
	if err := f.db.View(func(tx *bbolt.Tx) error {
		if err := check(f.file, tx); err != nil {
			return err
		}
		return j.readState(tx)
	}); err != nil {
		return &damagedError{err}
	}
	return nil
}

func (j *Journal) readState(tx *bbolt.Tx) error {
	b := tx.Bucket([]byte(journalBucket))
	if b == nil {
		return errors.New("it is a database of another program")
	}
	format, err := getUint64(b, formatKey)
	if err != nil {
		return err
	}
	if format > journalFormat1 {
		return fmt.Errorf("it was written by a newer rollcall (format %d, this one reads %d)", format, journalFormat1)
	}
	if j.loaded { // opened again
		return nil
	}
	state, err := getState(b)
	if err != nil {
		j.config.Logger.Warn("the session journal does not tell when it was written last", "file", j.path, "error", err)
		return nil
	}
	j.seq, j.last = state.seq, state.written
	return nil
}

// create makes an empty file in the place of the present one, if any. It does not open it.
func (j *Journal) create() error {
	if err := j.config.Fault("create"); err != nil {
		return err
	}
	err := j.replace(func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error {
			for _, name := range []string{recordsBucket, leasesBucket} {
				if _, err := tx.CreateBucket([]byte(name)); err != nil {
					return err
				}
			}
			b, err := tx.CreateBucket([]byte(journalBucket))
			if err != nil {
				return err
			}
			return errors.Join(putUint64(b, formatKey, journalFormat1), putState(b, journalState{}))
		})
	})
	if err != nil {
		return err
	}
	j.index, j.leases, j.loaded = index{slots: map[string]uint32{}}, leaseTable{interval: j.config.LeaseInterval}, true
	return nil
}

// replace puts a file with what fill stores in the place of the present one, which must be closed by then. A crash leaves either of them, whole.
func (j *Journal) replace(fill func(*bbolt.DB) error) error {
	path := j.path + newSuffix
	if err := j.remove(path); err != nil {
		return err
	}
	made, err := openBolt(path, func(options *bbolt.Options) {
		tune(options)
		options.NoSync = true // until it is complete
	}, func(f *boltFile) error { return errors.Join(fill(f.db), f.db.Sync()) })
	if err == nil {
		err = made.close()
	}
	if err == nil {
		err = j.rename(path, j.path)
	}
	if err != nil {
		_ = j.remove(path)
		return err
	}
	return syncDir(j.dir)
}

// compactIfSparse makes the file smaller when more than two thirds of it are free. bbolt uses free pages again but never gives them back.
func (j *Journal) compactIfSparse() {
	bytes, free := j.file.size()
	if bytes < compactBytes || free < bytes/3*2 || time.Now().Before(j.noCompactBefore) {
		return
	}
	err := j.compact()
	if errors.Is(err, errDamaged) {
		_ = j.abandon(err) // if it fails, the next Write tries again
		return
	}
	if err != nil {
		j.noCompactBefore = time.Now().Add(compactRetry)
		j.config.Logger.Warn("the session journal cannot be made smaller", "file", j.path, "bytes", bytes, "error", err)
	}
}

// compact leaves an open file, or after a failure to open it none, as a failed Write does.
func (j *Journal) compact() error {
	if err := j.config.Fault("compact"); err != nil {
		return err
	}
	old := j.file
	err := j.replace(func(db *bbolt.DB) error {
		return old.guard(func() error { return bbolt.Compact(db, old.db, compactTxSize) })
	})
	if err != nil {
		return err
	}
	j.closeFile()
	return j.openFile()
}

// closeFile closes the file; the next Write opens it again.
func (j *Journal) closeFile() {
	if err := j.file.close(); err != nil {
		j.file.abandon()
	}
	j.file = nil
}

// setAside renames the present file, if there is one, and deletes all but the youngest of those set aside.
func (j *Journal) setAside() error {
	aside := j.path + damagedSuffix + time.Now().UTC().Format("20060102T150405.000Z")
	if err := j.rename(j.path, aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	all, err := filepath.Glob(j.path + damagedSuffix + "*")
	if err != nil {
		return err
	}
	slices.Sort(all) // by time
	for _, path := range all[:max(0, len(all)-damagedKept)] {
		if err := j.remove(path); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) rename(from, to string) error {
	if err := j.config.Fault("rename"); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func (j *Journal) remove(path string) error {
	if err := j.config.Fault("remove"); err != nil {
		return err
	}
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) { // not on this file system
		err = nil
	}
	return errors.Join(err, d.Close())
}
