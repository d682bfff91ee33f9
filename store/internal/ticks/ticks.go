// Package ticks tells any number of receivers that something changed, without
// ever waiting for one of them.
package ticks

import (
	"context"
	"sync"
)

// Hub spreads ticks. The zero value is ready to use. All methods may be called
// concurrently.
type Hub struct {
	mu     sync.Mutex
	closed bool
	// subs maps each receiver to the function that takes back its wait for the
	// end of its context.
	subs map[chan struct{}]func() bool
}

// Subscribe returns a channel that holds a tick already and gets one after
// every Tick. Ticks that come while one is waiting to be received are that
// one: it is received after them, so nothing is missed. The channel is closed
// when ctx ends or the hub is closed; ok is false if the hub was closed before.
func (h *Hub) Subscribe(ctx context.Context) (_ <-chan struct{}, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, false
	}
	c := make(chan struct{}, 1)
	c <- struct{}{}
	if h.subs == nil {
		h.subs = make(map[chan struct{}]func() bool)
	}
	// The function runs in a goroutine of its own, which waits for h.mu and
	// thus finds the entry, even if ctx has ended before.
	h.subs[c] = context.AfterFunc(ctx, func() { h.drop(c) })
	return c, true
}

// Tick gives every receiver a tick.
func (h *Hub) Tick() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.subs {
		select {
		case c <- struct{}{}:
		default: // one is waiting to be received
		}
	}
}

// Close closes all channels. It can be called again.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for c, stop := range h.subs {
		stop()
		close(c)
	}
	clear(h.subs)
}

func (h *Hub) drop(c chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.subs[c]; ok { // else Close was first
		delete(h.subs, c)
		close(c)
	}
}
