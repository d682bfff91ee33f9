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
	"time"

	"github.com/budgiehq/budgie/replica/internal/delta"
	"github.com/budgiehq/budgie/replica/internal/interrupt"
)

// Copier makes verified one-shot copies of volumes; the package comment says
// what it carries. Create it with [New]. All methods may be called
// concurrently; Receives of one Copier into the same directory wait for each
// other.
type Copier struct {
	log       *slog.Logger
	scanEvery time.Duration
	maxLoss   float64
	remember  bool
	keepAge   time.Duration
	keepSize  int64
	// sourcesDir is where sources are remembered, "" where they are not.
	sourcesDir string
	// silence is how long a source that has nothing to send may say nothing.
	silence time.Duration
	// highest is the highest version of the protocol to speak: an older one, in tests.
	highest uint16
	// sending and receiving are limits of all connections; nil where there is none.
	sending, receiving *limiter
	// openRoot opens the directory of a copy: another file system, in tests.
	openRoot func(dir string) (tree, error)

	mu      sync.Mutex
	busy    map[string]chan struct{} // per directory, closed by the Receive that ends
	sources map[string]*source       // per directory that is sent
	lists   *delta.Memory            // of what was sent
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
	s := &sender{wire: c.wire(conn, limit(ctx, conn, c.sending, nil)), log: c.log.With("send", dir)}
	report, err := guarded(ctx, conn, s.wire, func(ctx context.Context) (Report, error) {
		src, release, err := c.acquire(dir)
		if err != nil {
			return Report{}, err
		}
		defer release()
		s.src = src
		return s.run(ctx)
	})
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
func (c *Copier) Receive(ctx context.Context, conn io.ReadWriter, dir string, opts ReceiveOptions) (Report, error) {
	r := c.receiver(ctx, conn, dir)
	r.full = opts.Full
	if opts.Tell != nil {
		r.progress = &progress{tell: opts.Tell}
	}
	report, err := c.receive(ctx, conn, r)
	if err != nil {
		return Report{}, fmt.Errorf("receiving volume %s: %w", dir, err)
	}
	return report, nil
}

// Follow makes the directory dir equal to the sender's, as [Copier.Receive] does,
// and then takes over every change at the source, until ctx or conn ends. It
// returns why it ended, never nil: the caller connects and calls it again.
//
// A source that is gone, or has become so that much of the copy would be lost
// (see [WithMaxLoss]), suspends it: the copy stays as it is, and
// [FollowOptions].Accepted can say that it may go on. What something else changes
// in the copy is set aside and reported, and the source's put in its place; with
// [Remember] that holds for changes between two Follows, too.
func (c *Copier) Follow(ctx context.Context, conn io.ReadWriter, dir string, opts FollowOptions) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := c.receiver(ctx, conn, dir)
	r.following = &following{FollowOptions: opts, maxLoss: c.maxLoss, scans: fullScans{every: c.scanEvery}, state: FollowState{Phase: Starting}}
	r.following.silence = c.silence
	r.progress = &progress{tell: r.following.progress}
	r.interrupt = func() { cancel(fmt.Errorf("%w: the source said nothing for %s", ErrSilent, c.silence)) }
	_, err := c.receive(ctx, conn, r)
	if err == nil {
		err = errors.New("the source is through") // a sender never is
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	return fmt.Errorf("following volume %s: %w", dir, err)
}

func (c *Copier) receiver(ctx context.Context, conn io.ReadWriter, dir string) *receiver {
	r := &receiver{wire: c.wire(conn, limit(ctx, conn, nil, c.receiving)), dir: dir, openRoot: c.openRoot, log: c.log.With("receive", dir), ours: make(map[digest]bool)}
	if c.remember {
		r.side = &beside{dir: filepath.Clean(dir), age: c.keepAge, size: c.keepSize}
	}
	return r
}

// wire returns a wire over a connection, by way of one with limits.
func (c *Copier) wire(conn, limited io.ReadWriter) *wire {
	w := newWire(limited)
	w.bare = conn
	w.highest = c.highest
	return w
}

// receive runs a receiver, one at a time for each directory.
func (c *Copier) receive(ctx context.Context, conn io.ReadWriter, r *receiver) (Report, error) {
	return guarded(ctx, conn, r.wire, func(ctx context.Context) (Report, error) {
		release, err := c.claim(ctx, r.dir)
		if err != nil {
			return Report{}, err
		}
		defer release()
		r.progress.begin(Progress{Step: Waiting})
		return r.run(ctx)
	})
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
