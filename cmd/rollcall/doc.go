// Rollcall is the program: `rollcall serve` runs a node; the other commands are small clients of one.
//
// A command is a struct of flags with a Run method; kong fills it from the command line, the environment and, for serve, a file
// (config.go). [OpenNode] opens everything that a node is made of, in order, and is what serve and the tests run. Nothing else is
// decided here: the packages below it do not know one another, and this one plugs them together.
package main
