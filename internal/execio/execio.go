// Package execio is what runtimes do with the streams of commands that they run
// inside containers.
package execio

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Patience is how long the output of a command is waited for after its end,
// where something that it started still holds it. Time in which the receiver
// has not taken what there was does not count.
const Patience = 2 * time.Second

// Output hands what a command writes to its receivers.
type Output struct {
	mu      sync.Mutex
	writing atomic.Int32
}

// To returns a writer to w, nil for nowhere. The writers of an Output write one
// after the other, as they may have the same receiver. After an error of w, the
// rest is thrown away: pipes that nobody reads would hold the command up.
func (o *Output) To(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return &receiver{Output: o, w: w}
}

type receiver struct {
	*Output
	w      io.Writer
	failed bool
}

// Write writes.
func (r *receiver) Write(data []byte) (int, error) {
	r.writing.Add(1)
	defer r.writing.Add(-1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.failed {
		_, err := r.w.Write(data)
		r.failed = err != nil
	}
	return len(data), nil
}

// Drain waits, when a command has ended, until all that it wrote is handed over,
// which closes all. It reports false when Patience is over before. Once ctx has
// ended, slow receivers get no more time than that either.
func (o *Output) Drain(ctx context.Context, all <-chan struct{}) bool {
	const tick = Patience / 100
	t := time.NewTicker(tick)
	defer t.Stop()
	for left := Patience; left > 0; {
		select {
		case <-all:
			return true
		case <-t.C:
			if o.writing.Load() == 0 || ctx.Err() != nil {
				left -= tick
			}
		}
	}
	return false
}

// eot is the character that ends the input of a terminal which collects lines,
// its VEOF.
const eot = 4

// Typing is input for a terminal. It types the end of r as the end-of-file
// character: twice where it comes in the midst of a line, which the first one
// only hands over. Then it is silent until ended is closed.
func Typing(r io.Reader, ended <-chan struct{}) io.Reader {
	return &typing{r: r, ended: ended}
}

type typing struct {
	r       io.Reader
	ended   <-chan struct{}
	midline bool
	over    bool   // r is at its end
	rest    []byte // is still to be typed then
}

// Read reads.
func (t *typing) Read(p []byte) (int, error) {
	for !t.over {
		n, err := t.r.Read(p)
		if n > 0 {
			t.midline = p[n-1] != '\n' && p[n-1] != '\r'
		}
		if err != nil {
			t.over, t.rest = true, []byte{eot}
			if t.midline {
				t.rest = []byte{eot, eot}
			}
		}
		if n > 0 {
			return n, nil
		}
	}
	if n := copy(p, t.rest); n > 0 {
		t.rest = t.rest[n:]
		return n, nil
	}
	<-t.ended
	return 0, io.EOF
}
