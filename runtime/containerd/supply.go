//go:build linux

package containerd

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/budgiehq/budgie/runtime"
)

// mostFailures is how often a source may fail during one Fetch, however much it
// brought between.
const mostFailures = 16

// mostBehind is how often a source may be overtaken by others, if it brought
// anything at all.
const mostBehind = 2

var errLied = errors.New("it sent something else")

// supply is a source as one Fetch sees it.
type supply struct {
	runtime.BlobSource

	mu sync.Mutex
	// lacks are the blobs that it does not have, or sent wrongly, and why.
	lacks map[string]error
	// down is why it is not asked for now, nil if it is; lied that it is not
	// asked any more.
	down error
	lied bool
	// failures counts all, idle those in a row that brought nothing.
	failures, idle int
	// behind is how often another source took something over.
	behind int
	// bytes came in the time busy.
	bytes int64
	busy  time.Duration
	// streams are open.
	streams int
}

func newSupplies(from []runtime.BlobSource) []*supply {
	all := make([]*supply, len(from))
	for i, s := range from {
		all[i] = &supply{BlobSource: s, lacks: map[string]error{}}
	}
	return all
}

// usable reports whether there is hope that the source has a blob.
func (s *supply) usable(digest string) bool { return s.why(digest) == nil }

// why returns why it is of no use for a blob, nil if it is.
func (s *supply) why(digest string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.down
	if err == nil {
		err = s.lacks[digest]
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", s.Name(), err)
}

// delivered takes note of how a transfer of n bytes ended, and reports whether
// to go on with the source.
func (s *supply) delivered(digest string, n int64, d time.Duration, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += n
	s.busy += d
	switch {
	case err == nil:
		s.idle = 0
		return true
	case errors.Is(err, runtime.ErrNoBlob):
		s.lacks[digest] = err
		return false
	}
	s.failures++
	if n > 0 {
		s.idle = 0
	}
	// The first failure after it had brought something may be a cut that a new
	// connection mends. One that cannot be opened is left alone.
	if s.idle++; n == 0 || s.idle > 1 || s.failures > mostFailures {
		s.down = err
		return false
	}
	return true
}

// overtaken takes note that a transfer was given to another source because this
// one was so slow, and reports whether it is aside from now on.
func (s *supply) overtaken(n int64, d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += n
	s.busy += d
	if s.behind++; n == 0 {
		s.behind = mostBehind
	}
	return s.behind >= mostBehind
}

// aside reports whether the source holds up the others, and is to be asked only
// when they fail.
func (s *supply) aside() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behind >= mostBehind
}

// speed returns what the source brings in bytes per second, zero as long as that
// is unknown: small transfers do not tell.
func (s *supply) speed() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy <= 0 || s.bytes < pieceSize {
		return 0
	}
	return float64(s.bytes) / s.busy.Seconds()
}

// load returns how many blobs are being read from the source.
func (s *supply) load() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams
}

// enlist counts a blob that is read from the source, and leave one that is not
// any more.
func (s *supply) enlist() { s.count(1) }
func (s *supply) leave()  { s.count(-1) }

func (s *supply) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams += n
}

// ban sees to it that a source that sent wrong bytes is not asked again.
func (s *supply) ban() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down, s.lied = errLied, true
}

// pardon has the source tried again after a while, and reports whether it is
// worth that.
func (s *supply) pardon() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lied || s.failures > mostFailures {
		return false
	}
	s.down, s.idle, s.behind = nil, 0, 0
	return true
}

func (s *supply) ranged() bool {
	_, ok := s.BlobSource.(runtime.RangeSource)
	return ok
}
