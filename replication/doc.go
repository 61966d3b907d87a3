// Package replication keeps the trackers of several nodes in step, and lets any node serve any session.
//
// [Open] a [Replicator] beside a [presence.Tracker], give it the list of members ([Replicator.SetMembers]) and its [Replicator.Handler] a place on the cluster port, and use its
// Track, Update, Heartbeat and so on in place of the tracker's: they do what is asked for wherever the session lives.
//
// DESIGN.md says how it works, which goroutines there are and what was traded for what; WIRE.md is the format of the messages.
package replication
