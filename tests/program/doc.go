// Package program builds the rollcall binary and runs it as a user does, for black-box tests and benchmarks.
//
// [Build] makes the binary once for a test program, [Serve] runs a node on a free port until the test ends, and [Start] runs any other
// command. Whatever was started must end well: a data race or a panic on stderr, or an exit code that nobody asked for, fails the test.
package program
