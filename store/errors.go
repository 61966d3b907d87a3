package store

import (
	"errors"
	"fmt"
)

var (
	// ErrLocked is returned by Open when another process, or another Store of this one, has the data directory.
	ErrLocked = errors.New("data directory in use")
	// ErrUnreadable is returned by Open when the data directory or its file cannot be made, read or written.
	ErrUnreadable = errors.New("data directory not usable")
	// ErrCorrupt is returned by Open when the file is damaged, is not rollcall's, or was written by a newer rollcall.
	ErrCorrupt = errors.New("data file damaged")
)

var errWrite = errors.New("writing failed")

// openError is one of the errors above as a sentence for the person who started the node.
type openError struct {
	kind     error
	sentence string
	cause    error // nil if there is nothing to add
}

func (e *openError) Error() string { return e.sentence }

func (e *openError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

func locked(dir string) error {
	return &openError{kind: ErrLocked, sentence: fmt.Sprintf(
		"the data directory %s is in use: another rollcall is using it; stop that one or choose another --data-dir", dir)}
}

func unreadable(dir string, cause error) error {
	return &openError{kind: ErrUnreadable, cause: cause, sentence: fmt.Sprintf(
		"the data directory %s cannot be used: %v; choose one with space left that this user may write to (--data-dir)", dir, cause)}
}

// corrupt is for a file that, moved away, makes the node what instead says.
func corrupt(path string, cause error, instead string) error {
	return &openError{kind: ErrCorrupt, cause: cause, sentence: fmt.Sprintf(
		"%s is damaged or not rollcall's: %v; restore it, or move it away and %s", path, cause, instead)}
}

func newer(path string, cause *newerFormatError) error {
	return &openError{kind: ErrCorrupt, cause: cause, sentence: fmt.Sprintf(
		"%s was written by a newer rollcall (format %d, this one reads %d); run that version or choose another --data-dir",
		path, cause.format, format1)}
}

// newerFormatError is the cause for a file of a format that this version does not know.
type newerFormatError struct{ format uint64 }

func (e *newerFormatError) Error() string { return fmt.Sprintf("format %d", e.format) }
