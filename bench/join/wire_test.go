package main

import "testing"

func TestReceived(t *testing.T) {
	const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: 9000000000    2    0    0    0     0          0         0      200       2    0    0    0     0       0          0
  eth1: 12
`
	if got, err := received(text, "eth0"); err != nil || got != 9000000000 {
		t.Errorf("eth0 has received %d, %v", got, err)
	}
	for _, nic := range []string{"eth1", "eth2", "eth", ""} {
		if got, err := received(text, nic); err == nil {
			t.Errorf("%q has received %d", nic, got)
		}
	}
}
