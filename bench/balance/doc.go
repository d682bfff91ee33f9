// Command balance measures proxies in front of two backends: Budgie in its modes
// HTTP and TCP, HAProxy in the same two, nginx, Caddy and a bare
// httputil.ReverseProxy, and the backends without a proxy. All are measured in each
// round, one after the other, so that whatever else the machine does hits all alike.
//
//	go run ./bench/balance
//
// It needs root and Linux, and installs what it compares with. All of it runs on
// the loopback interface of a network namespace. It prints what it found and writes
// it into docs/benchmarks.md.
package main
