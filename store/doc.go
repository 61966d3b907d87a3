// Package store keeps on disk what a node must not forget: its id, the incarnation of its present run, its part of raft's log, and its sessions.
//
// [Open] takes a data directory for this process alone, raises the incarnation and makes that durable before it returns.
// It is the only package that opens files. The file is a bbolt database named rollcall.db; every value in it carries a
// checksum, since bbolt checks its meta pages only.
//
// [Store.OpenRaftLog] opens raft.db for a node that takes part in a cluster. Its structure is checked as rollcall.db's is; the records are raft's, and package
// membership gives them their checksums.
//
// # The session journal
//
// [OpenJournal] opens a second file, journal.db, which may be lost: then clients track again, and watchers see them leave and join. So where rollcall.db
// makes a damaged file the user's decision, the journal sets it aside, says so in one line of the log, and begins anew.
//
// It holds the present state, not a log of changes: a record for each session, opaque bytes under its key. Ended sessions leave free pages that
// bbolt uses again. When two thirds of a file of 16 MiB or more are free, at open or after a commit, it is written anew, without them, beside the old one, and
// renamed. So the file has about 1.3 times the bytes of the records, at most three times that after a peak.
//
// Records lie in numbered slots, which are used again, and not by key: new sessions fill pages one after the other. The slots also make renewals cheap.
// A heartbeat changes only a deadline, of four bytes; those of 1,000 slots make one page, which is stored when one of them has waited for
// LeaseInterval. Writing records instead, a million sessions with a heartbeat every ten seconds would write 400 MB/s; the pages are 1 MB/s. A record has its
// own deadline, too, as of when it was written; the numbers of the commits say which of the two is newer.
//
// Deadlines are times on the wall clock, since no other clock goes on from one process to the next. A clock that jumps while the process runs does no harm
// to what is renewed after it. One that jumps between the last renewal and the restart makes leases longer or shorter by as much: cap what remains at the
// ttl, and allow the restart a grace that covers LeaseInterval.
//
// Damage is looked for in three places. At open the structure of all pages is checked, before bbolt follows any of it. In Load each record has a
// checksum, and one that is wrong costs that record alone. And where bbolt panics or reads what is not there, also later, the journal
// starts over with [ErrJournalReset], and the caller writes its sessions again. After a commit that failed for want of a working disk the file is opened again before
// the next one, since neither bbolt nor anybody else knows what the disk has of it.
//
// Each commit is two fsyncs. Measured on two cores with an ordinary virtual disk, other work going on, records of 240 bytes at random places among 100,000
// and 1,000,000: a commit of one change 0.6 and 0.7 ms, of 100 4 and 12 ms, of 1,000 26 and 118 ms, of 10,000 130 and 830 ms. Opening and loading 100,000
// takes 0.1 s, 1,000,000 1.3 s (3.4 s from a cold disk), and the journal of these holds 77 MB of memory. The benchmarks are in journal_bench_test.go.
package store
