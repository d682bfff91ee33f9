package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// segmentPath names the segment with a number.
func segmentPath(dir string, seq uint64) string {
	return filepath.Join(dir, "log."+strconv.FormatUint(seq, 10))
}

// segments returns the numbers of the segments in dir, lowest first. A
// directory that does not exist has none.
func segments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list log segments: %w", err)
	}
	var out []uint64
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), "log.")
		if !ok {
			continue
		}
		seq, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || seq == 0 || strconv.FormatUint(seq, 10) != digits {
			continue
		}
		out = append(out, seq)
	}
	slices.Sort(out)
	return out, nil
}

// cursor reads the complete lines of a log, segment after segment. It holds
// one file open, besides those in held.
type cursor struct {
	dir string
	// held are segments that are open already, and can so be read after they
	// were deleted.
	held held
	// letGo says to close them as reading goes on.
	letGo bool
	seq   uint64
	f     *os.File
	// off is where the bytes after buf[pos:] are in the file.
	off      int64
	buf      []byte
	pos      int
	skipping bool
	// missed counts the segments that were deleted before they were read.
	missed uint64
}

// position returns the segment and the offset of the next unread line.
func (c *cursor) position() (seq uint64, off int64) {
	return c.seq, c.off - int64(len(c.buf)-c.pos)
}

// open goes to a place in a segment. A segment that was deleted meanwhile gives
// fs.ErrNotExist.
func (c *cursor) open(seq uint64, off int64) error {
	f := c.held[seq]
	if f == nil {
		var err error
		if f, err = os.Open(segmentPath(c.dir, seq)); err != nil {
			return err
		}
	}
	c.close()
	c.seq, c.f, c.off = seq, f, off
	c.buf, c.pos, c.skipping = c.buf[:0], 0, false
	return nil
}

func (c *cursor) close() {
	switch {
	case c.f == nil:
	case c.held[c.seq] != c.f:
		c.f.Close()
	case c.letGo:
		c.held.closeUpTo(c.seq)
	}
	c.f = nil
}

// next returns the next complete line, false at the present end of the log. The
// line is valid until the next call.
func (c *cursor) next() ([]byte, bool, error) {
	for {
		if line, ok, err := c.line(); ok || err != nil {
			return line, ok, err
		}
		if c.held[c.seq+1] != nil {
			if err := c.open(c.seq+1, 0); err != nil {
				return nil, false, err
			}
			continue
		}
		all, err := segments(c.dir)
		if err != nil {
			return nil, false, err
		}
		i, _ := slices.BinarySearch(all, c.seq+1)
		if i == len(all) {
			return nil, false, nil
		}
		// A later segment exists, so this one is final: read what was written
		// between the look at it and the look at the directory.
		if line, ok, err := c.line(); ok || err != nil {
			return line, ok, err
		}
		if err := c.advance(all[i]); err != nil {
			return nil, false, err
		}
	}
}

// advance opens the next segment that is there, at most the one with number
// to. A listing of a directory may lack what was made while it was read, even
// if it has something made later, so the numbers between are tried.
func (c *cursor) advance(to uint64) error {
	next, began := c.seq+1, c.f != nil
	for seq := next; seq <= to; seq++ {
		err := c.open(seq, 0)
		if err == nil {
			if began {
				c.missed += seq - next
			}
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open log segment: %w", err)
		}
	}
	return nil
}

// line returns the next complete line of the open segment.
func (c *cursor) line() ([]byte, bool, error) {
	if c.f == nil {
		return nil, false, nil
	}
	for {
		if i := bytes.IndexByte(c.buf[c.pos:], '\n'); i >= 0 {
			line := c.buf[c.pos : c.pos+i]
			c.pos += i + 1
			if c.skipping {
				c.skipping = false
				continue
			}
			return line, true, nil
		}
		if len(c.buf)-c.pos > maxRecord {
			c.pos, c.skipping = len(c.buf), true
		}
		more, err := c.fill()
		if err != nil {
			return nil, false, err
		}
		if !more && bytes.IndexByte(c.buf[c.pos:], '\n') < 0 {
			// What is left is a line under way. Its writer may die and the next
			// one cut it off, so it is read anew when there is more.
			c.off -= int64(len(c.buf) - c.pos)
			c.buf, c.pos = c.buf[:0], 0
			return nil, false, nil
		}
	}
}

// fill reads on, and reports whether there may be more right now.
func (c *cursor) fill() (bool, error) {
	n := copy(c.buf, c.buf[c.pos:])
	c.buf, c.pos = c.buf[:n], 0
	const chunk = 64 << 10
	c.buf = slices.Grow(c.buf, chunk)
	m, err := c.f.ReadAt(c.buf[n:n+chunk], c.off)
	c.buf = c.buf[:n+m]
	c.off += int64(m)
	if err == io.EOF {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	return true, nil
}
