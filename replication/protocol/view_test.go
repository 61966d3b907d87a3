package protocol

import "rollcall/presence/crdt"

func rep(name string, incarnation uint64) crdt.Replica {
	return crdt.Replica{Name: name, Incarnation: incarnation}
}
