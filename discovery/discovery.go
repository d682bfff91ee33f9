// Package discovery is the vocabulary of finding replicas on a network: the
// service that a replica announces, the events by which a browser learns of
// it, and the DNS-SD TXT record that carries it. The ways of announcing and
// browsing are in the packages below.
package discovery

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/budgiehq/budgie/bunfile"
)

// Errors that every discoverer returns.
var (
	// ErrInvalid: the service to announce breaks a rule; the text says which.
	ErrInvalid = errors.New("invalid service")
	// ErrClosed: the discoverer is closed.
	ErrClosed = errors.New("discoverer is closed")
)

// Port is a published port of a replica.
type Port struct {
	// ContainerPort is the port as the specification names it.
	ContainerPort int
	// HostPort is the port on the announcing node.
	HostPort int
	// Protocol of the port.
	Protocol bunfile.Protocol
	// HTTP is true where the port speaks HTTP.
	HTTP bool
}

// Service is one announced replica. All that it says is a hint from an
// unauthenticated network.
type Service struct {
	// ID is the replica's id, 64 hexadecimal characters. It identifies the
	// announcement.
	ID string
	// ServiceID is shared by all replicas of a service.
	ServiceID string
	// Name is the container's name.
	Name string
	// Image is the image reference, or empty for a custom command.
	Image string
	// Node is the id of the announcing node.
	Node string
	// Flock is the hash that identifies the flock; empty without one.
	Flock string
	// Ports are the published ports.
	Ports []Port
	// Addrs are the addresses of the announcing node, link-local ones with
	// their zone. Leave them empty when announcing: the discoverer fills in
	// those of the interface on which the announcement goes out.
	Addrs []netip.Addr
	// PeerPort is the port of the node's peer endpoint; 0 without one.
	PeerPort int
	// Host is true for the announcement of no replica, but of a node that runs
	// some where they are missing. Its ID stands for the node, and its ServiceID
	// and Name mean nothing.
	Host bool
}

// Equal reports whether a and b announce the same, whatever the order of
// addresses.
func (s Service) Equal(o Service) bool {
	a, b := slices.Clone(s.Addrs), slices.Clone(o.Addrs)
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	return s.ID == o.ID && s.ServiceID == o.ServiceID && s.Name == o.Name && s.Image == o.Image &&
		s.Node == o.Node && s.Flock == o.Flock && s.PeerPort == o.PeerPort && s.Host == o.Host &&
		slices.Equal(s.Ports, o.Ports) && slices.Equal(a, b)
}

// EventType says what happened to a service.
type EventType int

// The event types.
const (
	// Added: a service that was not known.
	Added EventType = iota + 1
	// Updated: a known service announces something else than before.
	Updated
	// Removed: a known service said goodbye or expired.
	Removed
)

// String returns the event type in lower case.
func (t EventType) String() string {
	switch t {
	case Added:
		return "added"
	case Updated:
		return "updated"
	case Removed:
		return "removed"
	}
	return "unknown"
}

// Event is a change in what is announced.
type Event struct {
	Type EventType
	// Service is as announced now, and for Removed as last announced.
	Service Service
}
