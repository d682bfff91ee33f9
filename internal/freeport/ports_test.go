package freeport

import (
	"net"
	"strconv"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
)

// No port is given twice, none that somebody has, and none from which the system
// makes outgoing connections.
func TestChoose(t *testing.T) {
	var p Pool
	seen := map[string]bool{}
	for range 300 {
		addrs, err := p.Choose([]bunfile.Port{{ContainerPort: 80}, {ContainerPort: 53, Protocol: bunfile.UDP}})
		if err != nil || len(addrs) != 2 {
			t.Fatalf("got %+v, %v", addrs, err)
		}
		for _, a := range addrs {
			_, text, err := net.SplitHostPort(a.HostPort)
			port, aerr := strconv.Atoi(text)
			if err != nil || aerr != nil || port < lowest || port > highest {
				t.Errorf("got %+v", a)
			}
			key := a.HostPort
			if seen[key] {
				t.Errorf("%s was given twice", key)
			}
			seen[key] = true
		}
	}
}

// Where all of those ports are taken, the system chooses.
func TestChooseAny(t *testing.T) {
	var p Pool
	taken := func(port int) (string, func() error, error) {
		if port != 0 {
			return "", nil, &net.OpError{Op: "listen", Err: net.ErrClosed}
		}
		return listenTCP(0)
	}
	seen := map[string]bool{}
	for range 20 {
		addr, err := p.free(taken)
		if err != nil || seen[addr] {
			t.Fatalf("got %s, %v", addr, err)
		}
		seen[addr] = true
	}
}
