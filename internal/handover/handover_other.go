//go:build !linux

package handover

import (
	"context"
	"errors"
)

// Offered is what another process gives.
type Offered struct{ Busy bool }

// Release is not supported.
func (o *Offered) Release(string) ([]Socket, error) { return nil, errors.ErrUnsupported }

// Serve is not supported.
func (o *Offered) Serve() error { return errors.ErrUnsupported }

// Close does nothing.
func (o *Offered) Close() error { return nil }

// Serve is not supported.
func Serve(string, Giver) (func(), error) { return nil, errors.ErrUnsupported }

// Ask is not supported.
func Ask(context.Context, string, string) (*Offered, error) { return nil, errors.ErrUnsupported }

// Upgrade is not supported.
func Upgrade(context.Context, string, int, func(int, string, error)) error {
	return errors.ErrUnsupported
}
