package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/budgiehq/budgie/replica/internal/interrupt"
)

// Copier makes verified one-shot copies of volumes; the package comment says
// what it carries. Create it with [New]. All methods may be called
// concurrently; Receives of one Copier into the same directory wait for each
// other.
type Copier struct {
	log *slog.Logger

	mu   sync.Mutex
	busy map[string]chan struct{} // per directory, closed by the Receive that ends
}

// Option changes how a Copier works.
type Option func(*Copier)

// WithLogger makes the Copier say what it does, at debug level. Without it the
// Copier is silent.
func WithLogger(log *slog.Logger) Option {
	return func(c *Copier) {
		if log != nil {
			c.log = log
		}
	}
}

// New returns a Copier.
func New(opts ...Option) *Copier {
	c := &Copier{log: slog.New(slog.DiscardHandler), busy: make(map[string]chan struct{})}
	for _, opt := range opts {
		opt(c)
	}
	return c
}

// Send serves the directory dir to the Receive at the other end of conn and
// returns when that has verified its copy. It never changes dir. A source that
// changes while it is read is sent again, a few times; then Send returns
// ErrChanged. An error of the receiver comes back as the same sentinel where
// it has one.
//
// No byte beyond the protocol's own is read from conn: after a success, conn
// can serve for another copy. After an error it cannot, and the caller closes
// it, which ends the other side. The end of ctx interrupts conn by its
// SetDeadline or else its Close method, and Send returns ctx's error; a conn
// with neither method cannot be interrupted.
func (c *Copier) Send(ctx context.Context, conn io.ReadWriter, dir string) (Report, error) {
	s := &sender{wire: newWire(conn), dir: dir, log: c.log.With("send", dir)}
	report, err := guarded(ctx, conn, s.wire, s.run)
	if err != nil {
		return Report{}, fmt.Errorf("sending volume %s: %w", dir, err)
	}
	return report, nil
}

// Receive makes the directory dir, which it creates if needed, equal to the
// sender's and verifies it. It returns ErrProtocol for a sender that breaks
// the protocol, ErrVersion for one that speaks another version of it,
// ErrVerify where what arrived is not what was announced, and ErrChanged where
// the source does not hold still. Whatever the error, each file then is as it
// was or as the sender has it, and the next Receive goes on from there.
//
// conn and ctx are as for Send.
func (c *Copier) Receive(ctx context.Context, conn io.ReadWriter, dir string) (Report, error) {
	r := &receiver{wire: newWire(conn), dir: dir, log: c.log.With("receive", dir)}
	report, err := guarded(ctx, conn, r.wire, func(ctx context.Context) (Report, error) {
		release, err := c.claim(ctx, dir)
		if err != nil {
			return Report{}, err
		}
		defer release()
		return r.run(ctx)
	})
	if err != nil {
		return Report{}, fmt.Errorf("receiving volume %s: %w", dir, err)
	}
	return report, nil
}

// claim waits until no other Receive of this Copier works in dir.
func (c *Copier) claim(ctx context.Context, dir string) (release func(), err error) {
	key, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for {
		c.mu.Lock()
		other, taken := c.busy[key]
		if !taken {
			mine := make(chan struct{})
			c.busy[key] = mine
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				delete(c.busy, key)
				close(mine)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// guarded runs one side of a copy. The end of ctx interrupts conn; an error
// that this side may still report to the other is reported.
func guarded(ctx context.Context, conn io.ReadWriter, w *wire, run func(context.Context) (Report, error)) (Report, error) {
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" {
		return Report{}, fmt.Errorf("volumes need Unix file modes, which %s does not have: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	stop := interrupt.Watch(ctx, conn)
	defer stop()
	report, err := run(ctx)
	if err == nil {
		return report, nil
	}
	if cause := ctx.Err(); cause != nil {
		// The connection's own error is then but a consequence.
		return Report{}, cause
	}
	w.reportError(err)
	return Report{}, err
}
