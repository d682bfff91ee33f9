// Package stall gives up on transfers that do not get on: a server that
// accepts and never answers, or sends a few bytes now and then, otherwise holds
// whoever waits for it for hours.
package stall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// ErrStalled: a transfer was given up because too little of it arrived.
var ErrStalled = errors.New("the transfer stalled")

// Guard says how slow a transfer may be.
type Guard struct {
	// Window is how long a server may take to begin its answer, and the time in
	// which MinBytes of the answer must arrive. Only the time counts in which
	// the receiver waits. Zero means that nothing is given up.
	Window time.Duration
	// MinBytes is the least that a Window must bring, as long as there is more
	// to come. At least one byte must arrive.
	MinBytes int64
}

// Transport returns a RoundTripper that sends requests by base and holds their
// answers to the guard. Where one is given up, the request or the Read of its
// body fails with an error that is ErrStalled. read, which may be nil, is told
// how much of a request's body was read; it is called concurrently.
func (g Guard) Transport(base http.RoundTripper, read func(req *http.Request, n int)) http.RoundTripper {
	g.MinBytes = max(g.MinBytes, 1)
	return &transport{guard: g, base: base, read: read}
}

// Open calls open and holds what it returns to the guard, as Transport does with
// answers. from names the sender, for people.
func (g Guard) Open(ctx context.Context, from string, open func(context.Context) (io.ReadCloser, error)) (io.ReadCloser, error) {
	g.MinBytes = max(g.MinBytes, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{guard: g, host: from, cancel: cancel}
	w.begin()
	r, err := open(ctx)
	w.end(0)
	if err != nil {
		defer cancel(nil)
		return nil, w.explain(ctx, err)
	}
	w.reset()
	return &body{ReadCloser: r, watch: w, ctx: ctx, read: func(int) {}}, nil
}

type transport struct {
	guard Guard
	base  http.RoundTripper
	read  func(*http.Request, int)
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{guard: t.guard, host: req.URL.Host, cancel: cancel}
	w.begin()
	resp, err := t.base.RoundTrip(req.WithContext(ctx))
	w.end(0)
	if err != nil {
		defer cancel(nil)
		return nil, w.explain(ctx, err)
	}
	w.reset()
	resp.Body = &body{ReadCloser: resp.Body, watch: w, ctx: ctx, read: func(n int) {
		if t.read != nil {
			t.read(req, n)
		}
	}}
	return resp, nil
}

// watch measures one answer.
type watch struct {
	guard  Guard
	host   string
	cancel context.CancelCauseFunc

	mu sync.Mutex
	// timer ends the window of the wait under way.
	timer *time.Timer
	// waiting is since when somebody waits, zero while nobody does.
	waiting time.Time
	// waited and bytes are what the window has seen.
	waited time.Duration
	bytes  int64
}

// begin starts to wait for the server.
func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = time.Now()
	w.arm()
}

func (w *watch) arm() {
	if w.guard.Window > 0 {
		w.timer = time.AfterFunc(w.guard.Window-w.waited, w.expired)
	}
}

// end ends a wait that brought n bytes.
func (w *watch) end(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.waited += time.Since(w.waiting)
	w.waiting = time.Time{}
	w.bytes += int64(n)
	w.judge()
}

// expired is called when the wait under way has used up the window.
func (w *watch) expired() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting.IsZero() {
		return // it ended just now
	}
	now := time.Now()
	w.waited += now.Sub(w.waiting)
	w.waiting = now
	if w.judge() {
		w.arm()
	}
}

// judge gives the transfer up, and reports false, if the window is over and
// brought too little.
func (w *watch) judge() bool {
	switch {
	case w.guard.Window <= 0 || w.waited < w.guard.Window:
	case w.bytes >= w.guard.MinBytes:
		w.waited, w.bytes = 0, 0
	default:
		w.cancel(fmt.Errorf("%w: %s sent %d bytes in %s", ErrStalled, w.host, w.bytes, w.guard.Window))
		return false
	}
	return true
}

// reset begins the first window of the body.
func (w *watch) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waited, w.bytes = 0, 0
}

// explain returns the reason behind an error that the watch caused.
func (w *watch) explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrStalled) && err != io.EOF {
		return cause
	}
	return err
}

// body is the body of an answer.
type body struct {
	io.ReadCloser
	watch *watch
	ctx   context.Context
	read  func(int)
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.watch.begin()
	n, err := b.ReadCloser.Read(p)
	b.watch.end(n)
	if n > 0 {
		b.read(n)
	}
	if err != nil {
		err = b.watch.explain(b.ctx, err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.watch.cancel(nil)
	return err
}
