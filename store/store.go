package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
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
	var s *Store
	err := openDB(filepath.Join(dir, fileName), "start as a new node", func(options *bbolt.Options, opened *openedFile) error {
		db, err := bbolt.Open(opened.path, 0o600, options)
		if err != nil {
			return err
		}
		s = &Store{db: db}
		if err := s.start(opened.file); err != nil {
			return errors.Join(err, db.Close())
		}
		return nil
	})
	if err != nil {
		return nil, err
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

// RaiseIncarnation makes this run's incarnation one above another, unless it is that high already, and makes that durable.
func (s *Store) RaiseIncarnation(above uint64) error {
	if s.incarnation > above {
		return nil
	}
	err := s.write(func(tx *bbolt.Tx) error { return putUint64(tx.Bucket([]byte(identityBucket)), incarnationKey, above+1) })
	if err == nil { // twice, as start does
		err = s.write(func(*bbolt.Tx) error { return nil })
	}
	if err != nil {
		return fmt.Errorf("store: raise the incarnation: %w", err)
	}
	s.incarnation = above + 1
	return nil
}

// Close lets go of the directory.
func (s *Store) Close() error { return s.db.Close() }
