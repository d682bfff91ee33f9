package file

import (
	"context"
	"fmt"

	"github.com/budgiehq/budgie/internal/filewatch"
	"github.com/budgiehq/budgie/store"
)

// Watch sends a value at once and after every change, by whichever process,
// until ctx ends or the store is closed, when it closes the channel. Changes in
// quick succession may share a value; the last one is never missed.
func (s *Store) Watch(ctx context.Context) (<-chan struct{}, error) {
	if err := s.watchDir(ctx); err != nil {
		return nil, fmt.Errorf("watch containers: %w", err)
	}
	// The directory is watched by now: whatever changes before this is seen
	// by the read after the first value, whatever changes later is noticed.
	c, ok := s.changes.Subscribe(ctx)
	if !ok {
		return nil, fmt.Errorf("watch containers: %w", store.ErrClosed)
	}
	return c, nil
}

// watchDir starts the one watcher that all calls of Watch share.
func (s *Store) watchDir(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	if s.watcher != nil {
		return nil
	}
	w, err := filewatch.New(s.statePath, s.changes.Tick, s.log)
	if err != nil {
		return err
	}
	s.watcher = w
	return nil
}
