package file

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/internal/lockfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// hold makes writes stop before their rename. reached gets a value for each
// that has stopped; a value sent to release lets it go on.
func hold(d *faultDisk) (reached, release chan struct{}) {
	reached, release = make(chan struct{}), make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onRename = func() {
		reached <- struct{}{}
		<-release
	}
	return reached, release
}

// queued waits until n operations wait for their turn.
func queued(s *Store, n int) {
	for {
		s.commits.mu.Lock()
		waiting := len(s.commits.queue)
		s.commits.mu.Unlock()
		if waiting == n {
			return
		}
		runtime.Gosched()
	}
}

// putLater puts concurrently and returns where the error will come.
func putLater(ctx context.Context, s *Store, c lifecycle.Container) <-chan error {
	outcome := make(chan error, 1)
	go func() {
		_, err := s.Put(ctx, c)
		outcome <- err
	}()
	return outcome
}

func record(n int) lifecycle.Container {
	return lifecycle.Container{ID: fmt.Sprintf("%064x", n), Name: fmt.Sprint("web-", n)}
}

// Operations that come while one is being written are written together.
func TestGroupCommit(t *testing.T) {
	s, d, _ := openFaulty(t)
	d.fail("", nil)
	reached, release := hold(d)
	first := putLater(t.Context(), s, record(0))
	<-reached
	const others = 100
	var outcomes []<-chan error
	for n := range others {
		outcomes = append(outcomes, putLater(t.Context(), s, record(n+1)))
	}
	queued(s, others)
	release <- struct{}{}
	<-reached
	release <- struct{}{}
	for _, outcome := range append(outcomes, first) {
		if err := <-outcome; err != nil {
			t.Error(err)
		}
	}
	renames := 0
	for _, step := range d.took() {
		if step == "rename" {
			renames++
		}
	}
	if renames != 2 {
		t.Errorf("%d operations took %d writes, want 2", others+1, renames)
	}
}

// Each operation of a group has its own result; but where the write fails,
// nobody is told of a conflict with something that was not written.
func TestResultsInAGroup(t *testing.T) {
	for _, fault := range []error{nil, errInjected} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			s, d, c := openFaulty(t)
			reached, release := hold(d)
			first := putLater(t.Context(), s, record(0))
			<-reached
			stale, next := c, c
			stale.Revision = 99
			puts := []lifecycle.Container{stale, next, next} // the third conflicts with the second
			var outcomes []<-chan error
			for n, p := range puts {
				outcomes = append(outcomes, putLater(t.Context(), s, p))
				queued(s, n+1)
			}
			release <- struct{}{}
			if err := <-first; err != nil {
				t.Error(err)
			}
			d.fail("rename", fault)
			<-reached
			release <- struct{}{}
			want := []error{store.ErrConflict, fault, store.ErrConflict}
			if fault != nil {
				want[2] = fault
			}
			for n, outcome := range outcomes {
				if err := <-outcome; !errors.Is(err, want[n]) || want[n] == nil && err != nil {
					t.Errorf("operation %d: want %v, got %v", n+1, want[n], err)
				}
			}
		})
	}
}

// An operation whose turn has come is reported as it ends, whatever becomes of
// its context.
func TestCommittedIsReported(t *testing.T) {
	s, d, c := openFaulty(t)
	reached, release := hold(d)
	ctx, cancel := context.WithCancel(t.Context())
	c.Reason = "after"
	outcome := putLater(ctx, s, c)
	<-reached
	cancel()
	release <- struct{}{}
	if err := <-outcome; err != nil {
		t.Errorf("Put with a context that ended after the commit had begun: %v", err)
	}
	c.Revision++
	wantState(t, s, c)
}

// lockElsewhere takes the lock of the state as another process would.
func lockElsewhere(t *testing.T, s *Store) (unlock func()) {
	t.Helper()
	l, ok, err := lockfile.Try(s.lockPath)
	if err != nil || !ok {
		t.Fatalf("lock: %v, %v", ok, err)
	}
	return func() {
		if err := l.Unlock(); err != nil {
			t.Error(err)
		}
	}
}

// An operation that waits for another process ends with its context, and is
// not done later.
func TestContextEndsTheWaitForTheLock(t *testing.T) {
	s, _, c := openFaulty(t)
	unlock := lockElsewhere(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	ended := putLater(ctx, s, c)
	queued(s, 1)
	waiting := putLater(t.Context(), s, record(1))
	queued(s, 2)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), s.lockPath) {
		t.Errorf("Put: want the context's error and the lock's path, got %v", err)
	}
	// Reading needs no lock.
	wantReason(t, s, c.ID, "before")
	unlock()
	if err := <-waiting; err != nil {
		t.Errorf("Put that went on waiting: %v", err)
	}
	wantState(t, s, c)
}

func wantReason(t *testing.T, s *Store, id, want string) {
	t.Helper()
	if c, err := s.Get(t.Context(), id); err != nil || c.Reason != want {
		t.Errorf("Get: want reason %q, got %q, %v", want, c.Reason, err)
	}
}

// With nobody left to wait, the wait itself ends: nothing keeps trying.
func TestNobodyWaitsForTheLock(t *testing.T) {
	s, _, c := openFaulty(t)
	unlock := lockElsewhere(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	ended := putLater(ctx, s, c)
	queued(s, 1)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v", err)
	}
	s.commits.wg.Wait() // while the lock is still held
	unlock()
}

func TestCloseEndsTheWaitForTheLock(t *testing.T) {
	s, _, c := openFaulty(t)
	unlock := lockElsewhere(t, s)
	outcome := putLater(t.Context(), s, c)
	queued(s, 1)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-outcome; !errors.Is(err, store.ErrClosed) {
		t.Errorf("Put: want %v, got %v", store.ErrClosed, err)
	}
	unlock()
}

// Writers of two values in one process exclude each other, as those of two
// processes do.
func TestLockExcludesWithinAProcess(t *testing.T) {
	s, d, c := openFaulty(t)
	reached, release := hold(d)
	first := putLater(t.Context(), s, c)
	<-reached
	if _, ok, err := lockfile.Try(s.lockPath); ok || err != nil {
		t.Errorf("the lock can be taken during a write: %v, %v", ok, err)
	}
	release <- struct{}{}
	if err := <-first; err != nil {
		t.Error(err)
	}
	if steps := d.took(); !slices.Contains(steps, "rename") {
		t.Errorf("nothing was written: %q", steps)
	}
}
