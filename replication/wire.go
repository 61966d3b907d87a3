package replication

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
)

// The wire format, which WIRE.md describes. This file has what all messages share.

const (
	// wireVersion is the version of the format that this node writes and reads.
	wireVersion = 1
	// wireNeeds is the lowest version that a reader must know to understand what this node writes. It is raised only when leaving out what is unknown would do harm.
	wireNeeds = 1

	// maxMessage bounds a message before it is compressed. A part of 500 entries with metas of 4 KiB has 2.5 MiB.
	maxMessage = 16 << 20
	// maxList bounds what is listed in one place: the entries of a part, the operations of a request, the replicas that a message names.
	maxList = 1 << 14
	// minCompressed is the length from which on compression is tried. Shorter messages rarely get shorter.
	minCompressed = 128
	// maxWindow bounds what a reader must remember of a stream to decompress it.
	maxWindow = 1 << 20
)

// messageKind says what the body of a message is.
type messageKind uint8

const (
	kindDigests messageKind = iota + 1
	kindPart
	kindEnd
	kindPush
	kindOps
	kindResults
	kindSession // not between nodes: in the journal
)

func (k messageKind) String() string {
	names := [...]string{"nothing", "digests", "part", "end", "push", "operations", "results", "session"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// envelope is around every message of every version, and never changes.
type envelope struct {
	_       struct{} `cbor:",toarray"`
	Version uint64   // that it is written in
	Needs   uint64   // the lowest that can read it
	Kind    messageKind
	Body    cbor.RawMessage
}

// VersionError is returned for a message that says that a node of this version cannot read it.
type VersionError struct {
	Version uint64 // that the message is written in
	Needs   uint64 // that a reader must know
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("the message is of protocol version %d and needs a node that knows version %d; this one knows %d: upgrade it", e.Version, e.Needs, wireVersion)
}

var (
	errTooLong     = fmt.Errorf("the message is longer than %d bytes", maxMessage)
	errNotShortest = errors.New("a number is not in its shortest form")
)

var encMode = must(cbor.EncOptions{Sort: cbor.SortNone, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden}.EncMode())

// decMode takes what a well-behaved node of any version writes: fields that are unknown are passed over.
var decMode = must(cbor.DecOptions{
	DupMapKey:        cbor.DupMapKeyEnforcedAPF,
	MaxNestedLevels:  16,
	MaxArrayElements: maxList,
	MaxMapPairs:      1 << 10,
	IndefLength:      cbor.IndefLengthForbidden,
	TagsMd:           cbor.TagsForbidden,
	UTF8:             cbor.UTF8RejectInvalid,
}.DecMode())

// The encoder and the decoder of whole messages. Both may be used by several goroutines at once, and have none of their own.
var (
	compressor   = must(zstd.NewWriter(nil, encoderOptions()...))
	decompressor = must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxMessage)))
)

func encoderOptions() []zstd.EOption {
	return []zstd.EOption{
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(maxWindow / 4), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderCRC(false), // the transport is authenticated
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// wrap encodes a message, uncompressed.
func wrap(kind messageKind, body any) ([]byte, error) {
	encoded, err := encMode.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("replication: encode %v: %w", kind, err)
	}
	message, err := encMode.Marshal(envelope{Version: wireVersion, Needs: wireNeeds, Kind: kind, Body: encoded})
	if err == nil && len(message) > maxMessage {
		err = errTooLong
	}
	if err != nil {
		return nil, fmt.Errorf("replication: encode %v: %w", kind, err)
	}
	return message, nil
}

// marshal encodes a message, compressed if that makes it shorter. The first byte tells: a CBOR array never begins like a zstd frame.
func marshal(kind messageKind, body any) ([]byte, error) {
	message, err := wrap(kind, body)
	if err != nil || len(message) < minCompressed {
		return message, err
	}
	compressed := compressor.EncodeAll(message, make([]byte, 0, len(message)))
	if len(compressed) < len(message) {
		return compressed, nil
	}
	return message, nil
}

const zstdMagic = 0x28 // the first byte of a zstd frame

// unmarshal decodes a message of the given kind into body.
func unmarshal(kind messageKind, message []byte, body any) error {
	var outer envelope
	err := unwrap(message, &outer)
	if err == nil && outer.Kind != kind {
		err = fmt.Errorf("it is of %v", outer.Kind)
	}
	if err == nil {
		err = decMode.Unmarshal(outer.Body, body)
	}
	return decodeError(kind, err)
}

func unwrap(message []byte, outer *envelope) error {
	if len(message) > 0 && message[0] == zstdMagic {
		var err error
		if message, err = decompressor.DecodeAll(message, nil); err != nil {
			return err
		}
	}
	if len(message) > maxMessage {
		return errTooLong
	}
	if err := decMode.Unmarshal(message, outer); err != nil {
		return err
	}
	return outer.check()
}

func (e *envelope) check() error {
	if e.Needs > wireVersion {
		return &VersionError{Version: e.Version, Needs: e.Needs}
	}
	return nil
}

func decodeError(kind messageKind, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("replication: decode %v: %w", kind, err)
}
