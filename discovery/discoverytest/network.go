package discoverytest

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/budgiehq/budgie/discovery"
)

// Network is a network in memory. Make one with [NewNetwork], and nodes on it
// with [Network.Join]. Everything that a node announces is known to all others
// when Announce returns, unless a fault is in the way: [Network.Partition],
// [Network.Drop], [Node.Kill]. Nothing happens by time: where a real network
// would notice a loss later, a test says when, by [Network.Expire] and
// [Network.Heal]. All methods may be called concurrently.
type Network struct {
	mu    sync.Mutex
	nodes []*Node
	drop  int
}

// NewNetwork returns a network without nodes.
func NewNetwork() *Network { return &Network{} }

// Node is a discoverer on a Network. All methods may be called concurrently.
type Node struct {
	net   *Network
	addrs []netip.Addr
	hub   *discovery.Hub

	// The rest is the network's to lock.

	// side tells the parts of a partitioned network apart.
	side   int
	closed bool
	killed bool
	own    map[string]discovery.Service
	// heard is who announces what, as far as this node knows.
	heard map[string]heard
}

// heard is a service and who announced it.
type heard struct {
	from *Node
	svc  discovery.Service
}

// Join returns a new node with the given addresses, by default 127.0.0.1. It
// knows at once what is announced.
func (n *Network) Join(addrs ...netip.Addr) *Node {
	if len(addrs) == 0 {
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	node := &Node{
		net: n, addrs: slices.Clone(addrs), hub: discovery.NewHub(),
		own: make(map[string]discovery.Service), heard: make(map[string]heard),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes = append(n.nodes, node)
	for _, other := range n.nodes {
		n.refresh(other, node)
	}
	return node
}

// Partition cuts the given nodes off from all others; among themselves they
// are connected. Nobody notices before Expire. A later Partition adds a further
// cut.
func (n *Network) Partition(nodes ...*Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	side := 0
	for _, node := range n.nodes {
		side = max(side, node.side)
	}
	for _, node := range nodes {
		node.side = side + 1
	}
}

// Heal ends all partitions and lets every node hear every other one again, as
// the next queries on a real network would: what was dropped is known, and what
// was withdrawn meanwhile is gone.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, node := range n.nodes {
		node.side = 0
	}
	for _, from := range n.nodes {
		for _, to := range n.nodes {
			n.refresh(from, to)
		}
	}
}

// Drop loses the next count messages, each of which is the news of one
// announcement or withdrawal on its way to one other node. It replaces what an
// earlier call left.
func (n *Network) Drop(count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop = count
}

// Expire lets time pass until every node has forgotten the services of those
// that it cannot hear, because they were killed or are on the other side of a
// partition.
func (n *Network) Expire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, to := range n.nodes {
		for id, h := range to.heard {
			if h.from.killed || h.from.side != to.side {
				to.forget(id)
			}
		}
	}
}

// refresh makes everything that from announces known to another node, and
// nothing else of it. The caller holds the lock.
func (n *Network) refresh(from, to *Node) {
	if from == to || from.killed || from.side != to.side {
		return
	}
	for id, h := range to.heard {
		if _, ok := from.own[id]; h.from == from && !ok {
			to.forget(id)
		}
	}
	for _, svc := range from.own {
		to.hear(from, svc)
	}
}

// tell brings news of an ID from its node to all others that can hear it. The
// caller holds the lock.
func (n *Network) tell(from *Node, id string) {
	for _, to := range n.nodes {
		if to == from || to.side != from.side {
			continue
		}
		if n.drop > 0 {
			n.drop--
			continue
		}
		if svc, ok := from.own[id]; ok {
			to.hear(from, svc)
		} else if to.heard[id].from == from {
			to.forget(id)
		}
	}
}

// hear takes note of an announcement. Of the own ones a node knows better.
func (d *Node) hear(from *Node, svc discovery.Service) {
	d.heard[svc.ID] = heard{from, svc}
	if _, own := d.own[svc.ID]; !own {
		d.hub.Set(svc)
	}
}

func (d *Node) forget(id string) {
	delete(d.heard, id)
	if _, own := d.own[id]; !own {
		d.hub.Delete(id)
	}
}

// Announce makes svc known to all nodes that can be reached, with the addresses
// of this one.
func (d *Node) Announce(ctx context.Context, svc discovery.Service) error {
	if _, err := discovery.EncodeTXT(svc); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d.net.mu.Lock()
	defer d.net.mu.Unlock()
	if d.closed {
		return discovery.ErrClosed
	}
	svc.Ports = slices.Clone(svc.Ports)
	svc.Addrs = d.addrs
	d.own[svc.ID] = svc
	d.hub.Set(svc)
	d.net.tell(d, svc.ID)
	return nil
}

// Withdraw takes an announcement back and tells all nodes that can be reached.
func (d *Node) Withdraw(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.net.mu.Lock()
	defer d.net.mu.Unlock()
	if d.closed {
		return discovery.ErrClosed
	}
	d.withdraw(id)
	return nil
}

func (d *Node) withdraw(id string) {
	if _, ok := d.own[id]; !ok {
		return
	}
	delete(d.own, id)
	if h, ok := d.heard[id]; ok {
		d.hub.Set(h.svc)
	} else {
		d.hub.Delete(id)
	}
	d.net.tell(d, id)
}

// Browse sends an event for every service that this node knows, and then for
// every change, as the Discoverer interface of the root package says.
func (d *Node) Browse(ctx context.Context) (<-chan discovery.Event, error) {
	return d.hub.Subscribe(ctx)
}

// Kill ends the node as a power cut would: nobody hears of it before Expire.
func (d *Node) Kill() {
	d.end(func() { d.killed = true })
}

// Close withdraws all announcements, closes the browsers' channels and takes
// the node off the network. It can be called again.
func (d *Node) Close() error {
	d.end(func() {
		for id := range d.own {
			d.withdraw(id)
		}
	})
	return nil
}

// end does what comes before the end, once, under the network's lock.
func (d *Node) end(before func()) {
	d.net.mu.Lock()
	if !d.closed {
		before()
		d.closed = true
		d.net.nodes = slices.DeleteFunc(d.net.nodes, func(n *Node) bool { return n == d })
	}
	d.net.mu.Unlock()
	d.hub.Close()
}
