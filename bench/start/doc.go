// Command start measures how long it takes from a command to the first answer
// of the container that it starts, and how much memory all processes hold that
// supervise it: for Budgie, for Docker and for containerd's own ctr, in turn, in
// the same minutes on the same machine, with the same image.
//
//	go run ./bench/start
//
// It needs root and Linux, installs Docker where there is none, and starts all
// daemons itself, in namespaces and directories of its own. It prints what it
// found and writes it into docs/benchmarks.md.
package main
