package presence

import (
	"errors"
	"fmt"
)

var (
	// ErrUnknownSession is returned when a session was never made, has left, or its lease ran out. The client tracks again.
	ErrUnknownSession = errors.New("unknown session")
	// ErrUnavailable is returned when it cannot be said whether a session exists, because a node that may have it did not answer. The client tries again.
	ErrUnavailable = errors.New("unavailable")
	// ErrNotPresent is returned when a session that exists is not in the topic under the key.
	ErrNotPresent = errors.New("not present")
)

// InvalidError says which value of a request cannot be taken, and why.
type InvalidError struct {
	Field  string // as the API names it: topic, key, session, meta, ttl, linger
	Reason string // completes a sentence that begins with Field
}

func (e *InvalidError) Error() string { return e.Field + " " + e.Reason }

// AlreadyTrackedError is returned by Track when the session is in the topic under the key already.
type AlreadyTrackedError struct {
	Ref Ref // of the presence that is there
}

func (e *AlreadyTrackedError) Error() string {
	return fmt.Sprintf("already tracked with ref %s", e.Ref)
}
