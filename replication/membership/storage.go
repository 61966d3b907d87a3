package membership

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// Storage is raft's log and its few values, on disk. A *store.RaftLog is one.
type Storage interface {
	raft.LogStore
	raft.StableStore
}

const (
	savedKey    = "rollcall"
	snapshotKey = "rollcall.snapshot"
	termKey     = "CurrentTerm" // raft's

	checksumBytes  = 4
	retryWriteTime = time.Second
)

var storedKeys = []string{savedKey, snapshotKey, termKey, "LastVoteTerm", "LastVoteCand"}

var (
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errChecksum = errors.New("its checksum is wrong")
	errNotFound = errors.New("not found") // raft compares this text
)

// disk adds checksums to a Storage: raft panics over an entry that it cannot decode, and believes what it can.
type disk struct {
	Storage
	log     *slog.Logger
	closing chan struct{} // closed once nothing that raft says can leave this node any more
}

// verify reads everything, so that raft will find nothing that surprises it.
func (d *disk) verify() (err error) {
	defer func() {
		if r := recover(); r != nil { // raft-boltdb's, for keys of a wrong length
			err = fmt.Errorf("its records do not fit together (%v)", r)
		}
	}()
	for _, key := range storedKeys {
		if _, err := d.Get([]byte(key)); err != nil && !missing(err) {
			return fmt.Errorf("record %q: %w", key, err)
		}
	}
	snapshot, _, err := (&snapshots{d}).load()
	if err != nil && !missing(err) {
		return fmt.Errorf("record %q: %w", snapshotKey, err)
	}
	return d.verifyLog(snapshot.Index)
}

// verifyLog checks the entries. Those before a snapshot need not be there: one that came from another node leaves a gap.
func (d *disk) verifyLog(snapshot uint64) error {
	first, firstErr := d.FirstIndex()
	last, lastErr := d.LastIndex()
	if err := errors.Join(firstErr, lastErr); err != nil || last == 0 {
		return err
	}
	if first > snapshot+1 {
		return fmt.Errorf("entries %d to %d are missing", snapshot+1, first-1)
	}
	for index := first; index <= last; index++ {
		var entry raft.Log
		err := d.GetLog(index, &entry)
		if errors.Is(err, raft.ErrLogNotFound) && index <= snapshot {
			continue
		}
		if err == nil && entry.Index != index {
			err = fmt.Errorf("it is entry %d", entry.Index)
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
	}
	return nil
}

// StoreLog is raft.LogStore's.
func (d *disk) StoreLog(entry *raft.Log) error { return d.StoreLogs([]*raft.Log{entry}) }

// StoreLogs keeps each entry's checksum in Extensions, which raft has for such things.
func (d *disk) StoreLogs(entries []*raft.Log) error {
	summed := make([]*raft.Log, len(entries))
	for i, entry := range entries {
		copied := *entry // a follower's raft still reads the one it gave
		copied.Extensions = binary.BigEndian.AppendUint32(nil, sumOf(entry))
		summed[i] = &copied
	}
	return d.Storage.StoreLogs(summed)
}

// GetLog is raft.LogStore's.
func (d *disk) GetLog(index uint64, entry *raft.Log) error {
	if err := d.Storage.GetLog(index, entry); err != nil {
		return err
	}
	if len(entry.Extensions) != checksumBytes || binary.BigEndian.Uint32(entry.Extensions) != sumOf(entry) {
		return errChecksum
	}
	return nil
}

func sumOf(entry *raft.Log) uint32 {
	head := binary.BigEndian.AppendUint64(nil, entry.Index)
	head = binary.BigEndian.AppendUint64(head, entry.Term)
	return crc32.Update(crc32.Checksum(append(head, byte(entry.Type)), castagnoli), castagnoli, entry.Data)
}

// Set is raft.StableStore's. An empty value is as none.
func (d *disk) Set(key, value []byte) error {
	err := d.Storage.Set(key, seal(key, value))
	if err != nil && string(key) == termKey {
		return d.insist(key, value, err)
	}
	return err
}

// insist writes until it is written: raft ends the whole program when it cannot write its term. That holds up raft, but nothing else.
func (d *disk) insist(key, value []byte, err error) error {
	d.log.Error("the membership log cannot be written; members can neither join nor be removed until it can", "error", err)
	for {
		select {
		case <-d.closing:
			return nil
		case <-time.After(retryWriteTime):
		}
		if d.Storage.Set(key, seal(key, value)) == nil {
			d.log.Info("the membership log can be written again")
			return nil
		}
	}
}

// Get is raft.StableStore's.
func (d *disk) Get(key []byte) ([]byte, error) {
	stored, err := d.Storage.Get(key)
	if err != nil {
		return nil, err
	}
	if len(stored) < checksumBytes {
		return nil, errChecksum
	}
	value := stored[:len(stored)-checksumBytes]
	if !bytes.Equal(seal(key, value), stored) {
		return nil, errChecksum
	}
	if len(value) == 0 {
		return nil, errNotFound
	}
	return value, nil
}

// seal returns value followed by a checksum of key and value.
func seal(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return binary.BigEndian.AppendUint32(bytes.Clone(value), sum)
}

// SetUint64 is raft.StableStore's.
func (d *disk) SetUint64(key []byte, n uint64) error {
	return d.Set(key, binary.BigEndian.AppendUint64(nil, n))
}

// GetUint64 is raft.StableStore's.
func (d *disk) GetUint64(key []byte) (uint64, error) {
	value, err := d.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("it has %d bytes instead of 8", len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}

func missing(err error) bool { return err != nil && err.Error() == errNotFound.Error() }

// forget drops log and snapshot. The term and the vote stay: raft may not vote twice in one term.
func (d *disk) forget() error {
	first, firstErr := d.FirstIndex()
	last, lastErr := d.LastIndex()
	err := errors.Join(firstErr, lastErr)
	if err == nil && last > 0 {
		err = d.DeleteRange(first, last)
	}
	return errors.Join(err, d.Set([]byte(snapshotKey), nil))
}
