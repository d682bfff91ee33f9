package mdns

import (
	"log/slog"
	"sync"
	"time"
)

// coalesce is how long changes of the interfaces are gathered after one was
// reported: a container that starts makes a dozen of them.
const coalesce = 50 * time.Millisecond

// watcher reports that the interfaces of this machine may have changed.
type watcher struct {
	// changed has an element after a change.
	changed chan struct{}
	news    *news
	quit    chan struct{}
	wg      sync.WaitGroup
}

// watch begins to report. Where the system tells of changes that is at once,
// and every lookEvery in any case.
func watch(log *slog.Logger) *watcher {
	w := &watcher{changed: make(chan struct{}, 1), quit: make(chan struct{})}
	n, err := openNews()
	if err != nil {
		log.Debug("changes of network interfaces are looked for, since the system does not tell of them",
			"every", lookEvery, "err", err)
	}
	w.wg.Go(func() {
		t := time.NewTicker(lookEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				w.report()
			case <-w.quit:
				return
			}
		}
	})
	if w.news = n; n != nil {
		w.wg.Go(w.listen)
	}
	return w
}

func (w *watcher) listen() {
	for w.news.wait() == nil {
		w.report()
		select {
		case <-time.After(coalesce):
		case <-w.quit:
			return
		}
	}
}

func (w *watcher) report() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// close ends the reports and waits until that is done.
func (w *watcher) close() error {
	close(w.quit)
	var err error
	if w.news != nil {
		err = w.news.close()
	}
	w.wg.Wait()
	return err
}
