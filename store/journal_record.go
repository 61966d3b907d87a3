package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"go.etcd.io/bbolt"
)

// The file: bucket "journal" has "format" and "state" (number and time of the last commit), bucket "records" by slot the records, bucket "leases"
// by page the deadlines of slotsPerPage slots. Each value has its checksum, which covers its key.
const (
	journalFormat1 = 1
	journalBucket  = "journal"
	recordsBucket  = "records"
	leasesBucket   = "leases"
	stateKey       = "state"

	maxKeyBytes  = 255
	maxSlots     = 1 << 28 // far more than fit in memory; a number beyond is damage
	slotBytesLen = 4
	recordHeader = 8 + 4 + 1 // number of the commit, deadline, length of the key
)

// storedRecord is a record as it lies in its slot.
type storedRecord struct {
	seq      uint64 // of the commit that wrote it
	deadline deadline
	key      string
	value    []byte
}

// slotKey is the key in bbolt of a slot, or of a page of leases: big-endian, so that it sorts by number.
func slotKey(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func encodeRecord(slot uint32, r storedRecord) []byte {
	b := make([]byte, 0, recordHeader+len(r.key)+len(r.value)+checksumBytes)
	b = binary.BigEndian.AppendUint64(b, r.seq)
	b = binary.BigEndian.AppendUint32(b, uint32(r.deadline))
	b = append(b, byte(len(r.key)))
	b = append(b, r.key...)
	b = append(b, r.value...)
	return appendSum(b, slot)
}

// decodeRecord returns a record whose value is a part of b, or false if b is damaged.
func decodeRecord(slot uint32, b []byte) (r storedRecord, ok bool) {
	body, ok := cutSum(b, slot)
	if !ok || len(body) < recordHeader {
		return r, false
	}
	rest, keyLen := body[recordHeader:], int(body[recordHeader-1])
	if len(rest) < keyLen {
		return r, false
	}
	return storedRecord{
		seq:      binary.BigEndian.Uint64(body),
		deadline: deadline(binary.BigEndian.Uint32(body[8:])),
		key:      string(rest[:keyLen]),
		value:    rest[keyLen:],
	}, true
}

// appendSum appends the checksum of b, and of the number that it is stored under.
func appendSum(b []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(b, sumOf(b, n)) }

func cutSum(b []byte, n uint32) (body []byte, ok bool) {
	if len(b) < checksumBytes {
		return nil, false
	}
	body = b[:len(b)-checksumBytes]
	return body, sumOf(body, n) == binary.BigEndian.Uint32(b[len(body):])
}

func sumOf(b []byte, n uint32) uint32 {
	var number [slotBytesLen]byte
	binary.BigEndian.PutUint32(number[:], n)
	return crc32.Update(crc32.Checksum(number[:], castagnoli), castagnoli, b)
}

// journalState tells of the last commit.
type journalState struct {
	seq     uint64
	written time.Time
}

func putState(b *bbolt.Bucket, s journalState) error {
	if b == nil {
		return &damagedError{errors.New("its state is gone")}
	}
	var written int64
	if !s.written.IsZero() {
		written = s.written.UnixNano()
	}
	value := binary.BigEndian.AppendUint64(nil, s.seq)
	return putRecord(b, stateKey, binary.BigEndian.AppendUint64(value, uint64(written)))
}

func getState(b *bbolt.Bucket) (s journalState, err error) {
	value, err := getRecord(b, stateKey)
	if err != nil {
		return s, err
	}
	if len(value) != 16 {
		return s, errors.New("its state has another length")
	}
	s.seq = binary.BigEndian.Uint64(value)
	if written := int64(binary.BigEndian.Uint64(value[8:])); written != 0 {
		s.written = time.Unix(0, written)
	}
	return s, nil
}
