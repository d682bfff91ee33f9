package logfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"os"

	"github.com/budgiehq/budgie/runtime"
)

// Options says what of a log to read.
type Options struct {
	// Tail is how many entries from the end to begin with. 0 means all, below
	// 0 none.
	Tail int
	// Follow goes on with new entries until Ended is closed and everything
	// written before that has been read, or the context ends.
	Follow bool
	// Ended is closed when nothing more will be written; nil means never. It
	// is not looked at without Follow.
	Ended <-chan struct{}
}

// Read yields the entries of the log in dir, oldest first. It may run in
// another process than the writer. Damaged records are left out. A log that
// does not exist is empty. The end of ctx ends the sequence without an error;
// any error is its last element.
func Read(ctx context.Context, dir string, opts Options) iter.Seq2[runtime.LogEntry, error] {
	return func(yield func(runtime.LogEntry, error) bool) {
		r := &reader{cursor: cursor{dir: dir}, opts: opts, yield: yield}
		defer r.cursor.close()
		if err := r.run(ctx); err != nil {
			yield(runtime.LogEntry{}, err)
		}
	}
}

type reader struct {
	cursor cursor
	joiner joiner
	opts   Options
	yield  func(runtime.LogEntry, error) bool
	// skip is how many entries to leave out before the first one.
	skip int
	// endSeq and endOff are where to stop; a reader that follows has none.
	endSeq uint64
	endOff int64
}

func (r *reader) run(ctx context.Context) error {
	var wake *waker
	if r.opts.Follow {
		// Watching begins before the first read, or a line between the two
		// would be seen only with the next one.
		wake = newWaker(r.cursor.dir)
		defer wake.close()
	}
	if err := r.seek(); err != nil {
		return err
	}
	for {
		ended := !r.opts.Follow || isClosed(r.opts.Ended)
		if more, err := r.drain(ctx); err != nil || !more {
			return err
		}
		if ended {
			for _, e := range r.joiner.rest() {
				if !r.emit(e) {
					return nil
				}
			}
			return nil
		}
		if !wake.wait(ctx, r.opts.Ended) {
			return nil
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// drain yields everything up to the present end. It returns false when the
// sequence is over.
func (r *reader) drain(ctx context.Context) (bool, error) {
	for ctx.Err() == nil {
		if seq, off := r.cursor.position(); seq > r.endSeq || seq == r.endSeq && off >= r.endOff {
			return true, nil
		}
		line, ok, err := r.cursor.next()
		if err != nil {
			return false, err
		}
		if !ok {
			return true, nil
		}
		rec, err := parseRecord(line)
		if err != nil {
			continue
		}
		if e, ok := r.joiner.add(rec); ok && !r.emit(e) {
			return false, nil
		}
	}
	return false, nil
}

func (r *reader) emit(e runtime.LogEntry) bool {
	if r.skip > 0 {
		r.skip--
		return true
	}
	return r.yield(e, nil)
}

// seek goes to where reading begins and notes where it ends.
func (r *reader) seek() error {
	dir := r.cursor.dir
	r.endSeq, r.endOff = math.MaxUint64, 0
	for {
		all, err := segments(dir)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			if !r.opts.Follow {
				r.endSeq = 0
			}
			return nil
		}
		err = r.seekIn(all)
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated away meanwhile: look again
		}
		return err
	}
}

func (r *reader) seekIn(all []uint64) error {
	last := all[len(all)-1]
	info, err := os.Stat(segmentPath(r.cursor.dir, last))
	if err != nil {
		return err
	}
	if !r.opts.Follow {
		r.endSeq, r.endOff = last, info.Size()
	}
	switch {
	case r.opts.Tail < 0:
		return r.seekEnd(last, info.Size())
	case r.opts.Tail == 0:
		return r.cursor.open(all[0], 0)
	}
	// All is counted, not only the last segment, as a line may have begun in any
	// of those before.
	n, err := r.count(all[0], last, info.Size())
	if err != nil {
		return err
	}
	r.skip = max(0, n-r.opts.Tail)
	return r.cursor.open(all[0], 0)
}

// seekEnd goes to the first line that begins at or after off.
func (r *reader) seekEnd(seq uint64, off int64) error {
	if off == 0 {
		return r.cursor.open(seq, 0)
	}
	// The file may end within a line; from one byte before, the first line
	// feed is the end of the last complete line or of the one under way.
	if err := r.cursor.open(seq, off-1); err != nil {
		return err
	}
	if _, ok, err := r.cursor.line(); err != nil || ok {
		return err
	}
	r.cursor.skipping = true
	return nil
}

// count returns the number of entries from the beginning of a segment to a
// place in the last one. A line under way counts where it will be yielded, that
// is, without Follow.
func (r *reader) count(from, endSeq uint64, endOff int64) (int, error) {
	sub := &reader{cursor: cursor{dir: r.cursor.dir}, endSeq: endSeq, endOff: endOff}
	defer sub.cursor.close()
	n := 0
	sub.yield = func(runtime.LogEntry, error) bool { n++; return true }
	if err := sub.cursor.open(from, 0); err != nil {
		return 0, err
	}
	if _, err := sub.drain(context.Background()); err != nil {
		return 0, fmt.Errorf("count log entries: %w", err)
	}
	if !r.opts.Follow {
		n += len(sub.joiner.rest())
	}
	return n, nil
}
