// Package memory is a store that lives and dies with its process. It serves
// tests, and programs that want nothing to outlive them.
//
// It keeps the same rules as the store in files, and hands records out as that
// one would read them back, so that what works with this store works with the
// other.
package memory

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// Store keeps records in memory. It is made by [New]. All methods may be called
// concurrently.
type Store struct {
	changes store.Ticks

	mu     sync.RWMutex
	closed bool
	table  *store.Table
	owners map[string]bool
}

// New returns an empty store.
func New() *Store {
	return &Store{table: store.NewTable(), owners: make(map[string]bool)}
}

// Get returns the record of an id, store.ErrNotFound without one.
func (s *Store) Get(ctx context.Context, id string) (lifecycle.Container, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	err := s.usable(ctx)
	var c lifecycle.Container
	if err == nil {
		c, err = s.table.Get(id)
	}
	if err != nil {
		return lifecycle.Container{}, fmt.Errorf("get container %.12s: %w", id, err)
	}
	return c, nil
}

// List returns all records, oldest first, those of the same time by id.
func (s *Store) List(ctx context.Context) ([]lifecycle.Container, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return s.table.List(), nil
}

// Put writes a record if the stored one still has its Revision, and returns it
// as stored, with the new Revision. Revision 0 creates.
func (s *Store) Put(ctx context.Context, c lifecycle.Container) (lifecycle.Container, error) {
	stored, err := s.put(ctx, c)
	if err != nil {
		return lifecycle.Container{}, fmt.Errorf("put container %s (%.12s): %w", c.Name, c.ID, err)
	}
	s.changes.Tick()
	return stored, nil
}

func (s *Store) put(ctx context.Context, c lifecycle.Container) (lifecycle.Container, error) {
	c, err := store.Canonical(c)
	if err != nil {
		return lifecycle.Container{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return lifecycle.Container{}, err
	}
	return s.table.Put(c)
}

// Delete removes the record of an id if it still has this revision.
func (s *Store) Delete(ctx context.Context, id string, revision uint64) error {
	if err := s.remove(ctx, id, revision); err != nil {
		return fmt.Errorf("delete container %.12s: %w", id, err)
	}
	s.changes.Tick()
	return nil
}

func (s *Store) remove(ctx context.Context, id string, revision uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	return s.table.Delete(id, revision)
}

// Watch sends a value at once and after every change, until ctx ends or the
// store is closed, when it closes the channel. Changes in quick succession may
// share a value; the last one is never missed.
func (s *Store) Watch(ctx context.Context) (<-chan struct{}, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("watch containers: %w", err)
	}
	c, ok := s.changes.Subscribe(ctx)
	if !ok {
		return nil, fmt.Errorf("watch containers: %w", store.ErrClosed)
	}
	return c, nil
}

// Acquire takes an owner name until release is called or the store is closed.
// It does not wait: store.ErrOwned means that the name is taken.
func (s *Store) Acquire(ctx context.Context, owner string) (release func() error, err error) {
	if err := store.CheckOwner(owner); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return nil, fmt.Errorf("acquire owner name %s: %w", owner, err)
	}
	if s.owners[owner] {
		return nil, fmt.Errorf("acquire owner name %s: %w: process %d, which is this one",
			owner, store.ErrOwned, os.Getpid())
	}
	s.owners[owner] = true
	var once sync.Once
	return func() error {
		once.Do(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.owners, owner)
		})
		return nil
	}, nil
}

// Alive reports whether an owner name is held.
func (s *Store) Alive(ctx context.Context, owner string) (bool, error) {
	if err := store.CheckOwner(owner); err != nil {
		return false, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return false, fmt.Errorf("look for owner %s: %w", owner, err)
	}
	return s.owners[owner], nil
}

// Close forgets everything. It can be called again.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.table = store.NewTable()
	clear(s.owners)
	s.mu.Unlock()
	s.changes.Close()
	return nil
}

// usable returns why the store cannot be used now. s.mu must be held.
func (s *Store) usable(ctx context.Context) error {
	if s.closed {
		return store.ErrClosed
	}
	return ctx.Err()
}
