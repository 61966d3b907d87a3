package stream

import (
	"strconv"
	"strings"
)

// appendID appends the event id of a sequence number: the hub's epoch, which no other run of any node shares, and the number.
func appendID(dst []byte, epoch string, seq uint64) []byte {
	dst = append(dst, epoch...)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, seq, 10)
}

// parseID returns the sequence number of an event id of this epoch, or 0 for any other text: the client then starts with the state.
func parseID(id, epoch string) uint64 {
	number, ok := strings.CutPrefix(id, epoch+"-")
	if !ok {
		return 0
	}
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0
	}
	return seq
}
