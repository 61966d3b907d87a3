package membership

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// fsm is raft's way to the list. The list is also stored at each change, so that it is known before a quorum is; raft, which after
// a restart goes through its log again, then tells of nothing new.
type fsm struct{ m *Membership }

// Apply is raft.FSM's. It returns nil or an error for the one who proposed.
func (f fsm) Apply(entry *raft.Log) any {
	present := f.m.list()
	if entry.Index <= present.Index {
		return nil
	}
	var c command
	if err := decode(entry.Data, &c); err != nil {
		f.m.log.Warn("skipped an entry of the membership log that this version does not understand", "index", entry.Index, "error", err)
		c = command{}
	}
	next, known, err := present.apply(entry.Index, c)
	if !known && c.Kind != 0 && f.m.causes.changed("kind", fmt.Sprint(c.Kind)) {
		f.m.log.Warn("skipped a command of a later version in the membership log; upgrade this node", "kind", c.Kind)
	}
	f.m.setList(next)
	if err != nil {
		return err
	}
	return nil
}

// StoreConfiguration is raft.ConfigurationStore's: roles have changed.
func (f fsm) StoreConfiguration(uint64, raft.Configuration) { f.m.stir() }

// Snapshot is raft.FSM's.
func (f fsm) Snapshot() (raft.FSMSnapshot, error) { return fsmSnapshot(encode(f.m.list())), nil }

// Restore is raft.FSM's.
func (f fsm) Restore(snapshot io.ReadCloser) error {
	defer snapshot.Close()
	data, err := io.ReadAll(io.LimitReader(snapshot, maxMessageBytes))
	if err != nil {
		return err
	}
	var restored list
	if err := decode(data, &restored); err != nil {
		return fmt.Errorf("membership: snapshot: %w", err)
	}
	if restored.Index > f.m.list().Index {
		f.m.setList(restored)
	}
	return nil
}

// fsmSnapshot is an encoded list.
type fsmSnapshot []byte

func (s fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	_, err := sink.Write(s)
	return err
}

func (s fsmSnapshot) Release() {}
