package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	fileName    = "rollcall.db"
	lockTimeout = time.Second // long enough for a predecessor that is just exiting

	format1        = 1 // the format that this version reads and writes
	identityBucket = "identity"
	formatKey      = "format"
	nodeIDKey      = "node_id"
	incarnationKey = "incarnation"
)

// Store is an open data directory.
type Store struct {
	db          *bbolt.DB
	nodeID      string
	incarnation uint64
}

// Open takes the data directory dir, which it makes if it is not there, and starts the next incarnation of its node. It waits up to
// a second for another process to let go of it. It fails with an error that is [ErrLocked], [ErrUnreadable] or [ErrCorrupt] and
// whose text is for the user.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unreadable(dir, err)
	}
	path := filepath.Join(dir, fileName)
	s, err := openFile(path)
	var (
		errno  syscall.Errno
		format *newerFormatError
	)
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, locked(dir)
	case errors.As(err, &errno), errors.Is(err, errWrite):
		return nil, unreadable(dir, err)
	case errors.As(err, &format):
		return nil, newer(path, format)
	default:
		return nil, corrupt(path, err)
	}
}

// openFile opens the database at path and survives what damaged pages make bbolt do: panic, and read where nothing is mapped.
func openFile(path string) (s *Store, err error) {
	var (
		file  *os.File // bbolt's; after a panic there may be no DB to close it, and it holds the lock
		fresh bool     // it was empty
	)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			unlock(file) // db.Close could wait for mutexes that the panic left taken
			s, err = nil, fmt.Errorf("its pages do not fit together (%v)", r)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockTimeout,
		OpenFile: func(name string, flag int, perm os.FileMode) (_ *os.File, err error) {
			if file, err = os.OpenFile(name, flag, perm); err != nil {
				return nil, err
			}
			info, err := file.Stat()
			fresh = err == nil && info.Size() == 0
			return file, err
		},
	})
	if err != nil {
		if fresh && !errors.Is(err, bolterrors.ErrTimeout) {
			_ = os.Truncate(path, 0) // half made, on a full disk; the next Open begins anew
		}
		return nil, err
	}
	s = &Store{db: db}
	if err := s.start(file); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// start checks the file, makes the identity if the file is new, raises the incarnation, and reads everything back.
func (s *Store) start(file *os.File) error {
	if err := s.db.View(func(tx *bbolt.Tx) error { return check(file, tx) }); err != nil {
		return err
	}
	if err := s.write(s.raise); err != nil {
		return err
	}
	// bbolt keeps two meta pages and falls back to the older if the newer is damaged. A second commit puts the raised
	// incarnation behind both, so that not even then one is used twice.
	if err := s.write(func(*bbolt.Tx) error { return nil }); err != nil {
		return err
	}
	return s.db.View(s.readBack)
}

// write is db.Update, with an error that tells a commit that failed, the disk's fault, from an error of change.
func (s *Store) write(change func(*bbolt.Tx) error) error {
	var changeErr error
	err := s.db.Update(func(tx *bbolt.Tx) error {
		changeErr = change(tx)
		return changeErr
	})
	if err != nil && changeErr == nil {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	return err
}

func (s *Store) raise(tx *bbolt.Tx) error {
	b := tx.Bucket([]byte(identityBucket))
	if b == nil {
		return s.create(tx)
	}
	if err := s.read(b); err != nil {
		return err
	}
	s.incarnation++
	return putUint64(b, incarnationKey, s.incarnation)
}

// create fills a database that bbolt has just made. One that holds something else is left alone.
func (s *Store) create(tx *bbolt.Tx) error {
	if key, _ := tx.Cursor().First(); key != nil {
		return errors.New("it is a database of another program")
	}
	b, err := tx.CreateBucket([]byte(identityBucket))
	if err != nil {
		return err
	}
	s.nodeID, s.incarnation = newNodeID(), 1
	return errors.Join(
		putUint64(b, formatKey, format1),
		putRecord(b, nodeIDKey, []byte(s.nodeID)),
		putUint64(b, incarnationKey, s.incarnation),
	)
}

// newNodeID returns 16 of a-z2-7: 80 random bits.
func newNodeID() string { return strings.ToLower(rand.Text()[:16]) }

func (s *Store) read(b *bbolt.Bucket) error {
	format, err := getUint64(b, formatKey)
	if err != nil {
		return err
	}
	if format > format1 {
		return &newerFormatError{format: format}
	}
	id, err := getRecord(b, nodeIDKey)
	if err != nil {
		return err
	}
	s.nodeID = string(id)
	s.incarnation, err = getUint64(b, incarnationKey)
	return err
}

// readBack makes sure that what was just written can be read again.
func (s *Store) readBack(tx *bbolt.Tx) error {
	b := tx.Bucket([]byte(identityBucket))
	if b == nil {
		return errors.New("what was written is not there")
	}
	var stored Store
	if err := stored.read(b); err != nil {
		return err
	}
	if stored.nodeID != s.nodeID || stored.incarnation != s.incarnation {
		return errors.New("what was written is not there")
	}
	return nil
}

// NodeID is the node's name: 16 of a-z2-7, made once for each data directory.
func (s *Store) NodeID() string { return s.nodeID }

// Incarnation is the number of this run of the node: higher than that of every earlier Open of the directory.
func (s *Store) Incarnation() uint64 { return s.incarnation }

// Close lets go of the directory.
func (s *Store) Close() error { return s.db.Close() }
