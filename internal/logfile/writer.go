package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/budgiehq/budgie/internal/ownership"
	"github.com/budgiehq/budgie/runtime"
)

// Limit bounds a log.
type Limit struct {
	// Bytes is the size of one segment; 0 means DefaultBytes.
	Bytes int64
	// Files is the number of segments kept, the one being written included; 0
	// means DefaultFiles.
	Files int
}

// The bounds where Limit has none.
const (
	DefaultBytes = 10 << 20
	DefaultFiles = 3
)

func (l Limit) withDefaults() Limit {
	if l.Bytes <= 0 {
		l.Bytes = DefaultBytes
	}
	if l.Files <= 0 {
		l.Files = DefaultFiles
	}
	return l
}

// Writer appends to a log. There may be one at a time per log; its methods may
// be called concurrently.
type Writer struct {
	dir   string
	limit Limit

	mu   sync.Mutex
	f    *os.File
	seq  uint64
	size int64
	buf  []byte
	// pieces are the records in buf.
	pieces []piece
	// unfinished are the streams whose last record was partial.
	unfinished []runtime.LogStream
	loss       loss

	// space is diskSpace, or what a test has in its place.
	space func(dir string) (free, total uint64, ok bool)
	// budget is how much may be written before space is asked again.
	budget int64
	// fullAt is when there was no room, zero if there was at the last look.
	fullAt time.Time
}

// OpenWriter opens the log in dir, which it creates if needed, to go on after
// what is there: a finished log, or none. A record that a writer did not
// complete before it died is cut off.
//
// The writer leaves the last of the disk to others: when less than 1 MiB, or a
// sixteenth of a file system smaller than 16 MiB, is free, it deletes the log's
// oldest segments, and then drops lines; a line in the log says how many, once
// there is room again.
func OpenWriter(dir string, limit Limit) (*Writer, error) {
	if err := ownership.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	all, err := segments(dir)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, limit: limit.withDefaults(), seq: 1, space: diskSpace}
	if len(all) > 0 {
		w.seq = all[len(all)-1]
	}
	if w.f, err = openSegment(dir, w.seq); err != nil {
		return nil, err
	}
	if w.size, err = lastLineEnd(w.f); err == nil {
		err = w.f.Truncate(w.size)
	}
	if err != nil {
		w.f.Close()
		return nil, fmt.Errorf("cut off an unfinished log record: %w", err)
	}
	return w, nil
}

// ResumeWriter is OpenWriter for a log that its last writer did not Finish: it
// reads all of it to find the lines that are not complete.
func ResumeWriter(dir string, limit Limit) (*Writer, error) {
	w, err := OpenWriter(dir, limit)
	if err != nil {
		return nil, err
	}
	c := &cursor{dir: dir}
	defer c.close()
	all, err := segments(dir)
	if err == nil {
		err = c.open(all[0], 0)
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("read the log to go on: %w", err)
	}
	for {
		line, ok, err := c.next()
		if err != nil {
			w.Close()
			return nil, err
		}
		if !ok {
			return w, nil
		}
		if r, err := parseRecord(line); err == nil {
			w.note(r.stream, r.partial)
		}
	}
}

func openSegment(dir string, seq uint64) (*os.File, error) {
	f, err := ownership.OpenFile(segmentPath(dir, seq), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log segment: %w", err)
	}
	return f, nil
}

// lastLineEnd returns the offset after the last line feed of a file.
func lastLineEnd(f *os.File) (int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, maxRecord)
	for end > 0 {
		n := min(end, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return end - n + int64(i) + 1, nil
		}
		end -= n
	}
	return 0, nil
}

// note keeps account of the streams with an unfinished line.
func (w *Writer) note(stream runtime.LogStream, partial bool) {
	i := slices.Index(w.unfinished, stream)
	switch {
	case partial && i < 0:
		w.unfinished = append(w.unfinished, stream)
	case !partial && i >= 0:
		w.unfinished = slices.Delete(w.unfinished, i, i+1)
	}
}

// Write appends what a container wrote to one of its streams: any number of
// lines, the first and the last of which may be parts of one. It is in the file
// when Write returns. When an error is returned, for example because the disk
// is full, what was not written is lost and the log is still sound.
func (w *Writer) Write(stream runtime.LogStream, at time.Time, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return fmt.Errorf("write log: %w", os.ErrClosed)
	}
	if err := w.recover(at, false); err != nil {
		w.loseText(stream, data)
		return err
	}
	for len(data) > 0 {
		r := record{at: at, stream: stream, partial: true}
		if i := bytes.IndexByte(data[:min(len(data), maxText+1)], '\n'); i >= 0 {
			r.text, data, r.partial = data[:i], data[i+1:], false
		} else {
			n := min(len(data), maxText)
			r.text, data = data[:n], data[n:]
		}
		if err := w.append(r, piece{lines: 1}); err != nil {
			// The rest is lost with it, or what follows would be joined to a
			// line that it is no part of.
			w.loseText(stream, data)
			return err
		}
	}
	return w.flush(at, false)
}

// loseText counts text that was not even put into the buffer.
func (w *Writer) loseText(stream runtime.LogStream, data []byte) {
	for len(data) > 0 {
		_, rest, ended := bytes.Cut(data, []byte{'\n'})
		w.loss.add(piece{stream: stream, partial: !ended, lines: 1}, slices.Contains(w.unfinished, stream))
		data = rest
	}
}

// Finish ends the lines that are not complete, so that what a next run of the
// container writes is not taken for their continuation. The little that it
// writes for that may be of the room that is left to others.
func (w *Writer) Finish(at time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return fmt.Errorf("write log: %w", os.ErrClosed)
	}
	w.loss.cut, w.loss.broken = nil, nil
	for _, stream := range slices.Clone(w.unfinished) {
		if err := w.append(record{at: at, stream: stream}, piece{ours: true}); err != nil {
			return err
		}
	}
	if err := w.flush(at, true); err != nil {
		return err
	}
	if err := w.recover(at, true); err != nil {
		return err
	}
	return w.flush(at, true)
}

// append adds a record to the buffer, in a new segment if it does not fit. It
// completes p, which says what is lost with the record.
func (w *Writer) append(r record, p piece) error {
	if !p.ours && w.loss.skips(r) {
		return nil
	}
	p.stream, p.partial = r.stream, r.partial
	before := len(w.buf)
	w.buf = appendRecord(w.buf, r)
	added := len(w.buf) - before
	if total := w.size + int64(len(w.buf)); total > w.limit.Bytes && total > int64(added) {
		w.buf = w.buf[:before]
		err := w.flush(r.at, false)
		if err == nil {
			err = w.rotate()
		}
		if err != nil {
			w.loss.add(p, slices.Contains(w.unfinished, p.stream))
			return err
		}
		w.buf = appendRecord(w.buf, r)
	}
	w.pieces = append(w.pieces, p)
	if len(w.buf) >= 256<<10 {
		return w.flush(r.at, false)
	}
	return nil
}

// flush writes the buffer, whole or not at all. With force it may take the room
// that is left to others.
func (w *Writer) flush(at time.Time, force bool) error {
	if len(w.buf) == 0 {
		return nil
	}
	n := int64(len(w.buf))
	if !force && !w.hasRoom(n, at) {
		w.lose()
		return fmt.Errorf("write log: %w", errFull)
	}
	err := w.tryHard(func() error {
		_, err := w.f.Write(w.buf)
		if err != nil {
			err = errors.Join(fmt.Errorf("write log: %w", err), w.f.Truncate(w.size))
		}
		return err
	})
	if err != nil {
		w.lose()
		w.budget = 0
		return err
	}
	w.size += n
	w.budget = max(0, w.budget-n)
	for _, p := range w.pieces {
		w.note(p.stream, p.partial)
	}
	w.buf, w.pieces = w.buf[:0], w.pieces[:0]
	return nil
}

// rotate begins a new segment and deletes the oldest. Readers rely on the old
// segment being complete when the new one appears.
func (w *Writer) rotate() error {
	var f *os.File
	err := w.tryHard(func() (err error) { f, err = openSegment(w.dir, w.seq+1); return err })
	if err != nil {
		return err
	}
	w.f.Close()
	w.f, w.size = f, 0
	w.seq++
	all, err := segments(w.dir)
	if err != nil {
		return err
	}
	for _, seq := range all[:max(0, len(all)-w.limit.Files)] {
		if err := os.Remove(segmentPath(w.dir, seq)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("delete old log segment: %w", err)
		}
	}
	return nil
}

// Close closes the file. It can be called again.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.f = nil
	return err
}
