package discovery

import (
	"context"
	"slices"
	"sync"
)

// Hub is for those who write a discoverer: the set of services, by ID, that it
// knows, and any number of browsers, who are told of its changes each at its
// own pace. Make one with [NewHub]. All methods may be called concurrently;
// changes never wait for browsers.
type Hub struct {
	mu       sync.Mutex
	services map[string]Service
	subs     map[*subscriber]struct{}
	closed   bool
	done     chan struct{}
	wg       sync.WaitGroup
}

// subscriber is one browser. Its queue names the services that may have changed
// since it was told, each once, so that its size is bounded by what is known
// and what was told, however slow the receiver.
type subscriber struct {
	told   map[string]Service
	queue  []string
	queued map[string]bool
	wake   chan struct{}
}

// NewHub returns an empty Hub.
func NewHub() *Hub {
	return &Hub{
		services: make(map[string]Service),
		subs:     make(map[*subscriber]struct{}),
		done:     make(chan struct{}),
	}
}

// Set adds or replaces the service of svc's ID. The Hub keeps a copy. A service
// that is equal to the known one is no change.
func (h *Hub) Set(svc Service) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old, ok := h.services[svc.ID]; ok && old.Equal(svc) || h.closed {
		return
	}
	h.services[svc.ID] = clone(svc)
	h.changed(svc.ID)
}

// Delete removes the service of an ID, if there is one.
func (h *Hub) Delete(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.services[id]; !ok || h.closed {
		return
	}
	delete(h.services, id)
	h.changed(id)
}

// changed queues an ID for every subscriber. The caller holds the lock.
func (h *Hub) changed(id string) {
	for s := range h.subs {
		s.push(id)
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

func (s *subscriber) push(id string) {
	if !s.queued[id] {
		s.queued[id] = true
		s.queue = append(s.queue, id)
	}
}

// Subscribers returns how many channels are open.
func (h *Hub) Subscribers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs)
}

// Subscribe returns a channel of events: what is there, then every change. Per
// ID they are Added, any number of Updated, Removed; changes that a slow
// receiver has not taken are merged, so that it receives the last state. The
// channel is closed at the end of ctx and by Close. After Close Subscribe
// returns ErrClosed.
func (h *Hub) Subscribe(ctx context.Context) (<-chan Event, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	s := &subscriber{
		told:   make(map[string]Service),
		queued: make(map[string]bool),
		wake:   make(chan struct{}, 1),
	}
	for id := range h.services {
		s.push(id)
	}
	slices.Sort(s.queue)
	h.subs[s] = struct{}{}
	events := make(chan Event)
	h.wg.Go(func() {
		defer close(events)
		h.serve(ctx, s, events)
		h.mu.Lock()
		delete(h.subs, s)
		h.mu.Unlock()
	})
	return events, nil
}

// serve sends events to one subscriber. While the receiver does not take an
// event, the event follows the changes of its service, so that what is received
// is always the state at that moment.
func (h *Hub) serve(ctx context.Context, s *subscriber, events chan<- Event) {
	for {
		event, pending := h.next(s)
		var out chan<- Event
		var given Event
		if pending {
			// What the receiver gets is its own, also while we remember it.
			out, given = events, Event{event.Type, clone(event.Service)}
		}
		select {
		case out <- given:
			h.sent(s, event)
		case <-s.wake:
		case <-ctx.Done():
			return
		case <-h.done:
			return
		}
	}
}

// next returns the event for the first ID of the queue that needs one.
func (h *Hub) next(s *subscriber) (Event, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(s.queue) > 0 {
		id := s.queue[0]
		now, present := h.services[id]
		told, known := s.told[id]
		switch {
		case present && !known:
			return Event{Type: Added, Service: now}, true
		case present && !now.Equal(told):
			return Event{Type: Updated, Service: now}, true
		case !present && known:
			return Event{Type: Removed, Service: told}, true
		}
		s.pop()
	}
	return Event{}, false
}

func (s *subscriber) pop() {
	delete(s.queued, s.queue[0])
	s.queue = s.queue[1:]
}

// sent notes what the subscriber was told. If the service has changed since,
// its ID stays queued, at the end.
func (h *Hub) sent(s *subscriber, e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := e.Service.ID
	if e.Type == Removed {
		delete(s.told, id)
	} else {
		s.told[id] = e.Service
	}
	s.pop()
	s.push(id)
}

// Close closes all channels and waits until that is done. It can be called
// again.
func (h *Hub) Close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		close(h.done)
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// clone copies what a service refers to, so that no two owners share memory.
func clone(s Service) Service {
	s.Ports = slices.Clone(s.Ports)
	s.Addrs = slices.Clone(s.Addrs)
	return s
}
