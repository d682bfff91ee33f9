package trust

import (
	"errors"
	"time"

	"github.com/budgiehq/budgie/internal/filewatch"
)

// rescan is how often the token is looked at while the file system is trusted
// to tell of changes, in case it does not.
const rescan = 10 * time.Second

// watch looks out for changes of the token by others, from the first call on.
func (f *Flock) watch() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return ErrClosed
	}
	path := f.source.path()
	if f.watching || path == "" {
		return nil
	}
	f.watching = true
	changed := make(chan struct{}, 1)
	w, err := filewatch.New(path, func() {
		select {
		case changed <- struct{}{}:
		default: // one is waiting already
		}
	}, f.log)
	if err != nil {
		f.log.Warn("changes of the token by other programs are noticed late", "within", f.rescan, "error", err)
	}
	f.wg.Go(func() {
		f.follow(changed, f.stop)
		if w != nil {
			_ = w.Close() // nothing is read any more
		}
	})
	return nil
}

// follow looks at the token whenever it may have changed, until stop.
func (f *Flock) follow(changed, stop <-chan struct{}) {
	t := time.NewTicker(f.rescan)
	defer t.Stop()
	complaint := ""
	for {
		select {
		case <-stop:
			return
		case <-changed:
		case <-t.C:
		}
		_, err := f.current()
		switch {
		case err == nil:
			complaint = ""
		case errors.Is(err, ErrClosed):
		case err.Error() != complaint:
			complaint = err.Error()
			f.log.Warn("no new connections to other machines until the token can be used again", "error", err)
		}
	}
}
