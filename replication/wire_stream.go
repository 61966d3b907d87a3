package replication

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
)

// streamWriter writes an exchange's answer or a repair: digests, parts, and an end, as a CBOR sequence (RFC 8742) in one zstd frame. Each is flushed when it is
// written. Its close must be called, whatever happened.
type streamWriter struct {
	zstd *zstd.Encoder
}

// Those at rest hold no reader, no writer and no goroutine.
var (
	streamEncoders = sync.Pool{New: func() any {
		return must(zstd.NewWriter(nil, append(encoderOptions(), zstd.WithEncoderConcurrency(1))...))
	}}
	streamDecoders = sync.Pool{New: func() any {
		return must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow)))
	}}
)

func newStreamWriter(w io.Writer) *streamWriter {
	encoder := streamEncoders.Get().(*zstd.Encoder)
	encoder.Reset(w)
	return &streamWriter{encoder}
}

// begin writes who we are and what we have. It comes first.
func (s *streamWriter) begin(d Digests) error { return s.write(kindDigests, writeDigests(d)) }

func (s *streamWriter) part(part Part) error {
	body, err := writeParts([]Part{part})
	if err != nil {
		return err
	}
	return s.write(kindPart, body)
}

// end says that nothing was cut off.
func (s *streamWriter) end() error {
	if err := s.write(kindEnd, struct{}{}); err != nil {
		return err
	}
	if err := s.zstd.Close(); err != nil {
		return fmt.Errorf("replication: write %v: %w", kindEnd, err)
	}
	return nil
}

func (s *streamWriter) write(kind messageKind, body any) error {
	message, err := wrap(kind, body)
	if err != nil {
		return err
	}
	if _, err = s.zstd.Write(message); err == nil {
		err = s.zstd.Flush()
	}
	if err != nil {
		return fmt.Errorf("replication: write %v: %w", kind, err)
	}
	return nil
}

func (s *streamWriter) close() {
	s.zstd.Reset(nil)
	streamEncoders.Put(s.zstd)
	s.zstd = nil
}

// streamReader reads what a streamWriter wrote. It holds one message at a time. Its close must be called.
type streamReader struct {
	limit *messageLimit
	zstd  *zstd.Decoder // nil if the stream is not compressed
	cbor  *cbor.Decoder
}

// newStreamReader waits for the first bytes.
func newStreamReader(r io.Reader) (*streamReader, error) {
	buffered := bufio.NewReader(r)
	first, err := buffered.Peek(1)
	if err != nil {
		return nil, fmt.Errorf("replication: read a stream: %w", unexpected(err))
	}
	s := &streamReader{limit: &messageLimit{r: buffered}}
	if first[0] == zstdMagic {
		s.zstd = streamDecoders.Get().(*zstd.Decoder)
		if err := s.zstd.Reset(buffered); err != nil {
			s.close()
			return nil, fmt.Errorf("replication: read a stream: %w", err)
		}
		s.limit.r = s.zstd
	}
	s.cbor = decMode.NewDecoder(s.limit)
	return s, nil
}

// begin returns the digests that come first.
func (s *streamReader) begin() (Digests, error) {
	message, err := s.next()
	if err != nil {
		return Digests{}, err
	}
	if message.Kind != kindDigests {
		return Digests{}, fmt.Errorf("replication: read a stream: it begins with %v", message.Kind)
	}
	var body wireDigests
	if err := decMode.Unmarshal(message.Body, &body); err != nil {
		return Digests{}, decodeError(kindDigests, err)
	}
	d, err := readDigests(&body)
	return d, decodeError(kindDigests, err)
}

// part returns the next part, io.EOF after the end, or io.ErrUnexpectedEOF if the stream was cut off before it.
func (s *streamReader) part() (Part, error) {
	message, err := s.next()
	if err != nil {
		return Part{}, err
	}
	if message.Kind == kindEnd {
		return Part{}, io.EOF
	}
	var body wireParts
	if err := decMode.Unmarshal(message.Body, &body); err != nil {
		return Part{}, decodeError(kindPart, err)
	}
	part, err := readOnePart(&body)
	return part, decodeError(kindPart, err)
}

func readOnePart(body *wireParts) (Part, error) {
	lists, err := readNames(body.Replicas, body.Topics)
	if err != nil {
		return Part{}, err
	}
	if len(body.Parts) != 1 {
		return Part{}, fmt.Errorf("%d parts in one", len(body.Parts))
	}
	return readPart(body.Parts[0], lists)
}

// next returns the next message of a kind that belongs into a stream. Others come from later versions, which say when they must not be passed over.
func (s *streamReader) next() (envelope, error) {
	for {
		var message envelope
		s.limit.left = maxMessage
		err := s.cbor.Decode(&message)
		if err == nil {
			err = message.check()
		}
		if err != nil {
			return envelope{}, fmt.Errorf("replication: read a stream: %w", unexpected(err))
		}
		switch message.Kind {
		case kindDigests, kindPart, kindEnd:
			return message, nil
		}
	}
}

func (s *streamReader) close() {
	if s.zstd != nil {
		_ = s.zstd.Reset(nil) // it never fails
		streamDecoders.Put(s.zstd)
	}
	s.zstd, s.cbor = nil, nil
}

// unexpected makes an end before the end an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// messageLimit bounds what is read for one message.
type messageLimit struct {
	r    io.Reader
	left int
}

func (l *messageLimit) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, errTooLong
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
