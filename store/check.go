package store

import (
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
	if err := c.checkPage(uint64(tx.Cursor().Bucket().Root())); err != nil {
		return err
	}
	return c.checkFree()
}

// checkPage checks the page id and all below it.
func (c *checker) checkPage(id uint64) error {
	page, err := c.usePage(id)
	if err != nil {
		return err
	}
	return c.checkElements(id, page)
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
func (c *checker) checkElements(id uint64, page []byte) error {
	flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	elements := page[pageHeaderBytes:]
	if len(elements) < count*elementBytes {
		return fmt.Errorf("page %d claims %d elements", id, count)
	}
	for i := range count {
		element := elements[i*elementBytes:]
		var err error
		switch {
		case flags == branchFlag && id != 0:
			err = c.checkBranchElement(element)
		case flags == leafFlag:
			err = c.checkLeafElement(element)
		default:
			err = fmt.Errorf("page %d is of the unknown type %#x", id, flags)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkBranchElement checks the element at the start of rest, which goes on to the end of the page.
func (c *checker) checkBranchElement(rest []byte) error {
	pos, keySize := uint64(binary.NativeEndian.Uint32(rest)), uint64(binary.NativeEndian.Uint32(rest[4:]))
	if pos+keySize > uint64(len(rest)) {
		return errors.New("a key ends beyond its page")
	}
	return c.checkPage(binary.NativeEndian.Uint64(rest[8:]))
}

// checkLeafElement is as checkBranchElement.
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
		return c.checkPage(root)
	}
	if len(bucket) < bucketHeaderBytes+pageHeaderBytes {
		return errors.New("a bucket is too short")
	}
	return c.checkElements(0, bucket[bucketHeaderBytes:])
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
