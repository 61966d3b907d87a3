// Package stream is the hub of the event streams: it turns changes of topics into Server-Sent Events, once, and hands them to every
// subscriber.
//
// A handler calls [Hub.Serve] and stays in it for the life of the connection.
//
// # Flow
//
// The first subscriber of a topic makes its feed, which follows the topic through one [presence.Subscription]. When something has changed
// and the feed's window allows, the feed publishes: it takes the net diff, encodes it into a frame, gives the frame the hub's next
// sequence number, puts it into its log, and wakes its subscribers. A subscriber is a cursor: the number up to which its client has
// everything. When it wakes it reads the frames after its cursor from its feeds' logs, in the order of their numbers, and writes the
// shared bytes. There is no queue for each subscriber. Whatever a slow client has not read is in the log, once for all; when the log no
// longer reaches back to the cursor, or what the client missed has grown larger than the state, it gets the state instead. A client that
// returns with a Last-Event-ID is the same case: a cursor that may or may not be within the log. A new client is a cursor of 0.
//
// A state frame is what the feed has published so far, not what the tracker holds at that moment: exactly what the frames after it build on. It is
// encoded once for all who come before the feed publishes again.
//
// # Sequence numbers
//
// They count all frames of the hub, not of a topic, so that one number says what a client of several topics has. This needs that no frame
// appears with a number below one that was already read: numbers are given and announced under one lock, and a reader first reads the hub's number, then the
// logs up to it. Where a batch for several topics has states in it, the number holds only for the batch as a whole; so only its last event has an id.
//
// A topic's feed outlives its last subscriber by resumeFor, so that a lone watcher who reconnects finds its log. A feed that is made anew takes a number for
// itself: no older cursor is within its log.
//
// # Windows
//
// The first change of a quiet topic goes out at once; those after it wait until the window since the last frame is over, and go out as one. The window is
// Config.Window, and grows with the topic's subscribers and the size of its frames so that no topic takes more than a share of the machine; see [window].
// A subscriber that arrives has the feed publish before its time if that share allows, so that in all but huge rooms a client reads its own writes.
//
// # Memory
//
// Frames are kept for resumeFor and within Config.ResumeBytes for all topics together, the oldest going first. A subscriber is a few hundred bytes and
// the HTTP server's connection.
//
// # Goroutines
//
// The HTTP server's own for each connection, which runs Serve and owns the subscriber. Those that publish live for one frame; [Hub.Close] waits for
// all of them.
//
// # Locks
//
// A feed's lock guards its log and subscribers and is held while it publishes; it is taken before the tracker's locks and before the hub's commit lock. The
// hub's lock guards the tables of feeds and subscribers; no feed's lock is waited for under it, so that a topic that is busy encoding holds up no other.
package stream
