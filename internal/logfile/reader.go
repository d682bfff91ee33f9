package logfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

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
		defer func() { r.cursor.close(); r.cursor.held.close() }()
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
		if r.beyond(0) {
			return true, nil
		}
		line, ok, err := r.cursor.next()
		if err != nil {
			return false, err
		}
		// Again, as it may be the first line of a segment that was empty.
		if !ok || r.beyond(len(line)+1) {
			return true, nil
		}
		rec, err := parseRecord(line)
		if err != nil {
			continue
		}
		if !r.admitMissed(rec.at) {
			return false, nil
		}
		if e, ok := r.joiner.add(rec); ok && !r.emit(e) {
			return false, nil
		}
	}
	return false, nil
}

// admitMissed says, if segments were deleted before they were read, that lines are
// missing, and does not join what is before them to what comes after. It returns
// false when the sequence is over.
func (r *reader) admitMissed(at time.Time) bool {
	n := r.cursor.missed
	if n == 0 {
		return true
	}
	r.cursor.missed = 0
	for _, e := range r.joiner.rest() {
		if !r.emit(e) {
			return false
		}
	}
	text := fmt.Sprintf("budgie: lines are missing here: %d files of the log were deleted before they were read", n)
	if n == 1 {
		text = "budgie: lines are missing here: a file of the log was deleted before it was read"
	}
	return r.emit(runtime.LogEntry{Time: at, Stream: runtime.Stderr, Line: text})
}

// beyond reports whether what begins so many bytes before the cursor is not to
// be read any more.
func (r *reader) beyond(back int) bool {
	seq, off := r.cursor.position()
	return seq > r.endSeq || seq == r.endSeq && off-int64(back) >= r.endOff
}

func (r *reader) emit(e runtime.LogEntry) bool {
	if r.skip > 0 {
		r.skip--
		return true
	}
	return r.yield(e, nil)
}

// maxSeeks bounds the looks at a log whose segments are deleted faster than
// they can be opened. A look takes much less time than writing a segment of a
// sensible size.
const maxSeeks = 100

// seek goes to where reading begins and notes where it ends.
func (r *reader) seek() error {
	r.endSeq, r.endOff = math.MaxUint64, 0
	for n := range maxSeeks {
		all, err := segments(r.cursor.dir)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			if !r.opts.Follow {
				r.endSeq = 0
			}
			return nil
		}
		err = r.seekIn(all, n == maxSeeks-1)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		r.cursor.held.close() // rotated away meanwhile: look again
	}
	return fmt.Errorf("read log: %s is rotated faster than it can be read; keep larger segments", r.cursor.dir)
}

// seekIn is seek for the segments all. If some were deleted meanwhile and are
// missing, the error is fs.ErrNotExist, or with settle what is there must do.
func (r *reader) seekIn(all []uint64, settle bool) error {
	var err error
	if r.cursor.held, err = hold(r.cursor.dir, all); err != nil {
		return err
	}
	last := all[len(all)-1]
	info, err := r.cursor.held[last].Stat()
	if err != nil {
		return err
	}
	if r.opts.Tail < 0 {
		r.endSeq, r.endOff = last, info.Size()
		if r.opts.Follow {
			r.endSeq, r.endOff = math.MaxUint64, 0
		}
		err = r.seekEnd(last, info.Size())
	} else {
		err = r.seekStart(all, settle)
	}
	if err == nil {
		r.cursor.held.closeUpTo(r.cursor.seq - 1)
		r.cursor.letGo = true
	}
	return err
}

// seekStart goes to the first entry that is wanted.
func (r *reader) seekStart(all []uint64, settle bool) error {
	last := all[len(all)-1]
	// Not the size: the file may end within a record that is being written, and
	// whether that is counted must not change from here on.
	end, err := lastLineEnd(r.cursor.held[last])
	if err == io.EOF {
		err = fs.ErrNotExist // its end was cut off just now
	}
	if err != nil {
		return err
	}
	if !r.opts.Follow {
		r.endSeq, r.endOff = last, end
	}
	if r.opts.Tail == 0 {
		err := r.cursor.open(all[0], 0)
		if settle && errors.Is(err, fs.ErrNotExist) {
			err = r.cursor.open(slices.Min(slices.Collect(maps.Keys(r.cursor.held))), 0)
		}
		return err
	}
	start, enough, err := findTail(&r.cursor, all, end, r.opts.Tail)
	if err != nil {
		return err
	}
	if !enough && start.seq != all[0] && !settle {
		return fs.ErrNotExist
	}
	n, err := r.count(start, last, end)
	if err != nil {
		return err
	}
	r.skip = max(0, n-r.opts.Tail)
	return r.cursor.open(start.seq, start.off)
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

// count returns the number of entries between two places. A line under way
// counts where it will be yielded, that is, without Follow.
func (r *reader) count(from place, endSeq uint64, endOff int64) (int, error) {
	sub := &reader{cursor: cursor{dir: r.cursor.dir, held: r.cursor.held}, endSeq: endSeq, endOff: endOff}
	defer sub.cursor.close()
	n := 0
	sub.yield = func(runtime.LogEntry, error) bool { n++; return true }
	if err := sub.cursor.open(from.seq, from.off); err != nil {
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
