package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/bbolt"
)

// bbolt trusts what it reads: on a damaged file it follows a page that is its own child for ever, reads where nothing is mapped, and
// writes over good pages that the list of free ones names. Its own Check does the same. So the structure is checked here, from
// the bytes of the file, before bbolt follows any of it. The layout is that of bbolt's internal/common/page.go.
const (
	pageHeaderBytes   = 16 // id 8, flags 2, count 2, overflow 4
	elementBytes      = 16 // branch: pos 4, key size 4, child 8; leaf: flags 4, pos 4, key size 4, value size 4
	bucketHeaderBytes = 16 // root page 8, sequence 8; with root page 0 the bucket's only page follows

	metaPages       = 2
	branchFlag      = 0x01
	leafFlag        = 0x02
	bucketEntryFlag = 0x01
)

// checker walks all pages that are reachable in tx.
type checker struct {
	file     io.ReaderAt
	tx       *bbolt.Tx
	pageSize int
	pages    uint64 // how many the file has
	used     map[uint64]bool
}

// check returns what is wrong with the structure of the file behind tx.
func check(file *os.File, tx *bbolt.Tx) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("it has %d bytes instead of %d", info.Size(), tx.Size())
	}
	pageSize := tx.DB().Info().PageSize
	c := &checker{file: file, tx: tx, pageSize: pageSize, pages: uint64(tx.Size()) / uint64(pageSize), used: map[uint64]bool{0: true, 1: true}}
	if err := c.checkPage(uint64(tx.Cursor().Bucket().Root()), keyRange{}); err != nil {
		return err
	}
	return c.checkFree()
}

// keyRange is where the keys of a page must lie, as its parent says: bbolt finds no others.
type keyRange struct {
	from, to []byte // from is in it, to is not; nil for no bound
}

func (r keyRange) contains(key []byte) bool {
	return (r.from == nil || bytes.Compare(key, r.from) >= 0) && (r.to == nil || bytes.Compare(key, r.to) < 0)
}

// checkPage checks the page id and all below it.
func (c *checker) checkPage(id uint64, keys keyRange) error {
	page, err := c.usePage(id)
	if err != nil {
		return err
	}
	return c.checkElements(id, page, keys)
}

// usePage returns the page id with those that continue it, and notes that they are in use.
func (c *checker) usePage(id uint64) ([]byte, error) {
	if id < metaPages || id >= c.pages {
		return nil, fmt.Errorf("page %d is out of range", id)
	}
	header := make([]byte, pageHeaderBytes)
	if _, err := c.file.ReadAt(header, int64(id)*int64(c.pageSize)); err != nil {
		return nil, err
	}
	if got := binary.NativeEndian.Uint64(header); got != id {
		return nil, fmt.Errorf("page %d calls itself %d", id, got)
	}
	end := id + 1 + uint64(binary.NativeEndian.Uint32(header[12:]))
	if end > c.pages {
		return nil, fmt.Errorf("page %d ends beyond the file", id)
	}
	for part := id; part < end; part++ {
		if c.used[part] {
			return nil, fmt.Errorf("page %d is used twice", part)
		}
		c.used[part] = true
	}
	page := make([]byte, (end-id)*uint64(c.pageSize))
	_, err := c.file.ReadAt(page, int64(id)*int64(c.pageSize))
	return page, err
}

// checkElements checks a page, which for the page of an inline bucket has the id 0 and is a part of another one.
func (c *checker) checkElements(id uint64, page []byte, keys keyRange) error {
	flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	elements := page[pageHeaderBytes:]
	if len(elements) < count*elementBytes {
		return fmt.Errorf("page %d claims %d elements", id, count)
	}
	keyOf := leafKey
	if flags == branchFlag {
		keyOf = branchKey
	}
	for i := range count {
		if flags != leafFlag && (flags != branchFlag || id == 0) {
			return fmt.Errorf("page %d is of the unknown type %#x", id, flags)
		}
		element := elements[i*elementBytes:]
		key, err := keyOf(element)
		if err != nil {
			return err
		}
		below := keyRange{from: key, to: keys.to}
		if i+1 < count {
			if below.to, err = keyOf(elements[(i+1)*elementBytes:]); err != nil {
				return err
			}
		}
		if !keys.contains(key) || !below.contains(key) {
			return fmt.Errorf("page %d has its keys out of order", id)
		}
		if flags == branchFlag {
			err = c.checkPage(binary.NativeEndian.Uint64(element[8:]), below)
		} else {
			err = c.checkLeafElement(element)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// branchKey returns the key of the element at the start of rest, which goes on to the end of the page.
func branchKey(rest []byte) ([]byte, error) {
	return keyAt(rest, binary.NativeEndian.Uint32(rest), binary.NativeEndian.Uint32(rest[4:]))
}

// leafKey is as branchKey.
func leafKey(rest []byte) ([]byte, error) {
	return keyAt(rest, binary.NativeEndian.Uint32(rest[4:]), binary.NativeEndian.Uint32(rest[8:]))
}

func keyAt(rest []byte, pos, size uint32) ([]byte, error) {
	if uint64(pos)+uint64(size) > uint64(len(rest)) {
		return nil, errors.New("a key ends beyond its page")
	}
	return rest[pos:][:size], nil
}

// checkLeafElement checks the element at the start of rest, whose key has been checked.
func (c *checker) checkLeafElement(rest []byte) error {
	flags, pos := binary.NativeEndian.Uint32(rest), uint64(binary.NativeEndian.Uint32(rest[4:]))
	keySize, valueSize := uint64(binary.NativeEndian.Uint32(rest[8:])), uint64(binary.NativeEndian.Uint32(rest[12:]))
	if pos+keySize+valueSize > uint64(len(rest)) {
		return errors.New("a value ends beyond its page")
	}
	if flags&bucketEntryFlag == 0 {
		return nil
	}
	bucket := rest[pos+keySize:][:valueSize]
	if len(bucket) < bucketHeaderBytes {
		return errors.New("a bucket is too short")
	}
	if root := binary.NativeEndian.Uint64(bucket); root != 0 {
		return c.checkPage(root, keyRange{})
	}
	if len(bucket) < bucketHeaderBytes+pageHeaderBytes {
		return errors.New("a bucket is too short")
	}
	return c.checkElements(0, bucket[bucketHeaderBytes:], keyRange{})
}

// checkFree checks that every page is either used or free, and that the list of free pages names no other.
func (c *checker) checkFree() error {
	free, lists := 0, 0
	for id := uint64(0); id < c.pages; id++ {
		page, err := c.tx.Page(int(id))
		if err != nil {
			return err
		}
		if page.Type == "freelist" && !c.used[id] {
			lists++
			if _, err := c.usePage(id); err != nil {
				return err
			}
		}
		if page.Type == "free" {
			free++
		}
		if c.used[id] == (page.Type == "free") {
			return fmt.Errorf("page %d is used and free, or neither", id)
		}
	}
	if free != c.tx.DB().Stats().FreePageN || lists != 1 {
		return errors.New("its list of free pages is wrong")
	}
	return nil
}
