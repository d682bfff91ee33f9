package logfile

import (
	"context"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pollEvery is how often a log is looked at where the operating system has no
// watch left to give (on Linux fs.inotify.max_user_instances).
const pollEvery = 250 * time.Millisecond

// waker waits for changes in a directory.
type waker struct {
	w *fsnotify.Watcher // nil without a watch
}

func newWaker(dir string) *waker {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return &waker{}
	}
	if err := w.Add(dir); err != nil {
		w.Close()
		return &waker{}
	}
	return &waker{w: w}
}

func (k *waker) close() {
	if k.w != nil {
		k.w.Close()
	}
}

// wait returns when there may be something new, and false when ctx ended. An
// ended log wakes it, too.
func (k *waker) wait(ctx context.Context, ended <-chan struct{}) bool {
	var events chan fsnotify.Event
	var errs chan error
	var poll <-chan time.Time
	if k.w != nil {
		events, errs = k.w.Events, k.w.Errors
	} else {
		t := time.NewTimer(pollEvery)
		defer t.Stop()
		poll = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-ended:
	case <-events:
	case <-errs: // an overflow: something has changed
	case <-poll:
	}
	return true
}
