package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// edit changes the identity records of the data directory dir.
func edit(t *testing.T, dir string, change func(b *bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, fileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte(identityBucket))) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenReportsWhatIsWrongWithARecord(t *testing.T) {
	for name, test := range map[string]struct {
		change func(b *bbolt.Bucket) error
		want   string
	}{
		"newer format":  {func(b *bbolt.Bucket) error { return putUint64(b, formatKey, 2) }, "written by a newer rollcall (format 2, this one reads 1)"},
		"no format":     {func(b *bbolt.Bucket) error { return b.Delete([]byte(formatKey)) }, `record "format" is missing`},
		"no node id":    {func(b *bbolt.Bucket) error { return b.Delete([]byte(nodeIDKey)) }, `record "node_id" is missing`},
		"short":         {func(b *bbolt.Bucket) error { return b.Put([]byte(nodeIDKey), []byte("abc")) }, `record "node_id": its checksum is wrong`},
		"wrong size":    {func(b *bbolt.Bucket) error { return putRecord(b, incarnationKey, []byte{1}) }, `record "incarnation" has 1 bytes instead of 8`},
		"another's sum": {func(b *bbolt.Bucket) error { return b.Put([]byte(incarnationKey), b.Get([]byte(formatKey))) }, `record "incarnation": its checksum is wrong`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			edit(t, dir, test.change)
			before, err := os.ReadFile(filepath.Join(dir, fileName))
			if err != nil {
				t.Fatal(err)
			}
			_, err = Open(dir)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("Open = %v, want ErrCorrupt with %q and the path", err, test.want)
			}
			after, err := os.ReadFile(filepath.Join(dir, fileName))
			if err != nil {
				t.Fatal(err)
			}
			if string(after) != string(before) {
				t.Error("Open changed a file that it refused")
			}
		})
	}
}
