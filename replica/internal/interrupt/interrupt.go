// Package interrupt ends reads and writes of a connection when a context ends.
package interrupt

import (
	"context"
	"io"
	"time"
)

// Watch makes reads and writes of conn fail once ctx has ended: by
// SetDeadline where conn has one, else by Close where conn has that. A conn
// with neither cannot be interrupted. The caller calls stop when it is done
// with conn; after stop, conn is not touched any more.
func Watch(ctx context.Context, conn any) (stop func()) {
	var end func()
	switch c := conn.(type) {
	case interface{ SetDeadline(time.Time) error }:
		end = func() { _ = c.SetDeadline(time.Unix(1, 0)) }
	case io.Closer:
		end = func() { _ = c.Close() }
	default:
		return func() {}
	}
	done := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(done)
		end()
	})
	return func() {
		if !unregister() {
			<-done
		}
	}
}
