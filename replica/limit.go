package replica

import (
	"context"
	"io"
	"sync"
	"time"
)

// MinRate is the least that [WithRateLimit] takes, in bytes per second: with less, a
// side could not tell one that is slow from one that is gone.
const MinRate = 64 << 10

// WithRateLimit bounds what all Sends of the Copier together send, and what all its
// Receives and Follows together receive, to so many bytes per second each, counted as
// they travel, that is compressed. Less than [MinRate] counts as that, and 0, the
// default, as no limit.
func WithRateLimit(bytesPerSecond int64) Option {
	return func(c *Copier) {
		c.sending, c.receiving = nil, nil
		if bytesPerSecond > 0 {
			rate := max(bytesPerSecond, MinRate)
			c.sending, c.receiving = &limiter{rate: rate}, &limiter{rate: rate}
		}
	}
}

const (
	// limitBurst is what of a rate nobody used may be used later: that of so long.
	limitBurst = 100 * time.Millisecond
	// limitPiece is how many bytes pass at a time at most, so that several
	// connections share a rate evenly.
	limitPiece = 16 << 10
)

// limiter is a token bucket. It may be used concurrently; a nil one limits nothing.
type limiter struct {
	rate int64 // bytes per second

	mu sync.Mutex
	// free is when all that was let pass has had its time.
	free time.Time
}

// take waits until n bytes may pass, in the order of the calls.
func (l *limiter) take(ctx context.Context, n int) error {
	l.mu.Lock()
	now := time.Now()
	if earliest := now.Add(-limitBurst); l.free.Before(earliest) {
		l.free = earliest
	}
	l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
	wait := l.free.Sub(now)
	l.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	pause(ctx, wait)
	return ctx.Err()
}

// limited is a connection of which one direction is limited.
type limited struct {
	io.ReadWriter
	ctx                context.Context
	sending, receiving *limiter
}

// limit returns a connection that goes no faster than the limiters say. Waiting ends
// with ctx.
func limit(ctx context.Context, conn io.ReadWriter, sending, receiving *limiter) io.ReadWriter {
	if sending == nil && receiving == nil {
		return conn
	}
	return &limited{conn, ctx, sending, receiving}
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	if l.sending == nil {
		return l.ReadWriter.Write(p)
	}
	written := 0
	for written < len(p) {
		piece := p[written:min(len(p), written+limitPiece)]
		if err := l.sending.take(l.ctx, len(piece)); err != nil {
			return written, err
		}
		n, err := l.ReadWriter.Write(piece)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// Read implements io.Reader. What was read is paid for afterwards: until then the
// other side has to wait.
func (l *limited) Read(p []byte) (int, error) {
	if l.receiving == nil {
		return l.ReadWriter.Read(p)
	}
	n, err := l.ReadWriter.Read(p[:min(len(p), limitPiece)])
	if n > 0 && err == nil {
		err = l.receiving.take(l.ctx, n)
	}
	return n, err
}
