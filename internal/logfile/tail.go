package logfile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"

	"github.com/budgiehq/budgie/runtime"
)

const (
	// maxHeld bounds the segments that a reader holds open at a time.
	maxHeld = 64
	// lookBack is how far before the last entries to look for the beginnings
	// of their lines, in bytes. No line that is kept whole is longer, so only
	// what another stream writes in between can take it further away.
	lookBack = 2 * MaxLine
)

// held are open segments by their numbers.
type held map[uint64]*os.File

// hold opens the last segments of a log, from the end to where one was
// deleted. The last one itself must be there.
func hold(dir string, all []uint64) (held, error) {
	h := held{}
	for i, seq := range slices.Backward(all) {
		if len(h) == maxHeld {
			break
		}
		f, err := os.Open(segmentPath(dir, seq))
		if errors.Is(err, fs.ErrNotExist) && i < len(all)-1 {
			break
		}
		if err != nil {
			h.close()
			return nil, err
		}
		h[seq] = f
	}
	return h, nil
}

func (h held) close() { h.closeUpTo(math.MaxUint64) }

// closeUpTo closes the segments up to a number.
func (h held) closeUpTo(last uint64) {
	for seq, f := range h {
		if seq <= last {
			f.Close()
			delete(h, seq)
		}
	}
}

// place is the beginning of a line.
type place struct {
	seq uint64
	off int64
}

// tailFinder looks for the last entries of a log by reading it backwards.
type tailFinder struct {
	want int
	// start is the place of the first line that is needed.
	start place
	// pending are the streams of which it is not known yet whether the first
	// line from start on is a whole one.
	pending []runtime.LogStream
	// looked is how much was read since want was reached.
	looked int
}

// add takes the line before all those before. It returns false when no more
// are needed.
func (t *tailFinder) add(at place, line []byte) bool {
	counting := t.want > 0
	if !counting {
		if t.looked += len(line) + 1; t.looked > lookBack {
			return false
		}
	}
	r, err := parseRecord(line)
	if err != nil {
		return true
	}
	i := slices.Index(t.pending, r.stream)
	switch {
	case counting:
		t.start = at
		if !r.partial {
			t.want--
		}
	case i >= 0 && r.partial:
		t.start = at
	case i >= 0:
		t.pending = slices.Delete(t.pending, i, i+1)
	}
	return len(t.pending) > 0
}

// findTail returns a place from which on there are at least n entries, the last
// n of them whole, if there are so many before the offset end of the last
// segment. Its work depends on the size of what it finds. If enough is false,
// the start is that of the first segment that could be read.
func findTail(c *cursor, all []uint64, end int64, n int) (start place, enough bool, err error) {
	t := &tailFinder{want: n, pending: []runtime.LogStream{runtime.Stdout, runtime.Stderr}}
	t.start = place{seq: all[len(all)-1]}
	for i, seq := range slices.Backward(all) {
		f := c.held[seq]
		if f == nil {
			if f, err = os.Open(segmentPath(c.dir, seq)); errors.Is(err, fs.ErrNotExist) {
				break // deleted, and with it all before
			} else if err != nil {
				return place{}, false, err
			}
		}
		if i < len(all)-1 {
			var info fs.FileInfo
			if info, err = f.Stat(); err == nil {
				end = info.Size()
			}
		}
		more := false
		if err == nil {
			more, err = linesBack(f, end, func(off int64, line []byte) bool { return t.add(place{seq, off}, line) })
		}
		if c.held[seq] == nil {
			f.Close()
		}
		if err != nil {
			return place{}, false, err
		}
		if !more {
			return t.start, true, nil
		}
		if t.want > 0 {
			t.start = place{seq: seq}
		}
	}
	return t.start, t.want == 0, nil
}

// linesBack calls f for the complete lines of a file before an offset, the last
// one first, with where they begin. It returns false as soon as f does. Lines
// that are too long for a record are left out.
func linesBack(file *os.File, end int64, f func(off int64, line []byte) bool) (bool, error) {
	const chunk = 64 << 10
	var buf []byte // what was read and not passed on, from offset at on
	at, tail, tooLong := end, true, false
	for at > 0 {
		n := min(at, chunk)
		buf = slices.Insert(buf, 0, make([]byte, n)...)
		at -= n
		if _, err := file.ReadAt(buf[:n], at); err == io.EOF {
			// Its end was cut off just now, as it was no whole record.
			return false, fs.ErrNotExist
		} else if err != nil {
			return false, err
		}
		for {
			i := bytes.LastIndexByte(buf, '\n')
			if i < 0 {
				break
			}
			if !tail && !tooLong && !f(at+int64(i)+1, buf[i+1:]) {
				return false, nil
			}
			buf, tail, tooLong = buf[:i], false, false
		}
		if len(buf) > maxRecord {
			buf, tooLong = buf[:0], true
		}
	}
	if !tail && !tooLong {
		return f(0, buf), nil
	}
	return true, nil
}
