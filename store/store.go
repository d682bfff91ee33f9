// Package store is the vocabulary of stores: where desired and observed state
// of containers meet. A store holds one record per container. The
// implementations are in the packages below.
package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/budgiehq/budgie/lifecycle"
)

// Errors that every store returns, wrapped with the operation and its subject.
var (
	// ErrNotFound: there is no record with this id.
	ErrNotFound = errors.New("no such container")
	// ErrExists: the id or the name of a new record is taken. errors.As finds
	// an *ExistsError that says by which record.
	ErrExists = errors.New("container exists already")
	// ErrConflict: the record was written by somebody else since it was read.
	// Read it again and decide again.
	ErrConflict = errors.New("container was changed meanwhile")
	// ErrOwned: another live process holds this owner name.
	ErrOwned = errors.New("owner name is held by another process")
	// ErrCorrupt: the stored state cannot be read. Nothing is overwritten; the
	// text says where it is and what to do.
	ErrCorrupt = errors.New("stored state cannot be read")
	// ErrVersion: the stored state was written by a newer version of Budgie.
	ErrVersion = errors.New("stored state is from a newer version")
	// ErrInvalid: the record or the owner name cannot be stored. The text says
	// what is wrong with it.
	ErrInvalid = errors.New("cannot be stored")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("store is closed")
)

// ExistsError says which record holds a name or an id. It is an ErrExists.
type ExistsError struct {
	// Name and ID are those of the record in the way.
	Name, ID string
}

// Error implements error.
func (e *ExistsError) Error() string {
	return fmt.Sprintf("name %q is taken by container %.12s", e.Name, e.ID)
}

// Is makes errors.Is(e, ErrExists) true.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// Records is the part of a store that Modify needs.
type Records interface {
	Get(ctx context.Context, id string) (lifecycle.Container, error)
	Put(ctx context.Context, c lifecycle.Container) (lifecycle.Container, error)
}

// Modify reads the record of id, lets change edit it, and writes it back,
// again from the start whenever somebody else wrote it in between. An error of
// change is returned as it is, and nothing is written; if change returns
// ErrUnchanged, nothing is written and Modify returns the record as read.
func Modify(ctx context.Context, s Records, id string, change func(*lifecycle.Container) error) (lifecycle.Container, error) {
	for {
		c, err := s.Get(ctx, id)
		if err != nil {
			return lifecycle.Container{}, err
		}
		next := c.Clone()
		if err := change(&next); errors.Is(err, ErrUnchanged) {
			return c, nil
		} else if err != nil {
			return lifecycle.Container{}, err
		}
		next, err = s.Put(ctx, next)
		if errors.Is(err, ErrConflict) {
			continue
		}
		return next, err
	}
}

// ErrUnchanged is for the change function of [Modify]: there is nothing to
// write.
var ErrUnchanged = errors.New("unchanged")
