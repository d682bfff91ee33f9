package store

import (
	"context"
	"sync"
)

// Ticks tells any number of receivers that something changed, without ever
// waiting for one of them; it is what stores make their Watch of. The zero
// value is ready to use. All methods may be called concurrently.
type Ticks struct {
	mu     sync.Mutex
	closed bool
	// subs maps each receiver to the function that takes back its wait for the
	// end of its context.
	subs map[chan struct{}]func() bool
}

// Subscribe returns a channel that holds a tick already and gets one after
// every Tick. Ticks that come while one is waiting to be received are that
// one: it is received after them, so nothing is missed. The channel is closed
// when ctx ends or Close is called; ok is false if it was closed before.
func (t *Ticks) Subscribe(ctx context.Context) (_ <-chan struct{}, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, false
	}
	c := make(chan struct{}, 1)
	c <- struct{}{}
	if t.subs == nil {
		t.subs = make(map[chan struct{}]func() bool)
	}
	// The function runs in a goroutine of its own, which waits for t.mu and
	// thus finds the entry, even if ctx has ended before.
	t.subs[c] = context.AfterFunc(ctx, func() { t.drop(c) })
	return c, true
}

// Tick gives every receiver a tick.
func (t *Ticks) Tick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.subs {
		select {
		case c <- struct{}{}:
		default: // one is waiting to be received
		}
	}
}

// Close closes all channels. It can be called again.
func (t *Ticks) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for c, stop := range t.subs {
		stop()
		close(c)
	}
	clear(t.subs)
}

func (t *Ticks) drop(c chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.subs[c]; ok { // else Close was first
		delete(t.subs, c)
		close(c)
	}
}
