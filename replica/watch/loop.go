package watch

import (
	"context"
	"errors"
	"sync"
	"time"
)

// maxRetry is how many fallback intervals lie at most between two attempts to
// watch a tree that could not be watched: each walks the whole of it.
const maxRetry = 16

// backend is what an implementation adds to a loop, which alone calls it.
type backend[E any] interface {
	// start watches the tree from now on, and nothing of before. After an error
	// nothing is watched.
	start() error
	// stop ends what start began, its goroutines too.
	stop()
	// check returns an error if the tree is not watched any more.
	check() error
	// events returns where events come from at present.
	events() <-chan E
	// handle marks what an event makes dirty. After an error the tree may not be
	// watched as a whole.
	handle(E) error
}

// loop keeps a tree watched, and says "everything" where it could not be.
type loop[E any] struct {
	b               backend[E]
	out             *coalescer
	check, fallback time.Duration
	// unreliable adds a report of everything in each fallback interval.
	unreliable bool

	// cause is why the tree is not watched; nil while it is.
	cause error
	// began is when start was last called.
	began time.Time
	// nextAll and nextTry are when to report everything, and to start, again.
	nextAll, nextTry time.Time
	retry            time.Duration
}

// watcher is the Watcher of every implementation.
type watcher struct {
	out    *coalescer
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// newWatcher starts the backend, and fails if it finds no directory. Any other
// obstacle is reported by batches.
func newWatcher[E any](c config, out *coalescer, b backend[E], unreliable bool) (Watcher, error) {
	l := &loop[E]{b: b, out: out, check: c.check, fallback: c.fallback, unreliable: unreliable, began: time.Now()}
	l.nextAll = l.began.Add(l.fallback)
	if err := b.start(); errors.Is(err, ErrRootGone) {
		return nil, err
	} else if err != nil {
		l.fail(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{out: out, cancel: cancel}
	w.wg.Go(func() { out.run(ctx) })
	w.wg.Go(func() { l.run(ctx) })
	return w, nil
}

func (w *watcher) Changes() <-chan Batch { return w.out.out }

func (w *watcher) Close() error {
	w.cancel()
	w.wg.Wait()
	return nil
}

func (l *loop[E]) run(ctx context.Context) {
	defer l.b.stop()
	// Never slower than what has to be done each time.
	tick := time.NewTicker(min(l.check, l.fallback))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-l.b.events():
			if err := l.b.handle(e); err != nil {
				l.fail(err)
			}
		case <-tick.C:
			l.tick()
		}
	}
}

// fail reports everything because of err, and sees to it that the tree is
// watched again.
func (l *loop[E]) fail(err error) {
	now := time.Now()
	l.out.all(err)
	if l.cause == nil {
		l.retry = l.fallback
	}
	l.cause = err
	l.nextAll, l.nextTry = now.Add(l.fallback), now.Add(l.retry)
	switch {
	case errors.Is(err, ErrOverflow):
		// Beginning anew takes a walk, during which the queue may overflow again.
		// What it still brings in until then does no harm.
		l.nextTry = l.began.Add(l.check)
		if !now.Before(l.nextTry) {
			l.restart()
		}
	case errors.Is(err, ErrRootGone):
		l.b.stop()
		l.nextTry = now
	default:
		l.b.stop()
		l.retry = min(2*l.retry, maxRetry*l.fallback)
	}
}

// tick does what has become due.
func (l *loop[E]) tick() {
	now := time.Now()
	if l.cause == nil {
		if err := l.b.check(); err != nil {
			l.fail(err)
		}
	} else if !now.Before(l.nextTry) {
		l.restart()
	}
	if (l.cause != nil || l.unreliable) && !now.Before(l.nextAll) {
		l.nextAll = now.Add(l.fallback)
		l.out.all(l.cause)
	}
}

// restart tries to watch the tree, which was not watched, or not as a whole.
func (l *loop[E]) restart() {
	l.began = time.Now()
	switch err := l.b.start(); {
	case err == nil:
		reason := error(nil)
		if errors.Is(l.cause, ErrOverflow) {
			reason = l.cause
		}
		l.cause = nil
		l.out.all(reason)
	case errors.Is(err, ErrRootGone) && errors.Is(l.cause, ErrRootGone):
		// As reported: nothing new.
	default:
		l.fail(err)
	}
}
