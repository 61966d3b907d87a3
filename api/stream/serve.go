package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"rollcall/presence"
)

// Request is what a client asks to watch.
type Request struct {
	Topics      []presence.Topic // at least one, each once
	Wrapped     bool             // whether data is {"topic":…,"payload":…}; must be for more than one topic
	LastEventID string           // "" or unknown: start with the state
}

// The times between which clients are told to wait before they reconnect.
const (
	minRetry = time.Second
	maxRetry = 3 * time.Second
)

// Serve writes the stream until the client goes or falls dead, or the hub ends it; it returns nil then. It returns [ErrDraining], having
// written nothing, when the hub takes no new streams.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request, req Request) error {
	s, err := h.subscribe(req.Topics, req.LastEventID)
	if err != nil {
		return err
	}
	defer h.unsubscribe(s)
	out := newWriter(w, r, h.config.WriteTimeout, &h.bytes)
	if err := ignoreUnsupported(out.control.SetReadDeadline(time.Time{})); err != nil { // the server's ReadTimeout is for requests
		return fmt.Errorf("stream: clear read deadline: %w", err)
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)

	err = s.run(r.Context(), out, req.Wrapped)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() { // ours, or the kernel's TCP_USER_TIMEOUT
		h.cutOff.Add(1)
	}
	return nil
}

// run writes until the stream ends or a write fails.
func (s *subscriber) run(ctx context.Context, out *writer, wrapped bool) error {
	keepAlive := time.NewTimer(s.hub.config.KeepAlive)
	defer keepAlive.Stop()
	for greeted := false; ; {
		b := s.nextBatch()
		if err := s.write(out, b, wrapped); err != nil {
			return err
		}
		if !greeted && !b.more {
			greeted = true
			if err := writeRetry(out); err != nil {
				return err
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
		keepAlive.Reset(s.hub.config.KeepAlive)
		select {
		case <-s.wake:
		case <-keepAlive.C:
			if _, err := out.Write([]byte(":\n\n")); err != nil {
				return err
			}
		case <-s.end:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// writeRetry tells the client when to reconnect. It comes right after what the client did not have, and so says that this was all.
func writeRetry(out *writer) error {
	retry := minRetry + rand.N(maxRetry-minRetry)
	_, err := fmt.Fprintf(out, "retry: %d\n\n", retry.Milliseconds())
	return err
}

// write writes a batch. Where states of several topics make the ids of single events untrue, only the last has one.
func (s *subscriber) write(out *writer, b batch, wrapped bool) error {
	s.hub.events.Add(uint64(len(b.frames)))
	ownIDs := b.states == 0 || len(s.feeds) == 1
	for i, f := range b.frames {
		var err error
		switch {
		case ownIDs:
			_, err = out.Write(f.of(s.hub.epoch, wrapped))
		case i < len(b.frames)-1:
			err = f.writeTo(out, nil)
		default:
			err = f.writeTo(out, appendID(nil, s.hub.epoch, b.upto))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
