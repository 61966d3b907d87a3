package replication

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"rollcall/presence"
	"rollcall/presence/crdt"
)

type wireOps struct {
	Replicas []wireReplica `cbor:"0,keyasint"` // the sender
	Ops      []wireOp      `cbor:"1,keyasint"`
}

type wireOp struct {
	Kind    int             `cbor:"0,keyasint"`
	Session string          `cbor:"1,keyasint"`
	Topic   string          `cbor:"2,keyasint,omitempty"`
	Key     string          `cbor:"3,keyasint,omitempty"`
	Meta    []byte          `cbor:"4,keyasint,omitempty"`
	TTL     int64           `cbor:"5,keyasint,omitempty"` // milliseconds
	State   cbor.RawMessage `cbor:"6,keyasint,omitempty"` // a wireState
}

// wireState is a session's state. It has tables of its own.
type wireState struct {
	Replicas  []wireReplica `cbor:"0,keyasint,omitempty"`
	Topics    []string      `cbor:"1,keyasint,omitempty"`
	Session   string        `cbor:"2,keyasint"`
	TTL       int64         `cbor:"3,keyasint"` // milliseconds, as is
	Remaining int64         `cbor:"4,keyasint"`
	Claim     uint64        `cbor:"5,keyasint"`
	Presences []wireEntry   `cbor:"6,keyasint,omitempty"`
	Earlier   []wireClaim   `cbor:"7,keyasint,omitempty"` // in the order of their replicas
}

// wireClaim is the last claim of an earlier owner.
type wireClaim struct {
	_       struct{} `cbor:",toarray"`
	Replica uint64   // in the table
	Claim   uint64
}

func marshalOps(ops Ops) ([]byte, error) {
	body := wireOps{Replicas: newReplicaTable(ops.From).list}
	for i := range ops.Ops {
		w, err := writeOp(&ops.Ops[i])
		if err != nil {
			return nil, err
		}
		body.Ops = append(body.Ops, w)
	}
	return marshal(kindOps, &body)
}

func unmarshalOps(message []byte) (Ops, error) {
	var body wireOps
	if err := unmarshal(kindOps, message, &body); err != nil {
		return Ops{}, err
	}
	ops, err := readOps(&body)
	return ops, decodeError(kindOps, err)
}

func readOps(body *wireOps) (ops Ops, err error) {
	replicas, err := readReplicas(body.Replicas)
	if err != nil {
		return Ops{}, err
	}
	if ops.From, err = replicas.sender(); err != nil {
		return Ops{}, err
	}
	for i := range body.Ops {
		op, err := readOp(&body.Ops[i])
		if err != nil {
			return Ops{}, err
		}
		ops.Ops = append(ops.Ops, op)
	}
	return ops, nil
}

func writeOp(op *Op) (w wireOp, err error) {
	w = wireOp{Kind: int(op.Kind), Session: string(op.Session), Topic: string(op.Topic), Key: string(op.Key), Meta: op.Meta, TTL: milliseconds(op.TTL)}
	w.State, err = writeState(op.State)
	return w, err
}

// readOp checks what a session, topic and key must be; whether the operation can be done, the tracker says. An operation of an unknown kind is for the receiver to
// refuse.
func readOp(w *wireOp) (op Op, err error) {
	op = Op{Kind: OpKind(w.Kind), TTL: time.Duration(w.TTL) * time.Millisecond}
	if len(w.Meta) > 0 {
		op.Meta = w.Meta
	}
	if w.TTL < -maxMilliseconds || w.TTL > maxMilliseconds {
		return op, fmt.Errorf("a ttl of %d ms", w.TTL)
	}
	if len(w.Meta) > maxMeta {
		return op, fmt.Errorf("a meta of %d bytes", len(w.Meta))
	}
	if op.Session, err = presence.ParseSessionID(w.Session); err != nil {
		return op, err
	}
	if w.Topic != "" {
		if op.Topic, err = presence.ParseTopic(w.Topic); err != nil {
			return op, err
		}
	}
	if w.Key != "" {
		if op.Key, err = presence.ParseKey(w.Key); err != nil {
			return op, err
		}
	}
	op.State, err = readState(w.State)
	return op, err
}

func writeState(state *presence.SessionState) (cbor.RawMessage, error) {
	if state == nil {
		return nil, nil
	}
	names := newNames()
	w := wireState{Session: string(state.ID), TTL: milliseconds(state.TTL), Remaining: milliseconds(state.Remaining), Claim: state.Claim}
	for _, held := range state.Presences {
		entry := names.entry(held.Entry)
		entry.Dots = appendDots(nil, held.Dots, names.replicas)
		w.Presences = append(w.Presences, entry)
	}
	for _, replica := range slices.SortedFunc(maps.Keys(state.Earlier), crdt.Replica.Compare) {
		w.Earlier = append(w.Earlier, wireClaim{Replica: names.replicas.number(replica), Claim: state.Earlier[replica]})
	}
	w.Replicas, w.Topics = names.replicas.list, names.topics
	raw, err := encMode.Marshal(&w)
	if err != nil {
		return nil, fmt.Errorf("replication: encode a session: %w", err)
	}
	return raw, nil
}

func readState(raw cbor.RawMessage) (*presence.SessionState, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var w wireState
	if err := decMode.Unmarshal(raw, &w); err != nil {
		return nil, err
	}
	lists, err := readNames(w.Replicas, w.Topics)
	if err != nil {
		return nil, err
	}
	state := &presence.SessionState{Claim: w.Claim}
	if state.ID, err = presence.ParseSessionID(w.Session); err != nil {
		return nil, err
	}
	if state.TTL, err = duration(w.TTL); err != nil {
		return nil, fmt.Errorf("ttl: %w", err)
	}
	if state.Remaining, err = duration(w.Remaining); err != nil {
		return nil, fmt.Errorf("remaining: %w", err)
	}
	for i := range w.Presences {
		held, err := readHeld(&w.Presences[i], state.ID, lists)
		if err != nil {
			return nil, err
		}
		state.Presences = append(state.Presences, held)
	}
	for _, c := range w.Earlier {
		replica, err := lists.replicas.at(c.Replica)
		if err != nil {
			return nil, err
		}
		if state.Earlier == nil {
			state.Earlier = map[crdt.Replica]uint64{}
		}
		state.Earlier[replica] = max(state.Earlier[replica], c.Claim)
	}
	return state, nil
}

func readHeld(w *wireEntry, session presence.SessionID, lists nameLists) (held presence.HeldPresence, err error) {
	if held.Entry, err = lists.entry(w); err != nil {
		return held, err
	}
	if held.Entry.Session != session {
		return held, errors.New("a presence is another session's")
	}
	held.Dots, err = readDots(w.Dots, lists.replicas)
	return held, err
}

type wireResults struct {
	Results []wireResult `cbor:"0,keyasint"`
}

type wireResult struct {
	Err     *wireError      `cbor:"0,keyasint,omitempty"`
	Created bool            `cbor:"1,keyasint,omitempty"`
	Topic   string          `cbor:"2,keyasint,omitempty"` // of the presence
	Tracked *wireEntry      `cbor:"3,keyasint,omitempty"` // the presence
	Lease   *wireLease      `cbor:"4,keyasint,omitempty"`
	Held    *wireLease      `cbor:"5,keyasint,omitempty"` // the lease of the presence
	State   cbor.RawMessage `cbor:"6,keyasint,omitempty"` // a wireState
}

type wireLease struct {
	TTL       int64 `cbor:"0,keyasint"` // milliseconds
	ExpiresAt int64 `cbor:"1,keyasint"` // milliseconds since 1970
}

func marshalResults(results []OpResult) ([]byte, error) {
	var body wireResults
	for i := range results {
		w, err := writeResult(&results[i])
		if err != nil {
			return nil, err
		}
		body.Results = append(body.Results, w)
	}
	return marshal(kindResults, &body)
}

func unmarshalResults(message []byte) ([]OpResult, error) {
	var body wireResults
	if err := unmarshal(kindResults, message, &body); err != nil {
		return nil, err
	}
	var results []OpResult
	for i := range body.Results {
		result, err := readResult(&body.Results[i])
		if err != nil {
			return nil, decodeError(kindResults, err)
		}
		results = append(results, result)
	}
	return results, nil
}

func writeResult(r *OpResult) (w wireResult, err error) {
	w = wireResult{Err: writeError(r.Err), Created: r.Created}
	if r.Tracked != nil {
		entry := newNames().entry(presence.NewEntry(r.Tracked.Presence, 0, 0, false))
		w.Topic, w.Tracked, w.Held = string(r.Tracked.Topic), &entry, writeLease(&r.Tracked.Lease)
	}
	if r.Lease != nil {
		w.Lease = writeLease(r.Lease)
	}
	w.State, err = writeState(r.State)
	return w, err
}

func readResult(w *wireResult) (r OpResult, err error) {
	r.Created = w.Created
	if r.Err, err = readError(w.Err); err != nil {
		return r, err
	}
	if r.Lease, err = readLease(w.Lease); err != nil {
		return r, err
	}
	if w.Tracked != nil {
		if r.Tracked, err = readTracked(w); err != nil {
			return r, err
		}
	}
	r.State, err = readState(w.State)
	return r, err
}

func readTracked(w *wireResult) (*presence.Tracked, error) {
	p, err := readPresence(w.Tracked)
	if err != nil {
		return nil, err
	}
	if p.Topic, err = presence.ParseTopic(w.Topic); err != nil {
		return nil, err
	}
	lease, err := readLease(w.Held)
	if err != nil {
		return nil, err
	}
	if lease == nil {
		return nil, errors.New("a presence has no lease")
	}
	return &presence.Tracked{Presence: p, Lease: *lease}, nil
}

func writeLease(lease *presence.Lease) *wireLease {
	return &wireLease{TTL: milliseconds(lease.TTL), ExpiresAt: lease.ExpiresAt.UnixMilli()}
}

func readLease(w *wireLease) (*presence.Lease, error) {
	if w == nil {
		return nil, nil
	}
	ttl, err := duration(w.TTL)
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	if w.ExpiresAt < -maxWall || w.ExpiresAt > maxWall {
		return nil, fmt.Errorf("a lease until %d ms", w.ExpiresAt)
	}
	return &presence.Lease{TTL: ttl, ExpiresAt: time.UnixMilli(w.ExpiresAt)}, nil
}

// maxWall is in the year 9999, the last one that fits into what clients read.
const maxWall = 253_402_300_799_999

// errorCode names an error of package presence.
type errorCode int

const (
	codeOther errorCode = iota + 1 // only its words are known
	codeInvalid
	codeUnknownSession
	codeNotPresent
	codeAlreadyTracked
	codeMoved
)

type wireError struct {
	Code  errorCode    `cbor:"0,keyasint"`
	Text  string       `cbor:"1,keyasint,omitempty"` // of codeOther: all of it; of codeInvalid: the reason
	Field string       `cbor:"2,keyasint,omitempty"`
	Ref   string       `cbor:"3,keyasint,omitempty"`
	Owner *wireReplica `cbor:"4,keyasint,omitempty"`
}

// RemoteError is an error of another node that is not one of package presence's.
type RemoteError struct{ Text string }

func (e *RemoteError) Error() string { return "the other node says: " + e.Text }

func writeError(err error) *wireError {
	var (
		invalid *presence.InvalidError
		tracked *presence.AlreadyTrackedError
		moved   *presence.MovedError
		remote  *RemoteError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		return &wireError{Code: codeInvalid, Field: invalid.Field, Text: invalid.Reason}
	case errors.As(err, &tracked):
		return &wireError{Code: codeAlreadyTracked, Ref: string(tracked.Ref)}
	case errors.As(err, &moved):
		return &wireError{Code: codeMoved, Owner: &wireReplica{Name: moved.Owner.Name, Incarnation: moved.Owner.Incarnation}}
	case errors.As(err, &remote):
		return &wireError{Code: codeOther, Text: remote.Text}
	case errors.Is(err, presence.ErrUnknownSession):
		return &wireError{Code: codeUnknownSession}
	case errors.Is(err, presence.ErrNotPresent):
		return &wireError{Code: codeNotPresent}
	}
	return &wireError{Code: codeOther, Text: err.Error()}
}

// readError returns the error that w stands for, and a second one if it stands for none.
func readError(w *wireError) (remote, err error) {
	if w == nil {
		return nil, nil
	}
	switch w.Code {
	case codeInvalid:
		return &presence.InvalidError{Field: w.Field, Reason: w.Text}, nil
	case codeUnknownSession:
		return presence.ErrUnknownSession, nil
	case codeNotPresent:
		return presence.ErrNotPresent, nil
	case codeAlreadyTracked:
		if !isRef(w.Ref) {
			return nil, errors.New("a ref is none")
		}
		return &presence.AlreadyTrackedError{Ref: presence.Ref(w.Ref)}, nil
	case codeMoved:
		if w.Owner == nil {
			return nil, errors.New("a session has moved, but not to anybody")
		}
		owner, err := readReplicas([]wireReplica{*w.Owner})
		if err != nil {
			return nil, err
		}
		return &presence.MovedError{Owner: owner[0]}, nil
	}
	return &RemoteError{Text: w.Text}, nil // also what a later version calls by a code of its own
}
