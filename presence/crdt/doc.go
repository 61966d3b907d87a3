// Package crdt is a delta-based add-wins observed-remove set without tombstones.
//
// Most callers need a [Set]: [Set.Add] names each added value with a [Dot], [Set.Remove] removes dots, and [Set.Merge] takes in a
// [Delta], a part of another replica's set. Replicas that have merged the same deltas hold equal sets, whatever the order in which
// the deltas came, and however often. The set knows nothing of what its values mean.
//
// # How it works
//
// Every add is named by a dot: the replica that made it, and that replica's next counter. A [Context] is the set of dots that a
// replica has seen. A dot that is in the context and not among the live ones was removed: so nothing needs to be kept of a removed
// value. A delta carries its own context; whatever of it is not among the delta's items, its sender had seen and removed. An add
// that one replica makes while another removes an older dot of the same value survives: the remover had not seen the new dot.
// The removal of a dot may arrive before its add; the context then knows it, and the add changes nothing.
//
// A context is a version vector plus a cloud of dots beyond its gaps. The cloud empties as gaps close, so the memory of history is one
// number a replica.
//
// # Costs
//
// Add, Remove and Get take constant time. Merging a delta of single dots takes time in proportion to the delta. A delta whose context has
// a version vector, such as a [Set.Snapshot], is compared with the live dots of the replicas that it names.
//
// The construction is the optimised OR-set of Bieniusa et al., "An optimized conflict-free replicated set" (2012), with the deltas of
// Almeida, Shoker and Baquero, "Delta state replicated data types" (2018).
//
// The package is pure: no clock, no locks, no I/O, and what it returns is in a fixed order.
package crdt
