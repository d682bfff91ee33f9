// Package runtimetest holds what tests of and with container runtimes need: the
// conformance suite ([Run]) that every runtime passes, the program that its
// containers run ([Program]), and an in-memory runtime ([Fake]) for testing what
// uses runtimes, without containers.
package runtimetest
