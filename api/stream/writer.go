package stream

import (
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

// writer writes to one client and gives up when the client takes nothing for the timeout.
type writer struct {
	http     http.ResponseWriter
	control  *http.ResponseController
	timeout  time.Duration
	deadline time.Time
	idle     bool           // whether a deadline that passes without a write does no harm
	sent     *atomic.Uint64 // counts bytes
}

func newWriter(w http.ResponseWriter, r *http.Request, timeout time.Duration, sent *atomic.Uint64) *writer {
	return &writer{http: w, control: http.NewResponseController(w), timeout: timeout, idle: r.ProtoMajor < 2, sent: sent}
}

// writePiece is how much is written at once: a client that takes so much within the timeout is slow, not dead.
const writePiece = 64 << 10

// Write writes p in pieces, each within the timeout.
func (w *writer) Write(p []byte) (n int, err error) {
	for err == nil && n < len(p) {
		if err = w.extend(); err != nil {
			break
		}
		var written int
		written, err = w.http.Write(p[n:min(n+writePiece, len(p))])
		n += written
	}
	w.sent.Add(uint64(n))
	return n, err
}

// Flush sends what was written.
func (w *writer) Flush() error {
	if err := w.extend(); err != nil {
		return err
	}
	if err := w.control.Flush(); err != nil {
		return err
	}
	if w.idle {
		return nil
	}
	w.deadline = time.Time{} // HTTP/2 resets a stream whose deadline passes, written to or not
	return ignoreUnsupported(w.control.SetWriteDeadline(w.deadline))
}

// extend moves the deadline. Setting one costs about as much as a small write, so it is set with some time to spare, and rarely.
func (w *writer) extend() error {
	now := time.Now()
	if w.deadline.Sub(now) >= w.timeout {
		return nil
	}
	w.deadline = now.Add(w.timeout + w.timeout/2)
	return ignoreUnsupported(w.control.SetWriteDeadline(w.deadline))
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}
