package replication

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"rollcall/presence"
	"rollcall/presence/crdt"
)

const (
	// maxMeta bounds one meta. Nodes may allow less, each for its own clients.
	maxMeta  = 1 << 20
	refBytes = 16
)

// wireEntry is an entry with the dot that names it, or, in a session's state, the dots.
type wireEntry struct {
	Replica  uint64 `cbor:"0,keyasint,omitempty"`
	Counter  uint64 `cbor:"1,keyasint,omitempty"`
	Topic    uint64 `cbor:"2,keyasint,omitempty"` // its number in the message's table
	Key      string `cbor:"3,keyasint"`
	Session  string `cbor:"4,keyasint"`
	Ref      string `cbor:"5,keyasint"`
	PrevRef  string `cbor:"6,keyasint,omitempty"`
	Meta     []byte `cbor:"7,keyasint,omitempty"` // none for {}
	TTL      int64  `cbor:"8,keyasint"`           // milliseconds
	Claim    uint64 `cbor:"9,keyasint"`
	ByStream bool   `cbor:"10,keyasint,omitempty"`
	Dots     []byte `cbor:"11,keyasint,omitempty"`
}

// names numbers what a message names more than once.
type names struct {
	replicas *replicaTable
	topics   []string
	topic    map[presence.Topic]uint64
}

func newNames(first ...crdt.Replica) *names {
	return &names{replicas: newReplicaTable(first...), topic: map[presence.Topic]uint64{}}
}

func (n *names) numberTopic(topic presence.Topic) uint64 {
	number, ok := n.topic[topic]
	if !ok {
		number = uint64(len(n.topics))
		n.topic[topic] = number
		n.topics = append(n.topics, string(topic))
	}
	return number
}

func (n *names) entry(e *presence.Entry) wireEntry {
	w := wireEntry{
		Topic: n.numberTopic(e.Topic), Key: string(e.Key), Session: string(e.Session), Ref: string(e.Ref), PrevRef: string(e.PrevRef),
		TTL: milliseconds(e.TTL), Claim: e.Claim, ByStream: e.ByStream,
	}
	if !bytes.Equal(e.Meta, noMeta) {
		w.Meta = e.Meta
	}
	return w
}

var noMeta = []byte("{}")

// milliseconds rounds up, so that what is more than nothing stays so, and nothing that is passed on grows younger.
func milliseconds(d time.Duration) int64 {
	ms := d.Milliseconds()
	if time.Duration(ms)*time.Millisecond < d {
		ms++
	}
	return ms
}

// duration returns a time that is not negative, of at most a century.
func duration(ms int64) (time.Duration, error) {
	if ms < 0 || ms > maxMilliseconds {
		return 0, fmt.Errorf("a time of %d ms", ms)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

const maxMilliseconds = 100 * 365 * 24 * 3600 * 1000

// nameLists are tables that were read.
type nameLists struct {
	replicas replicaList
	topics   []presence.Topic
}

func readNames(replicas []wireReplica, topics []string) (nameLists, error) {
	list, err := readReplicas(replicas)
	if err != nil {
		return nameLists{}, err
	}
	lists := nameLists{replicas: list, topics: make([]presence.Topic, len(topics))}
	for i, topic := range topics {
		if lists.topics[i], err = presence.ParseTopic(topic); err != nil {
			return nameLists{}, err
		}
	}
	return lists, nil
}

func (l nameLists) entry(w *wireEntry) (*presence.Entry, error) {
	if w.Topic >= uint64(len(l.topics)) {
		return nil, fmt.Errorf("topic %d is not in its table of %d", w.Topic, len(l.topics))
	}
	p, err := readPresence(w)
	if err != nil {
		return nil, err
	}
	p.Topic = l.topics[w.Topic]
	ttl, err := duration(w.TTL)
	if err != nil {
		return nil, fmt.Errorf("ttl: %w", err)
	}
	return presence.NewEntry(p, ttl, w.Claim, w.ByStream), nil
}

// readPresence returns the presence without its topic.
func readPresence(w *wireEntry) (*presence.Presence, error) {
	key, err := presence.ParseKey(w.Key)
	if err != nil {
		return nil, err
	}
	session, err := presence.ParseSessionID(w.Session)
	if err != nil {
		return nil, err
	}
	if !isRef(w.Ref) || w.PrevRef != "" && !isRef(w.PrevRef) {
		return nil, errors.New("a ref is none")
	}
	if w.Meta == nil {
		w.Meta = noMeta
	}
	if !isMeta(w.Meta) {
		return nil, errors.New("a meta is no JSON object, or too long")
	}
	return &presence.Presence{Key: key, Session: session, Ref: presence.Ref(w.Ref), PrevRef: presence.Ref(w.PrevRef), Meta: w.Meta}, nil
}

func isRef(s string) bool {
	if len(s) != refBytes {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// isMeta checks that a meta can be written to clients as it is: its members follow those of the server.
func isMeta(meta []byte) bool {
	if bytes.Equal(meta, noMeta) {
		return true
	}
	return len(meta) <= maxMeta && bytes.HasPrefix(meta, []byte(`{"`)) && bytes.HasSuffix(meta, []byte("}")) && json.Valid(meta) && utf8.Valid(meta)
}
