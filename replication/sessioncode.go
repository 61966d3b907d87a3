package replication

import (
	"github.com/fxamacker/cbor/v2"

	"rollcall/presence"
)

// MarshalSession encodes a session for a place where it outlives the process, in the form in which nodes hand sessions over. A later version reads what an earlier one
// wrote.
func MarshalSession(state presence.SessionState) ([]byte, error) {
	body, err := writeState(&state)
	if err != nil {
		return nil, err
	}
	return marshal(kindSession, body)
}

// UnmarshalSession decodes what MarshalSession returned, or returns an error for anything else.
func UnmarshalSession(message []byte) (presence.SessionState, error) {
	var body cbor.RawMessage
	if err := unmarshal(kindSession, message, &body); err != nil {
		return presence.SessionState{}, err
	}
	state, err := readState(body) // not nil: the body is not empty
	if err != nil {
		return presence.SessionState{}, decodeError(kindSession, err)
	}
	return *state, nil
}
