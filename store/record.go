package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"
)

const checksumBytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errChecksum = errors.New("its checksum is wrong")

// putRecord stores value under key, followed by a checksum of both.
func putRecord(b *bbolt.Bucket, key string, value []byte) error {
	sum := recordSum(key, value)
	return b.Put([]byte(key), binary.BigEndian.AppendUint32(append([]byte(nil), value...), sum))
}

// getRecord returns a copy of the value that putRecord stored under key, or an error if it is not there or has changed.
func getRecord(b *bbolt.Bucket, key string) ([]byte, error) {
	stored := b.Get([]byte(key))
	if stored == nil {
		return nil, fmt.Errorf("record %q is missing", key)
	}
	if len(stored) < checksumBytes {
		return nil, fmt.Errorf("record %q: %w", key, errChecksum)
	}
	value, sum := stored[:len(stored)-checksumBytes], binary.BigEndian.Uint32(stored[len(stored)-checksumBytes:])
	if recordSum(key, value) != sum {
		return nil, fmt.Errorf("record %q: %w", key, errChecksum)
	}
	return append([]byte(nil), value...), nil
}

func recordSum(key string, value []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, value)
}

func putUint64(b *bbolt.Bucket, key string, n uint64) error {
	return putRecord(b, key, binary.BigEndian.AppendUint64(nil, n))
}

func getUint64(b *bbolt.Bucket, key string) (uint64, error) {
	value, err := getRecord(b, key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("record %q has %d bytes instead of 8", key, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}
