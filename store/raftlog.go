package store

import (
	"errors"
	"path/filepath"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const raftFileName = "raft.db"

// RaftLog is what a node that is a member of a cluster must not forget for raft: raft's LogStore and StableStore.
type RaftLog struct{ *raftboltdb.BoltStore }

// OpenRaftLog opens raft.db in the data directory, and makes it if it is not there: only a node that takes part in a cluster has one.
// It fails as [Open] does. It checks the structure of the file; what the records say is for package membership to check.
func (s *Store) OpenRaftLog() (*RaftLog, error) {
	log := &RaftLog{}
	path := filepath.Join(filepath.Dir(s.db.Path()), raftFileName)
	err := openDB(path, "join the cluster again (--join)", func(options *bbolt.Options, opened *openedFile) (err error) {
		// First by itself, because raftboltdb writes before anybody can have looked at the file.
		db, err := bbolt.Open(path, 0o600, options)
		if err != nil {
			return err
		}
		err = db.View(func(tx *bbolt.Tx) error {
			if err := check(opened.file, tx); err != nil {
				return err
			}
			return checkRaftBuckets(tx)
		})
		if err := errors.Join(err, db.Close()); err != nil {
			return err
		}
		log.BoltStore, err = raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: options})
		return err
	})
	if err != nil {
		return nil, err
	}
	return log, nil
}

// checkRaftBuckets checks that the file is empty or raftboltdb's.
func checkRaftBuckets(tx *bbolt.Tx) error {
	return tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		if string(name) != "logs" && string(name) != "conf" {
			return errors.New("it is a database of another program")
		}
		return nil
	})
}
