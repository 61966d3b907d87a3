package membership

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func newDisk(storage Storage) *disk {
	return &disk{Storage: storage, log: slog.New(slog.DiscardHandler), closing: make(chan struct{})}
}

// written returns a storage with a term, a snapshot up to entry 3, and the entries 2 to 9.
func written(t *testing.T) *raft.InmemStore {
	t.Helper()
	storage := raft.NewInmemStore()
	d := newDisk(storage)
	for index := uint64(1); index < 10; index++ {
		if err := d.StoreLog(&raft.Log{Index: index, Term: 2, Data: []byte{byte(index)}}); err != nil {
			t.Fatal(err)
		}
	}
	sink, err := (&snapshots{d}).Create(1, 3, 2, raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}}}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sink.Write([]byte("list"))
	if err := errors.Join(err, sink.Close(), d.DeleteRange(1, 1), d.SetUint64([]byte(termKey), 2), d.Set([]byte("LastVoteCand"), []byte("a"))); err != nil {
		t.Fatal(err)
	}
	return storage
}

func TestDiskGivesBackWhatWasWritten(t *testing.T) {
	d := newDisk(written(t))
	if err := d.verify(); err != nil {
		t.Fatalf("verify = %v", err)
	}
	if term, err := d.GetUint64([]byte(termKey)); term != 2 || err != nil {
		t.Errorf("the term is %d, %v, want 2", term, err)
	}
	if _, err := d.Get([]byte("none")); !missing(err) {
		t.Errorf("Get of what is not there = %v, want not found", err)
	}
	if _, err := d.GetUint64([]byte("none")); !missing(err) {
		t.Errorf("GetUint64 of what is not there = %v, want not found", err)
	}
	metas, err := (&snapshots{d}).List()
	if err != nil || len(metas) != 1 || metas[0].Index != 3 || metas[0].Term != 2 || metas[0].Configuration.Servers[0].ID != "a" {
		t.Fatalf("List = %v, %v", metas, err)
	}
	_, reader, err := (&snapshots{d}).Open(metas[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(reader); string(data) != "list" || err != nil {
		t.Errorf("the snapshot is %q, %v, want list", data, err)
	}
	if _, _, err := (&snapshots{d}).Open("9-9"); err == nil {
		t.Error("Open of a snapshot that is gone = nil")
	}

	if err := d.forget(); err != nil {
		t.Fatal(err)
	}
	if last, err := d.LastIndex(); last != 0 || err != nil {
		t.Errorf("after forget the last entry is %d, %v", last, err)
	}
	if metas, err := (&snapshots{d}).List(); len(metas) != 0 || err != nil {
		t.Errorf("after forget List = %v, %v", metas, err)
	}
	if term, err := d.GetUint64([]byte(termKey)); term != 2 || err != nil {
		t.Errorf("after forget the term is %d, %v, want 2", term, err)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	flip := func(s *raft.InmemStore, key string) {
		value, err := s.Get([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		value = bytes.Clone(value)
		value[0] ^= 1
		_ = s.Set([]byte(key), value)
	}
	for name, test := range map[string]struct {
		damage func(*raft.InmemStore)
		want   string
	}{
		"the term":               {func(s *raft.InmemStore) { flip(s, termKey) }, termKey},
		"the vote":               {func(s *raft.InmemStore) { flip(s, "LastVoteCand") }, "LastVoteCand"},
		"the snapshot":           {func(s *raft.InmemStore) { flip(s, snapshotKey) }, snapshotKey},
		"a short value":          {func(s *raft.InmemStore) { _ = s.Set([]byte(termKey), []byte{1}) }, termKey},
		"another's snapshot":     {func(s *raft.InmemStore) { _ = s.Set([]byte(snapshotKey), seal([]byte(snapshotKey), []byte("?"))) }, snapshotKey},
		"an entry's data":        {func(s *raft.InmemStore) { changeEntry(t, s, func(e *raft.Log) { e.Data = []byte("?") }) }, "entry 5"},
		"an entry's term":        {func(s *raft.InmemStore) { changeEntry(t, s, func(e *raft.Log) { e.Term++ }) }, "entry 5"},
		"an entry's type":        {func(s *raft.InmemStore) { changeEntry(t, s, func(e *raft.Log) { e.Type = raft.LogConfiguration }) }, "entry 5"},
		"an entry's checksum":    {func(s *raft.InmemStore) { changeEntry(t, s, func(e *raft.Log) { e.Extensions = nil }) }, "entry 5"},
		"a gap after a snapshot": {func(s *raft.InmemStore) { _ = s.DeleteRange(2, 5) }, "entries 4 to 5 are missing"},
		"an entry that is gone":  {func(s *raft.InmemStore) { _ = newDisk(s).StoreLog(&raft.Log{Index: 12}) }, "entry 10"},
	} {
		t.Run(name, func(t *testing.T) {
			s := written(t)
			test.damage(s)
			checkRefused(t, s, test.want)
		})
	}
	checkRefused(t, panicking{written(t)}, "do not fit together")
}

func checkRefused(t *testing.T, storage Storage, want string) {
	t.Helper()
	_, err := Open(Config{ID: "a", ClusterAddr: "a:1", Storage: storage, Streams: noStreams{}, Client: noClient{}})
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "raft.db") || !strings.Contains(err.Error(), want) {
		t.Errorf("Open = %v, want ErrCorrupt that is about %q and says what to do", err, want)
	}
}

func changeEntry(t *testing.T, s *raft.InmemStore, change func(*raft.Log)) {
	t.Helper()
	var entry raft.Log
	if err := s.GetLog(5, &entry); err != nil {
		t.Fatal(err)
	}
	change(&entry)
	if err := s.StoreLog(&entry); err != nil {
		t.Fatal(err)
	}
}

// panicking is as raft-boltdb with a key of a wrong length.
type panicking struct{ Storage }

func (panicking) FirstIndex() (uint64, error) { panic("index out of range") }

type (
	noStreams struct{ Streams }
	noClient  struct{ Client }
)

// full is a disk on which nothing can be written at times.
type full struct {
	*raft.InmemStore
	is atomic.Bool
}

var errFull = errors.New("no space left on device")

func (f *full) Set(key, value []byte) error {
	if f.is.Load() {
		return errFull
	}
	return f.InmemStore.Set(key, value)
}

func TestRaftWaitsForADiskThatCannotTakeItsTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := &full{InmemStore: raft.NewInmemStore()}
		storage.is.Store(true)
		d := newDisk(storage)
		if err := d.Set([]byte("LastVoteCand"), []byte("a")); !errors.Is(err, errFull) {
			t.Errorf("Set of a vote = %v, want what the disk said", err)
		}
		written := make(chan error)
		go func() { written <- d.SetUint64([]byte(termKey), 5) }()
		time.Sleep(time.Minute)
		select {
		case err := <-written:
			t.Fatalf("SetUint64 of the term = %v on a full disk, want it to wait", err)
		default:
		}
		storage.is.Store(false)
		if err := <-written; err != nil {
			t.Errorf("SetUint64 of the term = %v", err)
		}
		if term, err := d.GetUint64([]byte(termKey)); term != 5 || err != nil {
			t.Errorf("the term is %d, %v, want 5", term, err)
		}
		storage.is.Store(true)
		go func() { written <- d.SetUint64([]byte(termKey), 6) }()
		synctest.Wait()
		close(d.closing)
		<-written
	})
}
