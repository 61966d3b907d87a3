package membership

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"unicode"
)

// Role is a member's part in keeping the list of members. It means nothing for presence.
type Role string

const (
	NonVoter Role = "non-voter" // gets the list, and is promoted when a voter is needed
	Voter    Role = "voter"     // counts for the quorum
	Leader   Role = "leader"    // the voter through which all changes of the list go at present
)

// Member is a node of the cluster, reachable or not.
type Member struct {
	ID          string // the node id, for ever
	ClusterAddr string // host:port, the last one that is known
	PublicAddr  string
	Version     string
	Role        Role
}

// record is a member as it is stored and sent.
type record struct {
	ID          string `cbor:"1,keyasint"`
	ClusterAddr string `cbor:"2,keyasint"`
	PublicAddr  string `cbor:"3,keyasint"`
	Version     string `cbor:"4,keyasint"`
	// Revision says which of two records of one member is newer. Only the member itself raises it.
	Revision uint64 `cbor:"5,keyasint"`
}

const (
	maxIDBytes   = 64
	maxTextBytes = 255
)

func (r record) validate() error {
	return errors.Join(validateID(r.ID), validateAddr("cluster address", r.ClusterAddr),
		validateText("public address", r.PublicAddr), validateText("version", r.Version))
}

func validateID(id string) error {
	outside := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
	}
	if id == "" || len(id) > maxIDBytes || strings.ContainsFunc(id, outside) {
		return fmt.Errorf("node id %.80q: want 1 to %d of A-Za-z0-9_-", id, maxIDBytes)
	}
	return nil
}

func validateAddr(what, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || port == "" || strings.ContainsAny(addr, "/?#@ ") {
		return fmt.Errorf("%s %.80q: want host:port", what, addr)
	}
	return validateText(what, addr)
}

func validateText(what, text string) error {
	if len(text) > maxTextBytes || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return fmt.Errorf("%s %.80q: want at most %d bytes that can be printed", what, text, maxTextBytes)
	}
	return nil
}

// says tells whether both records say the same of a member, whatever their revision.
func (r record) says(other record) bool {
	r.Revision = other.Revision
	return r == other
}

func (r record) member(role Role) Member {
	return Member{ID: r.ID, ClusterAddr: r.ClusterAddr, PublicAddr: r.PublicAddr, Version: r.Version, Role: role}
}

// without returns records without the members that are in others.
func without(records, others []record) []record {
	return slices.DeleteFunc(slices.Clone(records), func(r record) bool {
		return slices.ContainsFunc(others, func(other record) bool { return other.ID == r.ID })
	})
}

func compareID(r record, id string) int { return cmp.Compare(r.ID, id) }

// find looks for id in records, which are sorted by it.
func find(records []record, id string) (record, bool) {
	at, found := slices.BinarySearchFunc(records, id, compareID)
	if !found {
		return record{}, false
	}
	return records[at], true
}
