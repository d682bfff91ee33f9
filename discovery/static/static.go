// Package static is a discoverer without a network: it knows the services that
// it is told of, and those announced through it. It is for networks on which
// multicast does not work, for fixed installations, and for tests.
package static

import (
	"context"
	"slices"
	"sync"

	"github.com/budgiehq/budgie/discovery"
)

// Discoverer knows a given set of services and those announced through it; of
// the same ID, the announced one counts. Make one with [New]. All methods may
// be called concurrently. Nothing leaves the process, and the addresses of
// services are taken as they are.
type Discoverer struct {
	hub *discovery.Hub

	mu        sync.Mutex
	closed    bool
	fixed     map[string]discovery.Service
	announced map[string]discovery.Service
}

// New returns a Discoverer that knows the given services, as after
// [Discoverer.Set].
func New(services ...discovery.Service) *Discoverer {
	d := &Discoverer{
		hub:       discovery.NewHub(),
		announced: make(map[string]discovery.Service),
	}
	d.Set(services...)
	return d
}

// Set replaces the given services by others; browsers see the difference. They
// need an ID and are not checked otherwise. After Close it does nothing.
func (d *Discoverer) Set(services ...discovery.Service) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.fixed
	d.fixed = make(map[string]discovery.Service, len(services))
	for _, s := range services {
		d.fixed[s.ID] = clone(s)
		d.publish(s.ID)
	}
	for id := range old {
		d.publish(id)
	}
}

// publish brings the hub up to date with one ID. The caller holds the lock.
func (d *Discoverer) publish(id string) {
	svc, ok := d.announced[id]
	if !ok {
		svc, ok = d.fixed[id]
	}
	if ok {
		d.hub.Set(svc)
	} else {
		d.hub.Delete(id)
	}
}

// Announce makes svc known to the browsers of this Discoverer. It returns
// discovery.ErrInvalid for what no discoverer could announce, and
// discovery.ErrClosed after Close.
func (d *Discoverer) Announce(ctx context.Context, svc discovery.Service) error {
	if _, err := discovery.EncodeTXT(svc); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return discovery.ErrClosed
	}
	d.announced[svc.ID] = clone(svc)
	d.publish(svc.ID)
	return nil
}

// Withdraw takes an announcement back. A given service of the same ID shows
// again. After Close it returns discovery.ErrClosed.
func (d *Discoverer) Withdraw(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return discovery.ErrClosed
	}
	delete(d.announced, id)
	d.publish(id)
	return nil
}

// Browse sends an event for every service and then for every change, as the
// Discoverer interface of the root package says.
func (d *Discoverer) Browse(ctx context.Context) (<-chan discovery.Event, error) {
	return d.hub.Subscribe(ctx)
}

// Close withdraws everything and closes the browsers' channels. It can be
// called again.
func (d *Discoverer) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.hub.Close()
	return nil
}

// clone returns a service that shares no memory with svc: it may be published
// again much later.
func clone(svc discovery.Service) discovery.Service {
	svc.Ports, svc.Addrs = slices.Clone(svc.Ports), slices.Clone(svc.Addrs)
	return svc
}
