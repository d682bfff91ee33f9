// Command join measures how long it takes to get an image from another node of
// the network, and how many bytes: by Budgie from a peer, and by containerd's own
// ctr from a registry on the same host, in turn, in the same minutes, with the
// same image. It also measures how much faster two peers are than one where the
// network is what limits them.
//
//	go run ./bench/join
//
// It needs root and Linux. The hosts are those of a laboratory (internal/lan),
// with a containerd 2.x each. It prints what it found and writes it into
// docs/benchmarks.md.
package main
