package watch

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// script is a backend whose errors the test decides. Its events are the errors
// of handling them; nil marks a directory.
type script struct {
	ev    chan error
	dirty func(string)

	mu                 sync.Mutex
	starting, checking error
	starts             []time.Time
	running            bool
}

func (s *script) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts = append(s.starts, time.Now())
	s.running = s.starting == nil
	return s.starting
}

func (s *script) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
}

func (s *script) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checking
}

// fails sets what start and check return.
func (s *script) fails(starting, checking error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starting, s.checking = starting, checking
}

// state returns how often it was started, and whether it runs.
func (s *script) state() (starts int, running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.starts), s.running
}

func (s *script) handle(err error) error {
	if err == nil {
		s.dirty("dir")
	}
	return err
}

func (s *script) events() <-chan error {
	if _, running := s.state(); !running {
		return nil
	}
	return s.ev
}

// looped runs a loop over a script in a bubble.
func looped(t *testing.T, starting error, test func(t *testing.T, s *script, w Watcher)) {
	synctest.Test(t, func(t *testing.T) {
		c := plain()
		out := newCoalescer(c)
		s := &script{starting: starting, ev: make(chan error), dirty: out.dirty}
		w, err := newWatcher(c, out, s, false)
		if err != nil {
			t.Fatal(err)
		}
		// Not at the same moments as the ticks.
		time.Sleep(time.Millisecond)
		test(t, s, w)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, running := s.state(); running {
			t.Error("the backend runs after Close")
		}
	})
}

func wantNext(t *testing.T, w Watcher, want Batch) {
	t.Helper()
	if got := <-w.Changes(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEventsBecomeBatches(t *testing.T) {
	looped(t, nil, func(t *testing.T, s *script, w Watcher) {
		s.ev <- nil
		wantNext(t, w, Batch{Dirs: []string{"dir"}})
		time.Sleep(time.Hour)
		select {
		case b := <-w.Changes():
			t.Errorf("a batch without a change: %+v", b)
		default:
		}
	})
}

// The tree is watched anew after an overflow, and only then is all well: but
// not more often than once a second.
func TestOverflowBeginsAnew(t *testing.T) {
	looped(t, nil, func(t *testing.T, s *script, w Watcher) {
		time.Sleep(10 * time.Second)
		s.ev <- ErrOverflow
		wantNext(t, w, Batch{All: true, Reason: ErrOverflow})
		if n, running := s.state(); n != 2 || !running {
			t.Errorf("started %d times, running %v", n, running)
		}
		for range 5 {
			s.ev <- ErrOverflow
			wantNext(t, w, Batch{All: true, Reason: ErrOverflow})
		}
		if n, _ := s.state(); n != 2 {
			t.Errorf("started %d times within a moment", n)
		}
		s.ev <- nil
		wantNext(t, w, Batch{Dirs: []string{"dir"}})
		// Later, once, and everything again: it changed meanwhile.
		wantNext(t, w, Batch{All: true, Reason: ErrOverflow})
		time.Sleep(time.Hour)
		if n, _ := s.state(); n != 3 {
			t.Errorf("started %d times", n)
		}
	})
}

// While the limit holds, everything is reported in each interval, and attempts
// become rarer.
func TestLimitFallsBackToScans(t *testing.T) {
	limit := &LimitError{Setting: "a.setting", Value: 1, Needed: 2, Err: errors.New("full")}
	looped(t, limit, func(t *testing.T, s *script, w Watcher) {
		begin := time.Now()
		wantNext(t, w, Batch{All: true, Reason: limit})
		wantSince(t, begin, DefaultQuiet-time.Millisecond)
		for range 60 {
			wantNext(t, w, Batch{All: true, Reason: limit})
		}
		if d := time.Since(begin); d < 59*DefaultFallback || d > 61*(DefaultFallback+checkEvery) {
			t.Errorf("60 intervals took %v", d)
		}
		if n, _ := s.state(); n < 5 || n > 8 {
			t.Errorf("%d attempts in 60 intervals", n)
		}
		s.fails(nil, nil)
		for {
			if b := <-w.Changes(); b.Reason == nil {
				break
			}
		}
		s.ev <- nil
		wantNext(t, w, Batch{Dirs: []string{"dir"}})
		time.Sleep(time.Hour)
		select {
		case b := <-w.Changes():
			t.Errorf("still reported after the recovery: %+v", b)
		default:
		}
	})
}

func TestLimitWhileWatching(t *testing.T) {
	looped(t, nil, func(t *testing.T, s *script, w Watcher) {
		failed := errors.New("failed")
		s.fails(failed, nil)
		s.ev <- failed
		wantNext(t, w, Batch{All: true, Reason: failed})
		synctest.Wait()
		if _, running := s.state(); running {
			t.Error("the backend holds watches that do not suffice")
		}
		s.fails(nil, nil)
		begin := time.Now()
		for b := range w.Changes() {
			if b.Reason == nil {
				break
			}
		}
		if d := time.Since(begin); d > 2*DefaultFallback {
			t.Errorf("recovered after %v", d)
		}
	})
}

func TestRootComesBack(t *testing.T) {
	gone := fmt.Errorf("%w: moved", ErrRootGone)
	looped(t, nil, func(t *testing.T, s *script, w Watcher) {
		s.fails(gone, gone)
		begin := time.Now()
		wantNext(t, w, Batch{All: true, Reason: gone})
		if d := time.Since(begin); d > checkEvery+DefaultQuiet {
			t.Errorf("noticed after %v", d)
		}
		// Repeated, in case it was lost on whoever receives.
		wantNext(t, w, Batch{All: true, Reason: gone})
		s.fails(nil, nil)
		begin = time.Now()
		wantNext(t, w, Batch{All: true})
		if d := time.Since(begin); d > checkEvery+DefaultQuiet {
			t.Errorf("found again after %v", d)
		}
		if _, running := s.state(); !running {
			t.Error("not watched")
		}
	})
}

func TestNoRootAtFirst(t *testing.T) {
	c := plain()
	if _, err := newWatcher(c, newCoalescer(c), &script{starting: ErrRootGone}, false); !errors.Is(err, ErrRootGone) {
		t.Errorf("got %v", err)
	}
}

func TestUnreliableReportsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := plain()
		out := newCoalescer(c)
		w, err := newWatcher(c, out, &script{ev: make(chan error)}, true)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for range 10 {
			wantNext(t, w, Batch{All: true})
		}
		if d := time.Since(begin); d < 10*DefaultFallback || d > 11*DefaultFallback {
			t.Errorf("10 intervals took %v", d)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
