// Package keylock has one lock per container.
package keylock

import (
	"context"
	"sync"
)

// Locks is a lock for each id, on which one can wait with a context.
type Locks struct {
	mu sync.Mutex
	m  map[string]*entry
}

type entry struct {
	held  chan struct{}
	users int
}

// Lock takes the lock of an id, or returns the cause of the end of ctx.
func (k *Locks) Lock(ctx context.Context, id string) (unlock func(), err error) {
	k.mu.Lock()
	if k.m == nil {
		k.m = map[string]*entry{}
	}
	e := k.m[id]
	if e == nil {
		e = &entry{held: make(chan struct{}, 1)}
		k.m[id] = e
	}
	e.users++
	k.mu.Unlock()

	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if e.users--; e.users == 0 {
			delete(k.m, id)
		}
	}
	select {
	case e.held <- struct{}{}:
		return func() { <-e.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}
