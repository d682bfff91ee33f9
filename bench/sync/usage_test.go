//go:build linux

package main

import (
	"os"
	"testing"
)

const counters = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     111       1    0    0    0     0          0         0      222       1    0    0    0     0       0          0
  eth0:     333       4    0    0    0     0          0         0      555       6    0    0    0     0       0          0
`

func TestTraffic(t *testing.T) {
	if in, out, err := traffic(counters, "eth0"); in != 333 || out != 555 || err != nil {
		t.Errorf("got %d, %d, %v", in, out, err)
	}
	if _, _, err := traffic(counters, "eth1"); err == nil {
		t.Error("there is no eth1")
	}
}

// This process has some memory, and has taken some time or none.
func TestOwnUsage(t *testing.T) {
	if n := pss(os.Getpid()); n < 1<<20 || n > 1<<32 {
		t.Errorf("the test takes %d bytes", n)
	}
	if _, err := cpu(os.Getpid()); err != nil {
		t.Error(err)
	}
}
