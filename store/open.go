package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// openedFile is a database file on its way to being open.
type openedFile struct {
	path  string
	file  *os.File // bbolt's; after a panic there may be no DB to close it, and it holds the lock
	fresh bool     // it was empty
}

// openDB lets open open the database at path with the given options and says in the user's words what went wrong: its error is
// [ErrLocked], [ErrUnreadable] or [ErrCorrupt], for which instead says what a node without the file does.
func openDB(path, instead string, open func(*bbolt.Options, *openedFile) error) error {
	err := openGuarded(path, open)
	var (
		errno  syscall.Errno
		format *newerFormatError
	)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return locked(filepath.Dir(path))
	case errors.As(err, &errno), errors.Is(err, errWrite):
		return unreadable(filepath.Dir(path), err)
	case errors.As(err, &format):
		return newer(path, format)
	default:
		return corrupt(path, err, instead)
	}
}

// openGuarded survives what damaged pages make bbolt do: panic, and read where nothing is mapped.
func openGuarded(path string, open func(*bbolt.Options, *openedFile) error) (err error) {
	opened := &openedFile{path: path}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			unlock(opened.file) // db.Close could wait for mutexes that the panic left taken
			err = fmt.Errorf("its pages do not fit together (%v)", r)
		}
	}()
	err = open(&bbolt.Options{
		Timeout: lockTimeout,
		OpenFile: func(name string, flag int, perm os.FileMode) (_ *os.File, err error) {
			if opened.file, err = os.OpenFile(name, flag, perm); err != nil {
				return nil, err
			}
			info, err := opened.file.Stat()
			opened.fresh = err == nil && info.Size() == 0
			return opened.file, err
		},
	}, opened)
	if err != nil && opened.fresh && !errors.Is(err, bolterrors.ErrTimeout) {
		_ = os.Truncate(path, 0) // half made, on a full disk; the next Open begins anew
	}
	return err
}
