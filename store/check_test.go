package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// largeFile makes a database with branch pages, values longer than a page, nested buckets and free pages.
func largeFile(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "large.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 10 {
		err = errors.Join(err, db.Update(func(tx *bbolt.Tx) error {
			outer, err := tx.CreateBucketIfNotExists([]byte("outer"))
			if err != nil {
				return err
			}
			inner, err := outer.CreateBucketIfNotExists([]byte("inner"))
			if err != nil {
				return err
			}
			for range 300 {
				key := fmt.Appendf(nil, "key %d", random.IntN(2000))
				err = errors.Join(err, outer.Delete(key), inner.Put(key, make([]byte, random.IntN(200))))
			}
			return errors.Join(err, outer.Put(fmt.Appendf(nil, "key %d", random.IntN(2000)), make([]byte, random.IntN(20000))))
		}))
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func checkFile(t *testing.T, path string) error {
	t.Helper()
	var file *os.File
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{OpenFile: func(name string, flag int, perm os.FileMode) (_ *os.File, err error) {
		file, err = os.OpenFile(name, flag, perm)
		return file, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	return db.View(func(tx *bbolt.Tx) error { return check(file, tx) })
}

func TestCheckAcceptsALargeFile(t *testing.T) {
	if err := checkFile(t, largeFile(t)); err != nil {
		t.Errorf("check = %v, want nil", err)
	}
}

func TestCheckOfABranchPage(t *testing.T) {
	for name, test := range map[string]struct {
		patch func(page []byte, id uint64)
		want  string
	}{
		"its own child":       {func(page []byte, id uint64) { binary.NativeEndian.PutUint64(page[24:], id) }, "is used twice"},
		"a child far away":    {func(page []byte, _ uint64) { binary.NativeEndian.PutUint64(page[24:], 1<<40) }, "is out of range"},
		"a child below zero":  {func(page []byte, _ uint64) { binary.NativeEndian.PutUint64(page[24:], ^uint64(0)) }, "is out of range"},
		"a meta page's":       {func(page []byte, _ uint64) { binary.NativeEndian.PutUint64(page[24:], 1) }, "is out of range"},
		"a key far away":      {func(page []byte, _ uint64) { binary.NativeEndian.PutUint32(page[16:], 1<<30) }, "a key ends beyond its page"},
		"too many children":   {func(page []byte, _ uint64) { binary.NativeEndian.PutUint16(page[10:], 60000) }, "claims 60000 elements"},
		"longer than it is":   {func(page []byte, _ uint64) { binary.NativeEndian.PutUint32(page[12:], 1<<30) }, "ends beyond the file"},
		"another page's id":   {func(page []byte, id uint64) { binary.NativeEndian.PutUint64(page, id+1) }, "calls itself"},
		"a lower key":         {func(page []byte, _ uint64) { secondKey(page)[0] = 0 }, "out of order"},
		"a higher key":        {func(page []byte, _ uint64) { secondKey(page)[0] = 0xff }, "out of order"},
		"of an unknown type":  {func(page []byte, _ uint64) { binary.NativeEndian.PutUint16(page[8:], 0x40) }, "unknown type 0x40"},
		"over its neighbours": {func(page []byte, _ uint64) { binary.NativeEndian.PutUint32(page[12:], 3) }, "page"},
	} {
		t.Run(name, func(t *testing.T) {
			path := largeFile(t)
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			id := reachableBranch(t, path, file)
			test.patch(file[id*os.Getpagesize():], uint64(id))
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := checkFile(t, path); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("check = %v, want an error with %q", err, test.want)
			}
		})
	}
}

// secondKey returns that of the second element of a branch page: lowering the first one would do no harm.
func secondKey(page []byte) []byte {
	return page[pageHeaderBytes+elementBytes+binary.NativeEndian.Uint32(page[pageHeaderBytes+elementBytes:]):]
}

// reachableBranch returns the number of a branch page that is in use.
func reachableBranch(t *testing.T, path string, file []byte) (id int) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		id = int(tx.Bucket([]byte("outer")).Bucket([]byte("inner")).Root())
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if flags := binary.NativeEndian.Uint16(file[id*os.Getpagesize()+8:]); flags != branchFlag {
		t.Fatalf("page %d has the flags %#x; the file is too small to have a branch page", id, flags)
	}
	return id
}
