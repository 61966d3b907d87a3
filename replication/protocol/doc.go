// Package protocol decides who of the cluster is up, down or forgotten, and whom to talk to, from state, message and time alone.
//
// A node has one [View]. It tells the view the list of members ([View.SetMembers]), what others say ([View.Receive]), that an interval has passed
// ([View.Tick]), and how its own requests to others went ([View.Answered], [View.Failed]); it asks it what to say ([View.Beats]) and to whom
// ([View.Targets]). What changes comes back as [Event] values, in a fixed order.
//
// # Beats
//
// Each replica counts its beats, one a tick. Everybody passes on the highest beat that it knows of everybody, with its age, so a node is heard of directly
// or through others. A replica whose beat does not move for Config.DownAfter is down; after Config.ForgetAfter it is permdown. Only a higher count is
// news: a beat that comes back, however often and by whatever way, changes nothing, so those that talk about a dead node do not keep it alive. And since its age travels
// with a beat, a replica dies everywhere at about the same time: the time that messages spend on the way, which no age covers, is all that can be added.
// The idea is van Renesse, Minsky and Hayden, "A gossip-style failure detection service" (1998).
//
// # Time
//
// The caller's now is any monotonic clock. What is judged here runs on a clock of its own that stands still while the process does: when nobody calls for
// some intervals, the process was stopped, nobody could be heard, and so nobody is blamed. Ages that are passed on do count that time: to others a
// beat has grown old meanwhile.
//
// # Incarnations
//
// The highest incarnation of a node that has been heard of is its present one. Earlier ones are superseded: their beats no longer count, so unless their
// successor's data arrives they go the way of all that is silent. It usually does: a beat says how many dots of each shard its replica restored from its
// journal, and as soon as the caller has merged that many of a shard, [View.Retire] says that the predecessors may be forgotten there.
//
// The package is pure: no clock, no dice, no locks, no I/O; the caller keeps its calls to one View apart.
package protocol
