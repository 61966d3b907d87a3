//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package store

import "os"

// unlock closes file, which gives up bbolt's lock on it.
func unlock(file *os.File) { _ = file.Close() }
