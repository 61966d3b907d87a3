package presence

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Topic names what is watched, e.g. "room:lobby". UTF-8, 1 to 255 bytes, no control characters.
type Topic string

// Key names who is there, e.g. a user id, by the same rule as a [Topic]. Several devices share a key.
type Key string

// SessionID names one client's life: a tab, a phone, a worker. 16 to 64 of A-Za-z0-9_-. It is a secret.
type SessionID string

const (
	maxNameBytes    = 255
	minSessionBytes = 16
	maxSessionBytes = 64
)

// ParseTopic returns s as a Topic, or an [*InvalidError] for the field "topic".
func ParseTopic(s string) (Topic, error) {
	return Topic(s), checkName("topic", s)
}

// ParseKey returns s as a Key, or an [*InvalidError] for the field "key".
func ParseKey(s string) (Key, error) {
	return Key(s), checkName("key", s)
}

// ParseSessionID returns s as a SessionID, or an [*InvalidError] for the field "session". The error does not repeat s.
func ParseSessionID(s string) (SessionID, error) {
	valid := len(s) >= minSessionBytes && len(s) <= maxSessionBytes
	for i := 0; i < len(s) && valid; i++ {
		valid = isSessionByte(s[i])
	}
	if !valid {
		return "", &InvalidError{Field: "session", Reason: fmt.Sprintf(
			"must be %d to %d characters of A-Za-z0-9_-", minSessionBytes, maxSessionBytes)}
	}
	return SessionID(s), nil
}

func isSessionByte(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

func checkName(field, s string) error {
	switch {
	case s == "":
		return &InvalidError{Field: field, Reason: "must not be empty"}
	case len(s) > maxNameBytes:
		return &InvalidError{Field: field, Reason: fmt.Sprintf("is %d bytes long; at most %d are allowed", len(s), maxNameBytes)}
	case !utf8.ValidString(s):
		return &InvalidError{Field: field, Reason: "must be valid UTF-8"}
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return &InvalidError{Field: field, Reason: fmt.Sprintf("must not contain the control character %U", r)}
		}
	}
	return nil
}
