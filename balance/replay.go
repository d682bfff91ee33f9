package balance

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// replayMax is how much of a request body is kept for another attempt.
const replayMax = 64 << 10

// replayBody is a request body that can be read again from the beginning for as
// long as not more than replayMax bytes of it have been read.
//
// Attempts follow each other, but http.Transport may still be reading for one
// that has failed. What such a late read brings is kept for the next.
type replayBody struct {
	src      io.Reader
	deadline func(time.Time) error // of reads from the client
	stall    time.Duration         // of a read from the client, 0 is no bound
	trailers bool
	fields   http.Header // those trailers, once the body has ended
	stream   *guard      // behind deadline where the body is that of a stream

	reading sync.Mutex // held while src is read

	mu      sync.Mutex
	kept    []byte
	lost    bool  // more was read than is kept
	settled bool  // no further attempt will be made, nothing needs keeping
	over    bool  // the client's connection serves another request by now
	err     error // with which src ended
	got     int64 // bytes read from it
	ended   time.Time
	reader  *attemptBody
}

var errBodyGone = errors.New("the request body cannot be read again")

func newReplayBody(out *http.Request, rc *http.ResponseController, stall time.Duration) *replayBody {
	b := &replayBody{src: out.Body, deadline: rc.SetReadDeadline, stall: stall, trailers: len(out.Trailer) > 0, fields: out.Trailer}
	if out.ProtoMajor == 2 {
		b.stream = &guard{cut: func() { rc.SetReadDeadline(longAgo) }}
		b.deadline = b.stream.deadline
	}
	return b
}

// attempt returns the body from its beginning, for one attempt.
func (b *replayBody) attempt() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reader = &attemptBody{b: b}
	return b.reader
}

// rewind ends the attempt under way and reports whether another is possible.
func (b *replayBody) rewind() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reader != nil {
		b.reader.detached = true
		b.reader = nil
	}
	// Trailers are written into a map that the next attempt would read.
	return !b.lost && (b.err == nil || b.err == io.EOF) && !(b.trailers && len(b.kept) > 0)
}

// settle says that no further attempt will be made.
func (b *replayBody) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled = true
}

// end says that the handler is about to return: the client's connection is no
// longer this body's. http.Server then reads some of what is left, and must not
// wait long: the connection is closed in any case.
func (b *replayBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	if b.stream != nil {
		b.stream.disarm() // http.Server reads no further
		return
	}
	if b.err == nil {
		b.deadline(time.Now().Add(min(b.stall, lingerMax)))
	}
}

// complete reports whether the client's body was read to its end.
func (b *replayBody) complete() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err == io.EOF
}

// received returns how many bytes of it the client has sent.
func (b *replayBody) received() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.got
}

// endedAt returns when the client's body was read to its end, zero before.
func (b *replayBody) endedAt() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// limit sets the deadline of the next read from the client.
func (b *replayBody) limit(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over {
		b.deadline(t)
	}
}

// clientErr returns the error with which the client's body broke off.
func (b *replayBody) clientErr() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == io.EOF {
		return nil
	}
	return b.err
}

// attemptBody is one pass over a replayBody.
type attemptBody struct {
	b        *replayBody
	pos      int
	detached bool // guarded by b.mu
}

func (a *attemptBody) Read(p []byte) (int, error) {
	if n, ok, err := a.fromKept(p); ok {
		return n, err
	}
	a.b.reading.Lock()
	defer a.b.reading.Unlock()
	// A late read of an earlier attempt may have brought something.
	if n, ok, err := a.fromKept(p); ok {
		return n, err
	}
	b := a.b
	if b.stall > 0 {
		b.limit(time.Now().Add(b.stall))
	}
	n, err := b.src.Read(p)
	if b.stall > 0 && (err == nil || err == io.EOF) {
		// What is read in the background from here on is the wait for the
		// client's leaving, which has no limit.
		b.limit(time.Time{})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keep(a, p[:n])
	b.got += int64(n)
	a.pos += n
	if err != nil {
		b.err, b.ended = err, time.Now()
		dropMisplaced(b.fields)
	}
	return n, err
}

// fromKept serves a read without the client, if that is possible.
func (a *attemptBody) fromKept(p []byte) (n int, ok bool, err error) {
	b := a.b
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case a.detached:
		return 0, true, errBodyGone
	case a.pos < len(b.kept):
		n = copy(p, b.kept[a.pos:])
		a.pos += n
		return n, true, nil
	case b.err != nil:
		return 0, true, b.err
	}
	return 0, false, nil
}

// keep stores what a read brought. What a detached attempt reads belongs to the
// next one and is kept whatever its size.
func (b *replayBody) keep(a *attemptBody, p []byte) {
	switch {
	case b.settled && !a.detached, b.lost:
	case !a.detached && len(b.kept)+len(p) > replayMax:
		b.lost, b.kept = true, nil
	default:
		b.kept = append(b.kept, p...)
		return
	}
	if len(p) > 0 {
		b.lost = true
	}
}

// Close ends the pass. The body itself belongs to http.Server.
func (a *attemptBody) Close() error { return nil }
