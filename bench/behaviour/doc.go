// Command behaviour runs the suite of package behaviourtest against Budgie, nginx,
// HAProxy and Caddy: what a reverse proxy has to do for the requests that pass
// through it, and which of them does.
//
//	go run ./bench/behaviour
//
// It needs Linux, and root to install what it compares with. All traffic is on the
// loopback interface. It prints what it found and writes it into
// docs/behaviour.md.
package main
