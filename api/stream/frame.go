package stream

import (
	"io"
	"sync"

	"rollcall/presence"
)

// The beginnings of events.
const (
	stateHead = "event: presence_state\ndata: "
	diffHead  = "event: presence_diff\ndata: "
)

// frame is one event as bytes, shared by all who get it and never changed once it has its number.
type frame struct {
	seq     uint64
	head    string
	plain   []byte // the whole event for a stream of one topic
	payload []byte // the JSON in it, a part of plain

	topic   presence.Topic
	once    sync.Once
	wrapped []byte // the whole event for a stream of several topics; see of
}

// newFrame returns the frame of an event whose payload appendTo appends. It has no number yet.
func newFrame(topic presence.Topic, head string, appendTo func([]byte) []byte) *frame {
	plain := appendTo([]byte(head))
	size := len(plain)
	plain = append(plain, '\n')
	return &frame{head: head, topic: topic, plain: plain, payload: plain[len(head):size:size]}
}

// number gives the frame its number and ends the event with its id.
func (f *frame) number(epoch string, seq uint64) {
	f.seq = seq
	f.plain = appendEnd(f.plain, epoch, seq)
}

// size is what the frame costs in memory, about.
func (f *frame) size() int64 { return int64(cap(f.plain)) + 128 }

// of returns the event for a stream of one topic or, wrapped, of several.
func (f *frame) of(epoch string, wrapped bool) []byte {
	if !wrapped {
		return f.plain
	}
	f.once.Do(func() {
		f.wrapped = append(f.wrapHead(nil), f.payload...)
		f.wrapped = append(f.wrapped, "}\n"...)
		f.wrapped = appendEnd(f.wrapped, epoch, f.seq)
	})
	return f.wrapped
}

// writeTo writes the wrapped event with another id than its own, or with none if id is nil.
func (f *frame) writeTo(w io.Writer, id []byte) error {
	end := []byte("}\n\n")
	if id != nil {
		end = append(append([]byte("}\nid: "), id...), "\n\n"...)
	}
	for _, part := range [][]byte{f.wrapHead(nil), f.payload, end} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

func (f *frame) wrapHead(dst []byte) []byte {
	dst = append(dst, f.head...)
	dst = append(dst, `{"topic":`...)
	dst = presence.AppendName(dst, string(f.topic))
	return append(dst, `,"payload":`...)
}

func appendEnd(dst []byte, epoch string, seq uint64) []byte {
	dst = append(dst, "id: "...)
	dst = appendID(dst, epoch, seq)
	return append(dst, "\n\n"...)
}
