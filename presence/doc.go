// Package presence tracks who is in which topic.
//
// Most callers need a [Tracker]: open one with [Open], call [Tracker.Track] and [Tracker.Heartbeat] for clients that renew their own
// leases, [Tracker.Attach] for those that hold a connection open, and [Tracker.Subscribe] to follow a topic. Queries ([Tracker.List],
// [Tracker.Count], [Tracker.WhereIs], …) answer from memory.
//
// # Flow
//
// A change begins at a session. The session's stripe is locked, the lease checked, and the change made in the topic's shard: the replicated
// set ([crdt.Set]) gets a dot or loses one, the topic's visible members follow, and every [Subscription] of the topic takes the change into
// its pending net diff. A subscription that had nothing pending is told so; its owner takes the diff when it likes. So a change costs the
// same however many watchers there are and however slow they are, and what is pending is bounded by the size of the topic.
//
// # Several nodes
//
// [Tracker.RecordChanges] and [Tracker.TakeChanges] give what changes here, [Tracker.Digest], [Tracker.Repair] and [Tracker.Merge] bring trackers into step, [Tracker.Hide] and its
// neighbours follow the fate of other replicas. A presence is visible while any replica that is up has it; several versions of it are one, the latest ref.
// A merge is followed by a look at the sessions that it touched and that live here: another node may have taken one over, hold another part of it, or have ended it
// ([Tracker.HandOver], [Tracker.Adopt], [Tracker.AdoptKnown]). The rules are in the DESIGN.md of package replication.
//
// [Tracker.RecordSessions], [Tracker.TakeSessions] and [Tracker.Restore] let somebody keep the sessions on disk.
//
// # Locks
//
// Sessions are striped by id, topics sharded by name, and the indices from keys to topics and from sessions to places are striped by key and by session. Locks are
// taken in that order: stripe, shard, index. A subscription's notify function runs under the shard's lock and must neither block nor call the tracker. Presences
// are immutable; members are copied on write, so lists are encoded outside the locks.
//
// # Leases
//
// A session lives on a [clock] that stands still while the process does, so neither wall clock jumps nor a suspended machine expire
// anybody. Expiry is lazy: a renewal only stores a number; the [wheel] looks at each session when its lease would have run out, ends it or
// looks again later. A session's end may therefore be late by sweepInterval; a heartbeat that comes before it saves the session.
//
// # Goroutines
//
// One, the sweeper, which ends what has run out. [Tracker.Close] stops it and waits.
//
// # Trade-offs
//
// What has ended is remembered for some seconds, but only where there are other nodes: a late message, or a node that restores what it once had, would bring it back.
//
// Each shard is a replicated set of its own, with its own counters. A digest therefore has an entry for each shard and replica, sixteen times what one set
// would need, and snapshots come in sixteen parts that can be made and merged one at a time, under one sixteenth of the locks.
package presence
