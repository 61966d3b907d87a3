package membership

import (
	"bytes"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// snapshots keeps the newest snapshot as one value beside raft's others: it is a list of members, some kilobytes.
type snapshots struct{ disk *disk }

type storedSnapshot struct {
	Index              uint64 `cbor:"1,keyasint"`
	Term               uint64 `cbor:"2,keyasint"`
	Configuration      []byte `cbor:"3,keyasint"` // as raft encodes it
	ConfigurationIndex uint64 `cbor:"4,keyasint"`
	Data               []byte `cbor:"5,keyasint"`
}

func (s storedSnapshot) meta() *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version:            raft.SnapshotVersionMax,
		ID:                 fmt.Sprintf("%d-%d", s.Term, s.Index),
		Index:              s.Index,
		Term:               s.Term,
		Configuration:      raft.DecodeConfiguration(s.Configuration),
		ConfigurationIndex: s.ConfigurationIndex,
		Size:               int64(len(s.Data)),
	}
}

func (s *snapshots) load() (stored storedSnapshot, meta *raft.SnapshotMeta, err error) {
	data, err := s.disk.Get([]byte(snapshotKey))
	if err != nil {
		return storedSnapshot{}, nil, err
	}
	if err := decode(data, &stored); err != nil {
		return storedSnapshot{}, nil, err
	}
	return stored, stored.meta(), nil
}

// Create is raft.SnapshotStore's.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != raft.SnapshotVersionMax {
		return nil, fmt.Errorf("unsupported snapshot version %d", version)
	}
	return &sink{store: s, snapshot: storedSnapshot{Index: index, Term: term,
		Configuration: raft.EncodeConfiguration(configuration), ConfigurationIndex: configurationIndex}}, nil
}

// List is raft.SnapshotStore's.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	_, meta, err := s.load()
	switch {
	case missing(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return []*raft.SnapshotMeta{meta}, nil
}

// Open is raft.SnapshotStore's.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	stored, meta, err := s.load()
	if err != nil {
		return nil, nil, err
	}
	if meta.ID != id {
		return nil, nil, fmt.Errorf("snapshot %s is gone, there is %s", id, meta.ID)
	}
	return meta, io.NopCloser(bytes.NewReader(stored.Data)), nil
}

// sink is a snapshot that is being made. Only Close stores it.
type sink struct {
	store     *snapshots
	snapshot  storedSnapshot
	data      bytes.Buffer
	cancelled bool
}

func (s *sink) Write(p []byte) (int, error) {
	if s.data.Len()+len(p) > maxMessageBytes {
		return 0, fmt.Errorf("a snapshot of more than %d bytes", maxMessageBytes)
	}
	return s.data.Write(p)
}

func (s *sink) ID() string { return fmt.Sprintf("%d-%d", s.snapshot.Term, s.snapshot.Index) }

func (s *sink) Cancel() error {
	s.cancelled = true
	return nil
}

func (s *sink) Close() error {
	if s.cancelled {
		return nil
	}
	s.snapshot.Data = s.data.Bytes()
	return s.store.disk.Set([]byte(snapshotKey), encode(s.snapshot))
}
