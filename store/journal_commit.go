package store

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// index says in which slot the record of a key is. Slots are small numbers that are used again, so records lie close together and a table
// of leases stays short.
type index struct {
	slots map[string]uint32
	free  []uint32 // below next
	next  uint32   // never used
	stale []uint32 // hold what no key leads to; the next commit deletes it
}

// take returns the slot of key, which it gets if it has none.
func (x *index) take(key string) uint32 {
	slot, ok := x.slots[key]
	if ok {
		return slot
	}
	if n := len(x.free); n > 0 {
		slot, x.free = x.free[n-1], x.free[:n-1]
	} else {
		slot = x.next
		x.next++
	}
	x.slots[key] = slot
	return slot
}

func (x *index) release(key string, slot uint32) {
	delete(x.slots, key)
	x.free = append(x.free, slot)
}

// commit is one transaction. What it changes in memory is either right whether or not it succeeds, or left to done.
type commit struct {
	*Journal
	now     time.Time
	all     bool              // store every renewed lease, due or not
	deleted map[string]uint32 // keys and their slots
	pages   []uint32          // of leases
}

func (c *commit) apply(tx *bbolt.Tx, batch []Record) error {
	records, leases := tx.Bucket([]byte(recordsBucket)), tx.Bucket([]byte(leasesBucket))
	if records == nil || leases == nil {
		return &damagedError{errors.New("a bucket is gone")}
	}
	// Slots mostly rise, so pages are split at their ends: leave little room there.
	records.FillPercent = 0.9
	seq := c.seq + 1
	c.deleted = map[string]uint32{}
	for _, r := range batch {
		if err := c.applyRecord(records, seq, r); err != nil {
			return err
		}
	}
	for _, slot := range c.index.stale {
		if err := records.Delete(slotKey(slot)); err != nil {
			return err
		}
	}
	c.pages = c.leases.due(c.now, c.all)
	for _, page := range c.pages {
		if err := leases.Put(slotKey(page), c.leases.encode(page, seq)); err != nil {
			return err
		}
	}
	return putState(tx.Bucket([]byte(journalBucket)), journalState{seq: seq, written: c.now})
}

func (c *commit) applyRecord(records *bbolt.Bucket, seq uint64, r Record) error {
	if r.Value == nil {
		slot, ok := c.index.slots[r.Key]
		if !ok {
			return nil
		}
		c.deleted[r.Key] = slot
		return records.Delete(slotKey(slot))
	}
	slot, deadline := c.index.take(r.Key), deadlineOf(r.Deadline)
	delete(c.deleted, r.Key)
	c.leases.set(slot, deadline)
	return records.Put(slotKey(slot), encodeRecord(slot, storedRecord{seq: seq, deadline: deadline, key: r.Key, value: r.Value}))
}

// done follows a transaction that is on disk.
func (c *commit) done() {
	for key, slot := range c.deleted {
		c.index.release(key, slot)
	}
	c.index.free = append(c.index.free, c.index.stale...)
	c.index.stale = nil
	c.leases.stored(c.pages)
	c.seq++
	c.last = c.now
}

// loading reads a file into the index and the leases of its journal.
type loading struct {
	j       *Journal
	index   index
	leases  leaseTable
	seq     uint64
	damaged uint64
}

const loadBatch = 1024 // records that are read before they are restored

func newLoading(j *Journal) *loading {
	return &loading{j: j, index: index{slots: map[string]uint32{}}, leases: leaseTable{interval: j.config.LeaseInterval}, seq: j.seq}
}

// run restores all records. A panic of restore is none of bbolt's, so records are read under guard, and restored outside of it.
func (l *loading) run(restore func(Record) error) (err error) {
	file := l.j.file
	var tx *bbolt.Tx
	if err := file.guard(func() (err error) {
		tx, err = file.db.Begin(false)
		return err
	}); err != nil {
		return err
	}
	defer func() {
		if rollbackErr := file.guard(tx.Rollback); err == nil {
			err = rollbackErr
		}
	}()
	if err := file.guard(func() error { return l.readLeases(tx) }); err != nil {
		return err
	}
	reader := &recordReader{loading: l}
	for more := true; more; {
		if err := file.guard(func() error {
			more, err = reader.read(tx)
			return err
		}); err != nil {
			return err
		}
		for _, r := range reader.batch {
			if err := restore(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *loading) readLeases(tx *bbolt.Tx) error {
	b := tx.Bucket([]byte(leasesBucket))
	if b == nil {
		return &damagedError{errors.New("its leases are gone")}
	}
	return b.ForEach(func(key, value []byte) error {
		seq, ok := l.leases.decode(key, value)
		if !ok {
			l.damaged++
		}
		l.seq = max(l.seq, seq)
		return nil
	})
}

// finish gives the journal what was read.
func (l *loading) finish() {
	j := l.j
	l.leases.loaded()
	j.index, j.leases, j.seq, j.loaded = l.index, l.leases, l.seq, true
	// The holes, the lowest on top.
	used := make([]bool, l.index.next)
	for _, slot := range l.index.slots {
		used[slot] = true
	}
	for _, slot := range l.index.stale {
		used[slot] = true
	}
	for slot := range used {
		if !used[slot] {
			j.index.free = append(j.index.free, uint32(slot))
		}
	}
	slices.Reverse(j.index.free)
	if l.damaged == 0 {
		return
	}
	j.config.Logger.Warn("parts of the session journal are damaged and are skipped", "file", j.path, "damaged", l.damaged, "restored", len(j.index.slots))
	j.statsMu.Lock()
	defer j.statsMu.Unlock()
	j.stats.Damaged += l.damaged
}

// recordReader goes over the records, a batch at a time.
type recordReader struct {
	*loading
	cursor *bbolt.Cursor
	batch  []Record
	values []byte // theirs
}

// read fills batch and tells whether there may be more.
func (r *recordReader) read(tx *bbolt.Tx) (more bool, err error) {
	var slotBytes, value []byte
	if r.cursor == nil {
		b := tx.Bucket([]byte(recordsBucket))
		if b == nil {
			return false, &damagedError{errors.New("its records are gone")}
		}
		r.cursor = b.Cursor()
		slotBytes, value = r.cursor.First()
	} else {
		slotBytes, value = r.cursor.Next()
	}
	r.batch, r.values = r.batch[:0], r.values[:0]
	for slotBytes != nil {
		if err := r.readRecord(slotBytes, value); err != nil {
			return false, err
		}
		if len(r.batch) == loadBatch {
			return true, nil
		}
		slotBytes, value = r.cursor.Next()
	}
	return false, nil
}

func (r *recordReader) readRecord(slotBytes, value []byte) error {
	if len(slotBytes) != slotBytesLen {
		return &damagedError{errors.New("a record is in no slot")}
	}
	slot := binary.BigEndian.Uint32(slotBytes)
	if slot < r.index.next || slot >= maxSlots {
		return &damagedError{errors.New("its records are out of order")}
	}
	r.index.next = slot + 1
	stored, ok := decodeRecord(slot, value)
	if _, twice := r.index.slots[stored.key]; !ok || twice {
		r.damaged++
		r.index.stale = append(r.index.stale, slot)
		return nil
	}
	r.index.slots[stored.key] = slot
	r.seq = max(r.seq, stored.seq)
	from := len(r.values)
	r.values = append(r.values, stored.value...)
	r.batch = append(r.batch, Record{Key: stored.key, Value: r.values[from:], Deadline: r.leases.merge(slot, stored).time()})
	return nil
}
