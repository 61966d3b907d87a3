package replication

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"rollcall/presence"
	"rollcall/presence/crdt"
)

// wireParts is the body of a push, whose sender is the first of the replicas, and of a part of a repair.
type wireParts struct {
	Replicas []wireReplica     `cbor:"0,keyasint"`
	Topics   []string          `cbor:"1,keyasint,omitempty"`
	Parts    []cbor.RawMessage `cbor:"2,keyasint"` // each a wirePart. Raw, so that one after the other is decoded and checked
}

type wirePart struct {
	Shard    int         `cbor:"0,keyasint"`
	Seen     []byte      `cbor:"1,keyasint,omitempty"`
	Items    []wireEntry `cbor:"2,keyasint,omitempty"`
	Live     []byte      `cbor:"3,keyasint,omitempty"`
	Removals []byte      `cbor:"4,keyasint,omitempty"`
	Applied  []byte      `cbor:"5,keyasint,omitempty"`
}

func marshalPush(push Push) ([]byte, error) {
	body, err := writeParts(push.Parts, push.From)
	if err != nil {
		return nil, err
	}
	return marshal(kindPush, body)
}

func unmarshalPush(message []byte) (Push, error) {
	var body wireParts
	if err := unmarshal(kindPush, message, &body); err != nil {
		return Push{}, err
	}
	push, err := readPush(&body)
	return push, decodeError(kindPush, err)
}

func readPush(body *wireParts) (push Push, err error) {
	lists, err := readNames(body.Replicas, body.Topics)
	if err != nil {
		return Push{}, err
	}
	if push.From, err = lists.replicas.sender(); err != nil {
		return Push{}, err
	}
	push.Parts, err = readParts(body.Parts, lists)
	return push, err
}

func writeParts(parts []Part, first ...crdt.Replica) (*wireParts, error) {
	names, body := newNames(first...), &wireParts{}
	for i := range parts {
		raw, err := encMode.Marshal(writePart(&parts[i], names))
		if err != nil {
			return nil, fmt.Errorf("replication: encode a part: %w", err)
		}
		body.Parts = append(body.Parts, raw)
	}
	body.Replicas, body.Topics = names.replicas.list, names.topics
	return body, nil
}

func writePart(part *Part, names *names) *wirePart {
	delta := &part.Delta
	w := &wirePart{
		Shard:    part.Shard,
		Seen:     appendContext(nil, delta.Seen, names.replicas),
		Live:     appendContext(nil, delta.Live, names.replicas),
		Applied:  appendContext(nil, delta.Applied, names.replicas),
		Removals: appendRemovals(nil, delta.Removals, names.replicas),
		Items:    make([]wireEntry, len(delta.Items)),
	}
	for i, item := range delta.Items {
		entry := names.entry(item.Value)
		entry.Replica, entry.Counter = names.replicas.number(item.Dot.Replica), item.Dot.Counter
		w.Items[i] = entry
	}
	return w
}

func readParts(raw []cbor.RawMessage, lists nameLists) ([]Part, error) {
	if len(raw) > presence.Shards {
		return nil, fmt.Errorf("%d parts", len(raw))
	}
	var parts []Part
	for _, encoded := range raw {
		part, err := readPart(encoded, lists)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func readPart(encoded []byte, lists nameLists) (part Part, err error) {
	var w wirePart
	if err := decMode.Unmarshal(encoded, &w); err != nil {
		return Part{}, err
	}
	if w.Shard < 0 || w.Shard >= presence.Shards {
		return Part{}, fmt.Errorf("there is no shard %d", w.Shard)
	}
	part.Shard = w.Shard
	delta := &part.Delta
	if delta.Seen, err = readContext(w.Seen, lists.replicas); err != nil {
		return Part{}, err
	}
	if delta.Live, err = readContext(w.Live, lists.replicas); err != nil {
		return Part{}, err
	}
	if delta.Applied, err = readContext(w.Applied, lists.replicas); err != nil {
		return Part{}, err
	}
	if delta.Removals, err = readRemovals(w.Removals, lists.replicas); err != nil {
		return Part{}, err
	}
	delta.Items, err = readItems(w.Items, delta.Seen, lists)
	return part, err
}

func readItems(list []wireEntry, seen crdt.Context, lists nameLists) ([]crdt.Item[*presence.Entry], error) {
	if len(list) == 0 {
		return nil, nil
	}
	items := make([]crdt.Item[*presence.Entry], len(list))
	for i := range list {
		item, err := readItem(&list[i], lists)
		if err != nil {
			return nil, err
		}
		if !seen.Has(item.Dot) || i > 0 && items[i-1].Dot.Compare(item.Dot) >= 0 {
			return nil, fmt.Errorf("%v is out of order, or not among what the part speaks of", item.Dot)
		}
		items[i] = item
	}
	return items, nil
}

func readItem(w *wireEntry, lists nameLists) (crdt.Item[*presence.Entry], error) {
	replica, err := lists.replicas.at(w.Replica)
	if err != nil {
		return crdt.Item[*presence.Entry]{}, err
	}
	if w.Counter == 0 || w.Counter > maxCounter {
		return crdt.Item[*presence.Entry]{}, fmt.Errorf("%d is no counter", w.Counter)
	}
	entry, err := lists.entry(w)
	return crdt.Item[*presence.Entry]{Dot: crdt.Dot{Replica: replica, Counter: w.Counter}, Value: entry}, err
}
