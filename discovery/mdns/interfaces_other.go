//go:build !linux

package mdns

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// lookEvery is the time between two looks at the interfaces, which is all that
// is done to follow them: "back within 5 s" with room to spare.
const lookEvery = 2 * time.Second

// interfaces returns all interfaces of this machine.
func interfaces() ([]candidate, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	list := make([]candidate, 0, len(all))
	for _, i := range all {
		// One that has just vanished has no addresses.
		nets, _ := i.Addrs()
		var addrs []netip.Addr
		for _, n := range nets {
			if addr, ok := addrOf(n); ok {
				addrs = append(addrs, addr)
			}
		}
		list = append(list, candidate{Interface: i, addrs: usableAddrs(i, addrs)})
	}
	return list, nil
}

// news tells of changes of the interfaces; here there is nothing that does.
type news struct{}

func openNews() (*news, error) { return nil, nil }

func (*news) wait() error { return nil }

func (*news) close() error { return nil }
