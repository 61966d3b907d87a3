package store

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// boltFile is an open database and bbolt's file of it.
type boltFile struct {
	db   *bbolt.DB
	file *os.File
}

// damagedError is what is wrong with a database that cannot be used.
type damagedError struct{ cause error }

func (e *damagedError) Error() string { return e.cause.Error() }

func (e *damagedError) Unwrap() []error { return []error{errDamaged, e.cause} }

// openBolt opens the database at path, with options that tune has changed, and hands it to prepare, whose error it returns.
func openBolt(path string, tune func(*bbolt.Options), prepare func(*boltFile) error) (*boltFile, error) {
	f := &boltFile{}
	err := openGuarded(path, func(options *bbolt.Options, opened *openedFile) (err error) {
		tune(options)
		if f.db, err = bbolt.Open(path, 0o600, options); err != nil {
			return err
		}
		f.file = opened.file
		if err := prepare(f); err != nil {
			return errors.Join(err, f.db.Close())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// guard survives what damaged pages make bbolt do: panic, and read where nothing is mapped. Both become an error that is errDamaged. After
// it the database can only be abandoned.
func (f *boltFile) guard(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = &damagedError{fmt.Errorf("its pages do not fit together (%v)", r)}
		}
	}()
	return do()
}

func (f *boltFile) close() error { return f.guard(f.db.Close) }

// abandon gives up the lock and the file of a database that cannot be closed, since a panic may have left its mutexes taken.
func (f *boltFile) abandon() { unlock(f.file) }

// size returns the bytes of the file, and how many of these are in free pages.
func (f *boltFile) size() (bytes, free int64) {
	if info, err := f.file.Stat(); err == nil {
		bytes = info.Size()
	}
	stats := f.db.Stats()
	return bytes, int64(stats.FreePageN+stats.PendingPageN) * int64(f.db.Info().PageSize)
}
