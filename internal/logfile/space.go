package logfile

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/runtime"
)

const (
	// maxReserve is the room that logs leave on their file system, in bytes,
	// so that a container that writes without end does not keep others from
	// writing, the store first of all. On small ones it is a part of them.
	maxReserve  = 1 << 20
	reservePart = 16
	// maxBudget is how much is written, in bytes, before a writer looks at
	// the room again.
	maxBudget = 64 << 10
	// fullPause is how long a writer that found no room does not look again.
	fullPause = 100 * time.Millisecond
)

// errFull is the error of what was dropped so that the reserve is kept.
var errFull = fmt.Errorf("the last room on the disk is left free, and lines are dropped until there is more: %w", syscall.ENOSPC)

// piece is what a record in the buffer means to the account of lost lines.
type piece struct {
	stream  runtime.LogStream
	partial bool
	// ours says that it is no output of the container's.
	ours bool
	// lines is how many lines are lost with it.
	lines int
}

// loss is the account of what could not be written.
type loss struct {
	// lines are those dropped, in whole or in part, since the last note.
	lines int
	// cut are the streams of whose present line a piece was dropped: the rest
	// of the line is dropped too.
	cut []runtime.LogStream
	// broken are the streams with a beginning of a line in the log the rest of
	// which was dropped.
	broken []runtime.LogStream
}

// skips reports whether a record goes on with a line that lost a piece. The
// line is counted already.
func (l *loss) skips(r record) bool {
	i := slices.Index(l.cut, r.stream)
	if i >= 0 && !r.partial {
		l.cut = slices.Delete(l.cut, i, i+1)
	}
	return i >= 0
}

// add counts a piece that was dropped. begun says that the log has the
// beginning of its line.
func (l *loss) add(p piece, begun bool) {
	i := slices.Index(l.cut, p.stream)
	switch {
	case p.ours:
		l.lines += p.lines
		begun = begun && p.lines == 0
	case i < 0:
		l.lines += p.lines
		if p.partial {
			l.cut = append(l.cut, p.stream)
		}
	case !p.partial:
		l.cut = slices.Delete(l.cut, i, i+1)
	}
	if begun && !slices.Contains(l.broken, p.stream) {
		l.broken = append(l.broken, p.stream)
	}
}

// lose gives up what is in the buffer.
func (w *Writer) lose() {
	for _, p := range w.pieces {
		w.loss.add(p, slices.Contains(w.unfinished, p.stream))
	}
	w.buf, w.pieces = w.buf[:0], w.pieces[:0]
}

// recover puts into the log what was lost, once there is room.
func (w *Writer) recover(at time.Time, force bool) error {
	if w.loss.lines == 0 && len(w.loss.broken) == 0 || !force && !w.hasRoom(maxRecord, at) {
		return nil
	}
	lines, broken := w.loss.lines, w.loss.broken
	w.loss.lines, w.loss.broken = 0, nil
	for i, stream := range broken {
		if err := w.append(record{at: at, stream: stream}, piece{ours: true}); err != nil {
			w.loss.lines += lines
			w.loss.broken = append(w.loss.broken, broken[i+1:]...)
			return err
		}
	}
	// A line under way would take the note in.
	streams := slices.DeleteFunc([]runtime.LogStream{runtime.Stderr, runtime.Stdout}, func(s runtime.LogStream) bool {
		return slices.Contains(w.unfinished, s) && !slices.Contains(broken, s)
	})
	if lines == 0 || len(streams) == 0 {
		w.loss.lines += lines
		return nil
	}
	text := strconv.Itoa(lines) + " lines"
	if lines == 1 {
		text = "1 line"
	}
	note := record{at: at, stream: streams[0], text: []byte("budgie: " + text + " dropped: disk full")}
	return w.append(note, piece{ours: true, lines: lines})
}

// hasRoom reports whether n bytes can be written without touching the reserve.
// To make room it deletes the log's own oldest segments. It asks the file
// system only now and then.
func (w *Writer) hasRoom(n int64, at time.Time) bool {
	if n <= w.budget {
		return true
	}
	if since := at.Sub(w.fullAt); since >= 0 && since < fullPause {
		return false
	}
	for {
		free, total, ok := w.space(w.dir)
		if !ok || total == 0 {
			w.budget = max(n, maxBudget)
			return true
		}
		reserve := min(maxReserve, total/reservePart)
		if free >= reserve && free-reserve >= uint64(n) {
			// Others write too, so no more than a part of it is taken for granted.
			w.budget = max(n, min(maxBudget, int64((free-reserve)/2)))
			w.fullAt = time.Time{}
			return true
		}
		if !w.dropOldest() {
			w.fullAt = at
			return false
		}
	}
}

// dropOldest deletes the oldest segment, unless it is the one being written.
func (w *Writer) dropOldest() bool {
	all, err := segments(w.dir)
	return err == nil && len(all) > 0 && all[0] < w.seq && os.Remove(segmentPath(w.dir, all[0])) == nil
}

// tryHard does f again as long as the disk is full and the log has old segments
// to give up.
func (w *Writer) tryHard(f func() error) error {
	for {
		err := f()
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, errQuota) || !w.dropOldest() {
			return err
		}
	}
}
