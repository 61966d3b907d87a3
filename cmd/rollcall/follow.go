package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/r3labs/sse/v2"
	"gopkg.in/cenkalti/backoff.v1"
)

// maxEventBytes bounds one event, which may be the whole state of a topic.
const maxEventBytes = 64 << 20

// follower reads a stream and opens it again after the last whole event when it breaks.
type follower struct {
	handle func(*sse.Event) error
	report func(format string, args ...any) // what happens to the connection

	client *sse.Client
	retry  *backoff.ExponentialBackOff
	opened bool // by the present attempt
	before bool // by an earlier one
}

// follow hands each event of the stream at url to handle. It returns when ctx is done, with nil, or when handle fails, when the first
// attempt fails, or when the node refuses the stream for good.
func follow(ctx context.Context, url string, handle func(*sse.Event) error, report func(format string, args ...any)) error {
	f := &follower{handle: handle, report: report, client: sse.NewClient(url, sse.ClientMaxBufferSize(maxEventBytes))}
	f.client.ReconnectStrategy = &backoff.StopBackOff{} // its own would end with the first clean end of the stream
	f.client.ResponseValidator = f.accept
	f.retry = backoff.NewExponentialBackOff()
	f.retry.MaxInterval = 30 * time.Second
	f.retry.MaxElapsedTime = 0
	for {
		f.opened = false
		err := f.read(ctx)
		var handling *handleError
		switch {
		case errors.As(err, &handling):
			return handling.error
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, bufio.ErrTooLong):
			return fmt.Errorf("an event of the stream is larger than %v", byteSize(maxEventBytes))
		case !f.opened && !(f.before && isPassing(err)):
			return err
		}
		wait := f.retry.NextBackOff()
		if f.opened {
			f.before = true
			f.report("the stream has ended; opening it again in %v", wait.Round(100*time.Millisecond))
		}
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// handleError is what handle returned.
type handleError struct{ error }

// read opens the stream once and reads it to its end.
func (f *follower) read(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var handling error
	err := f.client.SubscribeRawWithContext(ctx, func(event *sse.Event) {
		if ms, err := strconv.Atoi(string(event.Retry)); err == nil {
			f.retry.InitialInterval = time.Duration(ms) * time.Millisecond
			f.retry.Reset()
		}
		if len(event.Data) == 0 || handling != nil {
			return
		}
		if handling = f.handle(event); handling != nil {
			cancel()
		}
	})
	if handling != nil {
		return &handleError{handling}
	}
	if err != nil {
		return unreachable(err)
	}
	return nil
}

// accept is the client's validator of the answer to its request.
func (f *follower) accept(_ *sse.Client, response *http.Response) error {
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case response.StatusCode != http.StatusOK:
		defer response.Body.Close()
		return problemOf(response)
	case kind != "text/event-stream":
		defer response.Body.Close()
		return errors.New(notRollcall(response))
	}
	if f.before {
		f.report("the stream is open again")
	}
	f.opened = true
	f.retry.Reset()
	response.Body = &wholeEvents{body: response.Body, limit: maxEventBytes}
	return nil
}

// wholeEvents is a stream without the event in whose midst it broke: the client would take that for a whole one, with half an id.
type wholeEvents struct {
	body   io.ReadCloser
	limit  int // of one event's bytes
	buffer []byte
	whole  int // how many bytes of buffer are whole events
	err    error
}

var endOfEvent = []byte("\n\n")

// Read returns bytes of whole events.
func (w *wholeEvents) Read(p []byte) (int, error) {
	for w.whole == 0 && w.err == nil {
		w.fill()
	}
	if w.whole == 0 {
		return 0, w.err
	}
	n := copy(p, w.buffer[:w.whole])
	w.buffer = w.buffer[n:]
	w.whole -= n
	return n, nil
}

// fill reads once and looks for the end of an event in what came.
func (w *wholeEvents) fill() {
	if len(w.buffer) > w.limit {
		w.err = bufio.ErrTooLong
		return
	}
	from := max(0, len(w.buffer)-1) // the end may have begun with the last byte
	if cap(w.buffer)-len(w.buffer) < 4096 {
		w.buffer = append(make([]byte, 0, 2*len(w.buffer)+16<<10), w.buffer...)
	}
	n, err := w.body.Read(w.buffer[len(w.buffer):cap(w.buffer)])
	w.buffer = w.buffer[:len(w.buffer)+n]
	w.err = err
	if end := bytes.LastIndex(w.buffer[from:], endOfEvent); end >= 0 {
		w.whole = from + end + len(endOfEvent)
	}
}

// Close closes the stream.
func (w *wholeEvents) Close() error { return w.body.Close() }
