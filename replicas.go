package budgie

import (
	"slices"
	"strings"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
)

// followReplicas directs the published ports of a container to the replicas of
// its service on other nodes, too, as they come and go, until the publication
// ends. It needs a discoverer, and does nothing without.
func (k *keeper) followReplicas(pub *publication) {
	stop, err := k.c.watchReplicas(
		func(s discovery.Service) bool { return s.ServiceID == pub.service && s.ID != k.id },
		func(r *roster, id string) {
			told, is := pub.tunnels.follow(r, id, func(c peer.Container) bool { return c.ServiceID == pub.service })
			if pub.setReplica(id, told, is) {
				k.log.Info("a replica on another node", "replica", id, "node", told.Node, "serves", is)
			}
		})
	if err != nil {
		return // discovery is off, or the client ends
	}
	pub.unfollow = func() {
		stop()
		pub.tunnels.close()
	}
}

// setReplica notes a replica on another node, or that it serves no more, and
// reports whether that is news.
func (p *publication) setReplica(id string, told peer.Container, is bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, was := p.replicas[id]
	if is {
		p.replicas[id] = told
	} else {
		delete(p.replicas, id)
	}
	if is || was {
		p.direct()
	}
	return is != was
}

// direct gives the published ports their backends: the container, and its
// service's replicas on other nodes. The caller holds the lock.
func (p *publication) direct() {
	for _, port := range p.ports {
		e := port.endpoint
		var backends []balance.Backend
		for _, a := range p.local {
			if a.ContainerPort == e.ContainerPort && sameTransport(a.Protocol, e.Protocol) {
				backends = append(backends, balance.Backend{ID: p.id, Addr: a.HostPort, Weight: p.weight, Backup: p.preferLocal && p.sick})
			}
		}
		backends = append(backends, p.elsewhere(e)...)
		port.frontend.Update(backends)
	}
}

// elsewhere returns the replicas on other nodes that publish a port of the container,
// in the order of their ids.
func (p *publication) elsewhere(port lifecycle.Endpoint) []balance.Backend {
	var backends []balance.Backend
	for id, told := range p.replicas {
		if publishes(told, port) {
			backends = append(backends, balance.Backend{ID: id, Addr: p.tunnels.addr(id, port.ContainerPort, port.Protocol), Weight: told.Weight, Backup: p.preferLocal && !p.sick})
		}
	}
	slices.SortFunc(backends, func(a, b balance.Backend) int { return strings.Compare(a.ID, b.ID) })
	return backends
}

// sameTransport reports whether two ports are of the same protocol, which is TCP where it
// says nothing.
func sameTransport(a, b bunfile.Protocol) bool { return (a == bunfile.UDP) == (b == bunfile.UDP) }

// publishes reports whether a replica publishes a port.
func publishes(c peer.Container, port lifecycle.Endpoint) bool {
	for _, e := range c.Endpoints {
		if e.ContainerPort == port.ContainerPort && sameTransport(e.Protocol, port.Protocol) {
			return true
		}
	}
	return false
}
