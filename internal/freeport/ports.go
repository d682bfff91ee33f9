// Package freeport chooses free loopback ports for programs that share the
// machine's network, and tells programs their ports.
package freeport

import (
	"fmt"
	"net"
	"sync"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
)

// Pool chooses free loopback ports. It remembers what it gave, because a
// port is free again in the eyes of the system until its process binds it.
type Pool struct {
	mu     sync.Mutex
	recent []string
}

// remembered is how many ports are not given again. It is well below the number
// of ports that systems hand out.
const remembered = 4096

// Choose returns where the ports of a container are this time.
func (p *Pool) Choose(ports []bunfile.Port) ([]runtime.Address, error) {
	var out []runtime.Address
	for _, port := range ports {
		a := runtime.Address{ContainerPort: port.ContainerPort, Protocol: port.Protocol}
		var err error
		if port.Protocol == bunfile.UDP {
			a.HostPort, err = p.free(listenUDP)
		} else {
			a.Protocol = bunfile.TCP
			a.HostPort, err = p.free(listenTCP)
		}
		if err != nil {
			return nil, fmt.Errorf("choose a port for %d/%s: %w", port.ContainerPort, a.Protocol, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// free returns a loopback address with a port that nobody has and that was not
// given lately.
func (p *Pool) free(listen func() (string, func() error, error)) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var held []func() error
	defer func() {
		for _, closeIt := range held {
			closeIt()
		}
	}()
	for range 64 {
		addr, closeIt, err := listen()
		if err != nil {
			return "", err
		}
		// Held until one is found, so that the system gives another one.
		held = append(held, closeIt)
		if !p.given(addr) {
			p.recent = append(p.recent, addr)
			if len(p.recent) > remembered {
				p.recent = p.recent[len(p.recent)-remembered:]
			}
			return addr, nil
		}
	}
	// Nearly all ports were given: forget, rather than refuse to start.
	p.recent = nil
	addr, closeIt, err := listen()
	if err != nil {
		return "", err
	}
	held = append(held, closeIt)
	return addr, nil
}

func (p *Pool) given(addr string) bool {
	for _, r := range p.recent {
		if r == addr {
			return true
		}
	}
	return false
}

func listenTCP() (string, func() error, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return l.Addr().String(), l.Close, nil
}

func listenUDP() (string, func() error, error) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return c.LocalAddr().String(), c.Close, nil
}
