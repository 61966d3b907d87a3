// Package membership keeps the list of the cluster's members, on every node, by way of raft. It is the only package that knows hashicorp/raft.
//
// [Open] starts this node's part, [Membership.Handler] serves the other nodes, [Membership.Members] and Config.OnChange give the list, and
// [Membership.Remove] takes a node off it. The list has ids, addresses and versions, and nothing else: presence never waits for raft. While
// too few voters reach each other, nobody can join or be removed, and that is all.
//
// # Flow
//
// The list is what raft's log amounts to: join, update and remove, one member each ([list]). Who takes part in raft follows from it. The leader compares
// raft's servers with the list and takes one step after the other until they agree: add, remove, make a voter, replace a voter that has not
// answered for Config.VoterTimeout. So a change of the list is one entry in the log, and a leader that dies in the middle leaves nothing half done.
//
// A node without members to know of and without addresses to join founds a cluster, which gets a random name. One that joins asks the addresses in turn;
// a member passes the question on to the leader, and the leader first looks whether the node is where it says it is, since a voter at a wrong
// address could cost the quorum. It becomes a voter only when it has shown, by its answer to a hello, that raft has brought it the whole list.
//
// # Addresses
//
// Raft knows servers by their ids; where they are is looked up when it dials. Every node says hello to others all the time: the leader to everybody, a node
// without a leader to everybody and to the addresses to join, else to one at random. A hello and its answer both carry the newest record that is
// known of each member, so addresses are known without a quorum, also when all nodes have new ones. Which record of a member is newer is decided by a revision
// that only this member raises. The list learns of a new address from the member itself, as soon as there is a leader.
//
// Each of raft's connections begins with a line that names the cluster and the member that is meant. An address may have become another node's, and raft takes
// whoever answers for the one it dialled: two votes could come from one voter.
//
// # Removal
//
// A removed node seldom learns so from raft, which stops speaking to it. It learns it from a hello: a list that is at least as new as its own, in the same cluster,
// and without it, from a node whose raft does without it, too. Until then it votes: of two voters, one could not agree alone on being one.
// Then it writes that down, calls Config.OnRemoved, and ends its part. It can come back only by joining, with its log forgotten. [Membership.Remove]
// waits until raft does without the member, so that it may be stopped at once.
//
// # On disk
//
// Storage holds raft's log, term and vote, the newest snapshot, and the list, each with a checksum, since raft panics over what it cannot read. All of it is
// read once by Open, which fails with ErrCorrupt instead. The list is stored by itself because after a restart raft does not know which of its entries are
// agreed upon until there is a leader. Where the disk cannot be written raft stands still, and starts again when it can.
//
// # Versions
//
// Messages and log entries are CBOR maps with integer keys; unknown keys are ignored, and unknown kinds of log entries are skipped. A version that
// adds to what the log says must wait with using it until all members know it: an older one forgets what it does not know in its snapshots.
//
// # Goroutines
//
//	greet, one     hellos and this node's own record; owns contacts and newer (under mu)
//	tend, one      raft's servers, while this node leads
//	notify, one    calls Config.OnChange
//	stop, one      waits for Close or for removal, and ends raft
//	raft's         three, and two a peer at the leader; setList runs on one of them
//
// # Trade-offs
//
//   - Two of two voters are needed for a change, so of two nodes neither can remove the other when it is dead. A cluster that can never have its quorum again is
//     begun anew: stop all, move raft.db away everywhere, start one without --join and the others with it. Presence loses nothing by it that a restart keeps.
//   - A leader says a hello to each member each second: right for tens of nodes.
//   - The first node is the one without addresses to join, by the user's word. Started so twice, on two empty disks, there are two clusters.
//   - Raft 1.7, because raft-boltdb does not build with 1.8's go-metrics.
package membership
