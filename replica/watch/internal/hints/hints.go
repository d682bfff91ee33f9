// Package hints tells of changes below a directory with what the operating
// system has for that.
//
// The module behind it starts goroutines when it is imported, and never ends
// them: only programs for systems that need it should.
package hints

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/rjeczalik/notify"
)

// queue is how many events wait. The module drops what finds it full, without
// a word.
const queue = 4096

// Open calls each, from one goroutine, for what happens below root, an
// existing directory, until the function that it returns is called, which
// waits for the last call. The path is absolute, with the links in root
// resolved. With deep it is new, or was moved. With lost other events may have
// been dropped.
func Open(root string, each func(path string, deep, lost bool)) (stop func(), err error) {
	events := make(chan notify.EventInfo, queue)
	if err := notify.Watch(filepath.Join(root, "..."), events, notify.All); err != nil {
		notify.Stop(events)
		return nil, fmt.Errorf("watch %s: %w", root, err)
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case e := <-events:
				each(e.Path(), e.Event()&(notify.Create|notify.Rename) != 0, len(events) >= queue-1)
			case <-quit:
				return
			}
		}
	})
	return func() {
		notify.Stop(events)
		close(quit)
		wg.Wait()
	}, nil
}
