package replica

import (
	"errors"
	"sync"
)

// batch is how many files are made durable together: waiting for the disk one
// by one would take most of the time for small files.
const batch = 64

// syncers is how many files of a batch are synced at the same time, which file
// systems turn into few writes of their journals.
const syncers = 16

// togetherFrom is of how many files on all of their file system is made durable at once.
// For fewer that would have others' writes waited for.
const togetherFrom = 16

// syncAll makes files durable, and closes them.
func syncAll(files []*incoming) error {
	errs := make([]error, len(files))
	if len(files) >= togetherFrom && syncTogether(files) {
		for i, c := range files {
			errs[i] = c.close()
		}
		return errors.Join(errs...)
	}
	var wg sync.WaitGroup
	for first := range min(syncers, len(files)) {
		wg.Go(func() {
			for i := first; i < len(files); i += syncers {
				errs[i] = files[i].sync()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// settling are files on their way to the disk.
type settling struct {
	files []*incoming
	done  chan error // has why they are not there, once that is known
}

// settleBatch moves the files into place that were on their way to the disk, and has it
// begin with those that arrived since: what comes meanwhile does not wait for it.
func (t *target) settleBatch() error {
	files := t.arrived
	t.arrived = nil
	if err := t.land(); err != nil {
		discardAll(files)
		return err
	}
	s := &settling{files: files, done: make(chan error, 1)}
	t.settling = s
	go func() { s.done <- syncAll(s.files) }()
	return nil
}

// land waits for the files that are on their way to the disk, and moves them into
// place.
func (t *target) land() error {
	s := t.settling
	if s == nil {
		return nil
	}
	t.settling = nil
	err := <-s.done
	defer discardAll(s.files)
	if err != nil {
		return err
	}
	for _, c := range s.files {
		if err := c.place(); err != nil {
			return err
		}
	}
	return nil
}

// settleArrived makes all files durable that arrived, and moves them into place. No
// file is on its way to the disk afterwards.
func (t *target) settleArrived() error {
	if err := t.settleBatch(); err != nil {
		return err
	}
	return t.land()
}

// discardAll removes those of the files that were not placed.
func discardAll(files []*incoming) {
	for _, c := range files {
		c.discard()
	}
}
