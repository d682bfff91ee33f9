// Package freeport chooses free loopback ports for programs that share the
// machine's network, and tells programs their ports.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
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

// Ports are chosen from below those from which systems take the source ports of
// outgoing connections (Linux from 32768 on, others from 49152, see RFC 6335
// section 6): a connection of a health check must not sit on the port of a
// program that is about to bind it.
const (
	lowest  = 20000
	highest = 29999
)

// tries is how many ports are tried of those, and of any after that.
const tries = 64

// free returns a loopback address with a port that nobody has and that was not
// given lately.
func (p *Pool) free(listen func(port int) (string, func() error, error)) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range tries {
		addr, closeIt, err := listen(lowest + rand.IntN(highest-lowest+1))
		if err != nil {
			continue // somebody has it
		}
		if err := closeIt(); err != nil {
			return "", err
		}
		if !slices.Contains(p.recent, addr) {
			p.give(addr)
			return addr, nil
		}
	}
	return p.any(listen)
}

// any is free for a machine on which so many of those ports are taken that the
// system has to choose.
func (p *Pool) any(listen func(port int) (string, func() error, error)) (string, error) {
	var held []func() error
	defer func() {
		for _, closeIt := range held {
			closeIt()
		}
	}()
	for range tries {
		addr, closeIt, err := listen(0)
		if err != nil {
			return "", err
		}
		// Held until one is found, so that the system gives another one.
		held = append(held, closeIt)
		if !slices.Contains(p.recent, addr) {
			p.give(addr)
			return addr, nil
		}
	}
	// Nearly all ports were given: forget, rather than refuse to start.
	p.recent = nil
	addr, closeIt, err := listen(0)
	if err != nil {
		return "", err
	}
	held = append(held, closeIt)
	return addr, nil
}

// give remembers what was given.
func (p *Pool) give(addr string) {
	p.recent = append(p.recent, addr)
	if len(p.recent) > remembered {
		p.recent = p.recent[len(p.recent)-remembered:]
	}
}

func listenTCP(port int) (string, func() error, error) {
	l, err := net.Listen("tcp4", loopback(port))
	if err != nil {
		return "", nil, err
	}
	return l.Addr().String(), l.Close, nil
}

func listenUDP(port int) (string, func() error, error) {
	c, err := net.ListenPacket("udp4", loopback(port))
	if err != nil {
		return "", nil, err
	}
	return c.LocalAddr().String(), c.Close, nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
