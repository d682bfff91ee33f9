// Command discovery measures how soon hosts on a local network learn of each
// other's replicas, and with how many packets: in the laboratory of
// internal/lan, whose hosts are network namespaces of this machine.
//
//	go run ./bench/discovery
//
// It needs root and Linux. It prints what it found and writes it into
// docs/benchmarks.md.
package main
