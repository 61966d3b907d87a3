// Package store keeps on disk what a node must not forget: its id, and the incarnation of its present run.
//
// [Open] takes a data directory for this process alone, raises the incarnation and makes that durable before it returns.
// It is the only package that opens files. The file is a bbolt database named rollcall.db; every value in it carries a
// checksum, since bbolt checks its meta pages only.
package store
