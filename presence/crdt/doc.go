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
// value. A delta carries its own context; whatever of it is not among the delta's live dots, its sender had seen and removed. An add
// that one replica makes while another removes an older dot of the same value survives: the remover had not seen the new dot.
// The removal of a dot may arrive before its add; the context then knows it, and the add changes nothing.
//
// Removals are numbered, too, apart from adds, each act by the replica that made it: the context of adds alone does not tell that a removal was lost. So a
// [Digest], both contexts, tells what a set lacks, and [Set.Repair] makes that: the items that were not seen, then the removals that were not
// applied, from a bounded log, or else the dots of all that is live.
//
// A context holds ranges of counters, one for each replica when there are no gaps, so the memory of history is a version vector.
//
// A set can forget what a replica added, for a while ([Set.Forget], [Set.Recall]) or for good ([Set.Retire]). Others do not follow it in that. A removal that only a retired
// replica could have passed on may then be missing somewhere although the contexts are equal; fingerprints of what is live bring that to light, and what one side has
// seen removed goes.
//
// # Costs
//
// Add, Remove and Get take logarithmic time, as does each dot of a delta that is merged: the size of the set does not matter otherwise. A repair costs as much as what it
// brings, unless the log of removals does not reach back.
//
// The construction is the optimised OR-set of Bieniusa et al., "An optimized conflict-free replicated set" (2012), with the deltas of
// Almeida, Shoker and Baquero, "Delta state replicated data types" (2018).
//
// The package is pure: no clock, no locks, no I/O, and what it returns is in a fixed order.
package crdt
