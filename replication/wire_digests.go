package replication

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/replication/protocol"
)

type wireDigests struct {
	Replicas []wireReplica `cbor:"0,keyasint"` // the first is the sender
	Beats    []wireBeat    `cbor:"1,keyasint,omitempty"`
	Shards   []wireDigest  `cbor:"2,keyasint,omitempty"`
}

type wireBeat struct {
	Replica    uint64   `cbor:"0,keyasint,omitempty"`
	Count      uint64   `cbor:"1,keyasint"`
	Age        int64    `cbor:"2,keyasint,omitempty"` // milliseconds
	Restored   []uint64 `cbor:"3,keyasint,omitempty"`
	Leaving    bool     `cbor:"4,keyasint,omitempty"`
	Sessions   uint64   `cbor:"5,keyasint,omitempty"`
	Presences  uint64   `cbor:"6,keyasint,omitempty"`
	Changes    uint64   `cbor:"7,keyasint,omitempty"`
	Version    string   `cbor:"8,keyasint,omitempty"`
	PublicAddr string   `cbor:"9,keyasint,omitempty"`
}

type wireDigest struct {
	Seen      []byte `cbor:"0,keyasint,omitempty"`
	Removals  []byte `cbor:"1,keyasint,omitempty"`
	Prints    []byte `cbor:"2,keyasint,omitempty"` // replicas, each with eight bytes
	Forgotten []byte `cbor:"3,keyasint,omitempty"` // replicas
}

// maxText bounds what a node says of itself in words.
const maxText = 1 << 10

func marshalDigests(d Digests) ([]byte, error) { return marshal(kindDigests, writeDigests(d)) }

func unmarshalDigests(message []byte) (Digests, error) {
	var body wireDigests
	if err := unmarshal(kindDigests, message, &body); err != nil {
		return Digests{}, err
	}
	d, err := readDigests(&body)
	return d, decodeError(kindDigests, err)
}

func writeDigests(d Digests) *wireDigests {
	replicas, body := newReplicaTable(d.From), &wireDigests{}
	for i := range d.Beats {
		body.Beats = append(body.Beats, writeBeat(&d.Beats[i], replicas))
	}
	for _, digest := range d.Shards {
		body.Shards = append(body.Shards, writeDigest(digest, replicas))
	}
	body.Replicas = replicas.list
	return body
}

func readDigests(body *wireDigests) (d Digests, err error) {
	replicas, err := readReplicas(body.Replicas)
	if err != nil {
		return Digests{}, err
	}
	if d.From, err = replicas.sender(); err != nil {
		return Digests{}, err
	}
	for i := range body.Beats {
		beat, err := readBeat(&body.Beats[i], replicas)
		if err != nil {
			return Digests{}, fmt.Errorf("beat: %w", err)
		}
		d.Beats = append(d.Beats, beat)
	}
	if n := len(body.Shards); n != 0 && n != presence.Shards {
		return Digests{}, fmt.Errorf("%d shards, where this node has %d", n, presence.Shards)
	}
	for i := range body.Shards {
		digest, err := readDigest(&body.Shards[i], replicas)
		if err != nil {
			return Digests{}, fmt.Errorf("digest: %w", err)
		}
		d.Shards = append(d.Shards, digest)
	}
	return d, nil
}

func writeBeat(b *protocol.Beat, replicas *replicaTable) wireBeat {
	return wireBeat{
		Replica: replicas.number(b.Replica), Count: b.Count, Age: milliseconds(b.Age), Restored: b.Restored, Leaving: b.Leaving,
		Sessions: b.Sessions, Presences: b.Presences, Changes: b.Changes, Version: b.Version, PublicAddr: b.PublicAddr,
	}
}

func readBeat(w *wireBeat, replicas replicaList) (b protocol.Beat, err error) {
	if b.Replica, err = replicas.at(w.Replica); err != nil {
		return b, err
	}
	if b.Age, err = duration(w.Age); err != nil {
		return b, fmt.Errorf("age: %w", err)
	}
	switch {
	case w.Count == 0:
		return b, errors.New("its count is 0")
	case len(w.Restored) > presence.Shards:
		return b, fmt.Errorf("it has restored %d shards, where this node has %d", len(w.Restored), presence.Shards)
	case len(w.Version) > maxText || len(w.PublicAddr) > maxText:
		return b, fmt.Errorf("its version or address is longer than %d bytes", maxText)
	}
	if len(w.Restored) == 0 {
		w.Restored = nil
	}
	b.Count = w.Count
	b.Status = protocol.Status{
		Restored: w.Restored, Leaving: w.Leaving, Sessions: w.Sessions, Presences: w.Presences, Changes: w.Changes, Version: w.Version, PublicAddr: w.PublicAddr,
	}
	return b, nil
}

func writeDigest(d crdt.Digest, replicas *replicaTable) wireDigest {
	w := wireDigest{Seen: appendContext(nil, d.Seen, replicas), Removals: appendContext(nil, d.Removals, replicas)}
	for _, replica := range slices.SortedFunc(maps.Keys(d.Prints), crdt.Replica.Compare) {
		w.Prints = binary.AppendUvarint(w.Prints, replicas.number(replica))
		w.Prints = binary.BigEndian.AppendUint64(w.Prints, d.Prints[replica])
	}
	for _, name := range slices.Sorted(maps.Keys(d.Forgotten)) {
		w.Forgotten = binary.AppendUvarint(w.Forgotten, replicas.number(crdt.Replica{Name: name, Incarnation: d.Forgotten[name]}))
	}
	return w
}

func readDigest(w *wireDigest, replicas replicaList) (d crdt.Digest, err error) {
	if d.Seen, err = readContext(w.Seen, replicas); err != nil {
		return d, err
	}
	if d.Removals, err = readContext(w.Removals, replicas); err != nil {
		return d, err
	}
	d.Prints = map[crdt.Replica]uint64{}
	n := readNumbers(w.Prints, replicas)
	for n.more() {
		replica := n.replica()
		d.Prints[replica] = n.fixed()
	}
	if n.err != nil {
		return d, fmt.Errorf("prints: %w", n.err)
	}
	d.Forgotten = map[string]uint64{}
	n = readNumbers(w.Forgotten, replicas)
	for n.more() {
		replica := n.replica()
		d.Forgotten[replica.Name] = max(d.Forgotten[replica.Name], replica.Incarnation)
	}
	if n.err != nil {
		return d, fmt.Errorf("forgotten: %w", n.err)
	}
	return d, nil
}
