package main

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

// output is a stream that remembers the first error of a write and tells of it
// once. It may be used concurrently.
type output struct {
	w io.Writer
	// failed is called after the first error.
	failed func()

	mu  sync.Mutex
	err error
}

// Write implements io.Writer. After an error it writes nothing any more. A write
// that blocks keeps nobody from asking for the problem.
func (o *output) Write(p []byte) (int, error) {
	if err := o.problem(); err != nil {
		return 0, err
	}
	n, err := o.w.Write(p)
	if err != nil {
		o.mu.Lock()
		first := o.err == nil
		o.err = err
		o.mu.Unlock()
		if first {
			o.failed()
		}
	}
	return n, err
}

// problem returns the first error of a write.
func (o *output) problem() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// readerLeft reports whether an error only says that whoever read the output
// has enough, as head(1) does.
func readerLeft(err error) bool { return errors.Is(err, syscall.EPIPE) }
