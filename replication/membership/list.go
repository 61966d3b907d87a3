package membership

import (
	"slices"
)

// list is what raft replicates. It is immutable: apply returns the next one.
type list struct {
	Cluster string   `cbor:"1,keyasint"` // made when the cluster is founded; no two clusters share one
	Index   uint64   `cbor:"2,keyasint"` // of the last command in raft's log that is in here
	Members []record `cbor:"3,keyasint"` // by id
}

// Kinds of commands. A node skips kinds that it does not know, so a version that adds one must not use it before all members know it.
const (
	joinCommand   = 1 // adds a member, or replaces what is known of it
	updateCommand = 2 // replaces what is known of one that is there
	removeCommand = 3
)

// command is an entry in raft's log.
type command struct {
	Kind    uint64 `cbor:"1,keyasint"`
	Member  record `cbor:"2,keyasint"`           // for removeCommand only its ID
	Cluster string `cbor:"3,keyasint,omitempty"` // for the joinCommand that founds a cluster
}

// apply returns the list after the command at index, whether this version knows such commands, and what the one who gave it is told.
func (l list) apply(index uint64, c command) (next list, known bool, err error) {
	next = l
	next.Index = index
	at, found := slices.BinarySearchFunc(l.Members, c.Member.ID, compareID)
	switch c.Kind {
	case joinCommand:
		if l.Cluster == "" {
			next.Cluster = c.Cluster
		}
		if found { // its own count may be lost with its disk, and others compare
			c.Member.Revision = max(c.Member.Revision, l.Members[at].Revision+1)
		}
		next.Members = splice(l.Members, at, found, c.Member)
	case updateCommand:
		if !found {
			return next, true, ErrUnknownMember
		}
		if c.Member.Revision > l.Members[at].Revision {
			next.Members = splice(l.Members, at, found, c.Member)
		}
	case removeCommand:
		switch {
		case !found:
			return next, true, ErrUnknownMember
		case len(l.Members) == 1:
			return next, true, ErrLastMember
		}
		next.Members = splice(l.Members, at, found)
	default:
		return next, false, nil
	}
	return next, true, nil
}

// splice returns a copy of records with what is at a place, or would be, replaced.
func splice(records []record, at int, found bool, with ...record) []record {
	rest := records[at:]
	if found {
		rest = rest[1:]
	}
	return slices.Concat(records[:at], with, rest)
}
