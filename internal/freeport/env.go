package freeport

import (
	"fmt"
	"net"
	"slices"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
)

// Environment returns the variables that tell a program where to listen, as
// KEY=value: PORT for the first TCP port, BUDGIE_PORT_<container_port> for each
// port. Where one number is both TCP and UDP, that is the TCP port;
// BUDGIE_PORT_<container_port>_UDP is always the UDP port.
func Environment(addrs []runtime.Address) []string {
	var env []string
	first := true
	for _, a := range addrs {
		_, port, err := net.SplitHostPort(a.HostPort)
		if err != nil {
			continue
		}
		name := fmt.Sprintf("BUDGIE_PORT_%d", a.ContainerPort)
		if a.Protocol == bunfile.UDP {
			env = append(env, name+"_UDP="+port)
			if slices.ContainsFunc(addrs, func(b runtime.Address) bool {
				return b.Protocol != bunfile.UDP && b.ContainerPort == a.ContainerPort
			}) {
				continue
			}
		} else if first {
			first = false
			env = append(env, "PORT="+port)
		}
		env = append(env, name+"="+port)
	}
	return env
}
