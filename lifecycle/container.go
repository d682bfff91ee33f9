// Package lifecycle holds what a container is over its life: its states and
// the machine that moves between them, what is wanted of it against what is
// seen, when it restarts, and when it counts as healthy.
//
// Everything here is pure: no I/O, no goroutines, no clock. The caller says
// what time it is.
package lifecycle

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// State is a state of a container. The zero value is the state before
// Creating, in which nothing exists yet.
type State string

// The states, in the order in which a container goes through them. A stopped
// container that runs again goes back to Created.
const (
	Creating State = "creating"
	Created  State = "created"
	Running  State = "running"
	Stopped  State = "stopped"
)

// Desired is what somebody wants of a container, as opposed to its State,
// which is what is seen.
type Desired string

// The desired states.
const (
	// WantRunning lets the restart policy decide after an exit.
	WantRunning Desired = "running"
	// WantStopped keeps the container stopped under every restart policy.
	WantStopped Desired = "stopped"
)

// Health is what the health check says of a container.
type Health string

// The healths. The zero value means that there is no health check.
const (
	HealthNone Health = ""
	// HealthStarting: no probe has succeeded since the start.
	HealthStarting Health = "starting"
	// Healthy: probes succeed.
	Healthy Health = "healthy"
	// Unhealthy: as many probes in a row failed as the check allows.
	Unhealthy Health = "unhealthy"
)

// UnknownExitCode is the code of an exit that nobody saw, as when the program
// that supervised the container had been killed.
const UnknownExitCode = -1

// Exit is the end of a container's process.
type Exit struct {
	// Code is the exit status; 128 plus the signal's number where a signal
	// ended the process; UnknownExitCode where nobody saw it.
	Code int `json:"code"`
	// At is when it ended, or was found to have ended.
	At time.Time `json:"at"`
	// OOMKilled is true where it ended, neither stopped nor well, and the kernel had
	// killed it, or a process of its container, for lack of memory.
	OOMKilled bool `json:"oom_killed,omitempty"`
}

// Endpoint is a published port: where others reach a container's port.
type Endpoint struct {
	// ContainerPort is the port as the specification names it.
	ContainerPort int `json:"container_port"`
	// Protocol of the port.
	Protocol bunfile.Protocol `json:"protocol"`
	// Host is the address it is bound to; an unspecified address means all of
	// the node's.
	Host string `json:"host"`
	// Port is the published port.
	Port int `json:"port"`
	// HTTP is true where the proxy in front of the port speaks HTTP.
	HTTP bool `json:"http,omitempty"`
}

// String returns the endpoint as host:port, ready to dial from the same node:
// an endpoint bound to all addresses is given as the loopback's.
func (e Endpoint) String() string {
	host := e.Host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(e.Port))
}

// Container is a container's record: what is wanted of it, and what was last
// seen of it. It is a value; copy it with Clone.
type Container struct {
	// ID is 64 hexadecimal characters, unique for ever.
	ID string `json:"id"`
	// Name is unique in a store.
	Name string `json:"name"`
	// ServiceID is shared by the replicas of a service. It is the ID of the
	// first of them.
	ServiceID string `json:"service_id"`
	// Spec is what to run, validated, with defaults.
	Spec bunfile.Spec `json:"spec"`
	// ImageDigest is the digest of the image that was found or fetched for it;
	// empty where its runtime has no images.
	ImageDigest string `json:"image_digest,omitempty"`
	// Runtime is the name of the runtime that runs it.
	Runtime string `json:"runtime"`
	// Owner is the name under which its supervisor holds its lock in the store.
	Owner string `json:"owner"`
	// Detached is true where the container outlives the program that asked
	// for it.
	Detached bool `json:"detached,omitempty"`
	// Restored is true for a replica that its machine created by itself, because its
	// service had too few: it ends again when there are enough.
	Restored bool `json:"restored,omitempty"`
	// Weight overrides the weight of the specification; zero where it does not. See
	// Share.
	Weight int `json:"weight,omitempty"`
	// AutoRemove is true where the container is removed when it is done.
	AutoRemove bool `json:"auto_remove,omitempty"`
	// Bind is the host address that its published ports are bound to; empty
	// means all addresses.
	Bind string `json:"bind,omitempty"`

	// Desired is what is wanted.
	Desired Desired `json:"desired"`
	// StopGrace overrides the specification's stop timeout for the stop that
	// was asked for; nil where it does not.
	StopGrace *bunfile.Duration `json:"stop_grace,omitempty"`

	// State is what was last seen.
	State State `json:"state"`
	// Health is what the health check said last.
	Health Health `json:"health,omitempty"`
	// Ready is true from the moment the container first served after its last
	// start until it ends.
	Ready bool `json:"ready,omitempty"`
	// ProbeError says why the last probe of the container's health or readiness
	// failed; empty after one that succeeded.
	ProbeError string `json:"probe_error,omitempty"`
	// PID is the first process while Running.
	PID int `json:"pid,omitempty"`
	// Endpoints are the published ports. They stay while it restarts.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	// CreatedAt is when it was asked for.
	CreatedAt time.Time `json:"created_at"`
	// StartedAt is the last start; zero if there was none.
	StartedAt time.Time `json:"started_at,omitzero"`
	// Exit is the last end; nil if there was none, or while Running.
	Exit *Exit `json:"exit,omitempty"`
	// Restarts counts the restarts since the container was asked for.
	Restarts int `json:"restarts,omitempty"`
	// Failures counts the ends in a row, none of which came after a long
	// enough run to count as success. Backoff grows with it.
	Failures int `json:"failures,omitempty"`
	// RestartAt is the earliest time of the next start; zero where none is due.
	RestartAt time.Time `json:"restart_at,omitzero"`
	// Reason says in words why the container is in this state, where that is
	// not plain.
	Reason string `json:"reason,omitempty"`

	// Term is greater than 0 where somebody made this container's node the owner
	// of the service's volumes. The replica with the greatest term owns them; see
	// VolumesTerm.
	Term uint64 `json:"term,omitempty"`
	// Volumes says how far the copies of the service's volumes are behind, which
	// the container has where it joined the service. Nil elsewhere.
	Volumes []VolumeSync `json:"volumes,omitempty"`
	// AcceptedLoss are the contents of volumes ([VolumeSync.Held]) that a person
	// said may be taken over.
	AcceptedLoss []string `json:"accepted_loss,omitempty"`

	// Unsupervised is true where no living process looks after the container.
	// It is seen when the container is listed, and not stored.
	Unsupervised bool `json:"-"`

	// Joining is set while a replica that joined has yet to find out whether its
	// service has room for it; nil from when it stays, and for all others.
	Joining *Joining `json:"joining,omitempty"`

	// Revision is the store's: it grows with every write. 0 means that the
	// record has not been stored.
	Revision uint64 `json:"revision"`
}

// Joining is what is open about a replica that joined.
type Joining struct {
	// Known are the replicas of its service that the join knew of.
	Known []KnownReplica `json:"known,omitempty"`
	// Withdrawn is true from when it had to go; the container's Reason says why.
	Withdrawn bool `json:"withdrawn,omitempty"`
}

// KnownReplica is a replica on another node.
type KnownReplica struct {
	// ID of the replica, and Node, the id of its node.
	ID   string `json:"id"`
	Node string `json:"node"`
	// Addr is the host:port at which the node's endpoint answered.
	Addr string `json:"addr"`
}

// Clone returns a copy that shares no memory with c.
func (c Container) Clone() Container {
	c.Spec = c.Spec.Clone()
	c.Endpoints = append([]Endpoint(nil), c.Endpoints...)
	c.Volumes = slices.Clone(c.Volumes)
	c.AcceptedLoss = slices.Clone(c.AcceptedLoss)
	if c.Exit != nil {
		e := *c.Exit
		c.Exit = &e
	}
	if c.StopGrace != nil {
		g := *c.StopGrace
		c.StopGrace = &g
	}
	if c.Joining != nil {
		j := *c.Joining
		j.Known = append([]KnownReplica(nil), j.Known...)
		c.Joining = &j
	}
	return c
}

// VolumesTerm returns the term in which the container's node owns the volumes of
// the service, 0 where it does not: the one that began the service does so in the
// first, and each promotion begins another.
func (c Container) VolumesTerm() uint64 {
	if c.Term == 0 && c.ID == c.ServiceID {
		return 1
	}
	return c.Term
}

// Yields reports whether the container ends where its service has more replicas than
// its specification allows: one that joined does, and the one that began the service,
// or that was made the owner of its volumes, does not.
func (c Container) Yields() bool { return c.ID != c.ServiceID && c.Term == 0 }

// Share is its weight as it counts: its own, the specification's, or 1.
func (c Container) Share() int { return cmp.Or(c.Weight, c.Spec.Balance.Weight, 1) }

// ShortID returns the first 12 characters of the ID, enough to tell containers
// apart for a person.
func (c Container) ShortID() string {
	if len(c.ID) <= 12 {
		return c.ID
	}
	return c.ID[:12]
}

// Grace returns how long to wait between the stop signal and the kill.
func (c Container) Grace() time.Duration {
	switch {
	case c.StopGrace != nil:
		return c.StopGrace.Std()
	case c.Spec.StopTimeout != nil:
		return c.Spec.StopTimeout.Std()
	}
	return bunfile.DefaultStopTimeout
}

// URL returns the address of the first published TCP port as a URL to open
// from the same node, or an empty string where there is none.
func (c Container) URL() string {
	for _, e := range c.Endpoints {
		if e.Protocol != bunfile.UDP {
			return fmt.Sprintf("http://%s", e)
		}
	}
	return ""
}

// EndReason says in words why the container ended, or is about to.
func (c Container) EndReason() string {
	switch e := c.Exit; {
	case c.Reason != "":
		return c.Reason
	case e == nil:
		return "it was stopped"
	case e.OOMKilled:
		return "it ran out of memory and was killed"
	case e.Code == UnknownExitCode:
		return "it ended while nobody watched, with an unknown exit status"
	case e.Code > 128:
		return fmt.Sprintf("it was ended by signal %d (exit status %d)", e.Code-128, e.Code)
	default:
		return fmt.Sprintf("it exited with status %d", e.Code)
	}
}
