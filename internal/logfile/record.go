// Package logfile keeps a container's output in files of bounded size, and
// reads them while they are written, from this process or another.
//
// A log is a directory of segments log.1, log.2 and so on. The highest number
// is the one being written; a segment is never changed after the next one
// exists, and the lowest are deleted. Because names only ever appear and
// disappear, a reader needs no lock to follow across rotations.
//
// Each line of a segment is a record in the CRI log format
// (https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md):
//
//	2026-01-02T15:04:05.999999999Z stdout F text
//
// The tag is F for the last piece of a line and P for a piece that goes on in
// the stream's next record. The text is kept byte for byte, whatever it is.
package logfile

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/budgiehq/budgie/runtime"
)

const (
	// maxText is the longest text of one record, in bytes, as in the CRI.
	maxText = 16 << 10
	// maxRecord bounds a record with its header. Anything longer is damage.
	maxRecord = maxText + 256
	// MaxLine is the longest line, in bytes, that a reader puts together from
	// its records. A longer one arrives as several entries.
	MaxLine = 1 << 20
)

// record is one line of a segment.
type record struct {
	at     time.Time
	stream runtime.LogStream
	// partial means that the line goes on in the next record of the stream.
	partial bool
	text    []byte
}

// appendRecord appends r in its stored form, with the line feed.
func appendRecord(dst []byte, r record) []byte {
	dst = r.at.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, ' ')
	dst = append(dst, r.stream...)
	if r.partial {
		dst = append(dst, " P "...)
	} else {
		dst = append(dst, " F "...)
	}
	dst = append(dst, r.text...)
	return append(dst, '\n')
}

var errRecord = errors.New("not a log record")

// parseRecord reads a stored record without its line feed. The text shares
// memory with line.
func parseRecord(line []byte) (record, error) {
	stamp, rest, ok1 := bytes.Cut(line, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	tags, text, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || !ok3 {
		return record{}, errRecord
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return record{}, errRecord
	}
	r := record{at: at, stream: runtime.LogStream(stream), text: text}
	if r.stream != runtime.Stdout && r.stream != runtime.Stderr {
		return record{}, errRecord
	}
	// The format allows further tags after a colon.
	switch tag, _, _ := bytes.Cut(tags, []byte{':'}); string(tag) {
	case "P":
		r.partial = true
	case "F":
	default:
		return record{}, errRecord
	}
	return r, nil
}

// joiner puts lines together from records.
type joiner struct {
	open []*openLine
}

type openLine struct {
	at     time.Time
	stream runtime.LogStream
	text   strings.Builder
}

// add takes a record and returns the entry that it completes, if any.
func (j *joiner) add(r record) (runtime.LogEntry, bool) {
	i := slices.IndexFunc(j.open, func(o *openLine) bool { return o.stream == r.stream })
	if i < 0 {
		if !r.partial {
			return runtime.LogEntry{Time: r.at, Stream: r.stream, Line: string(r.text)}, true
		}
		o := &openLine{at: r.at, stream: r.stream}
		o.text.Write(r.text)
		j.open = append(j.open, o)
		return runtime.LogEntry{}, false
	}
	o := j.open[i]
	if r.partial && o.text.Len()+len(r.text) > MaxLine {
		e := o.entry()
		j.open[i] = &openLine{at: r.at, stream: r.stream}
		j.open[i].text.Write(r.text)
		return e, true
	}
	o.text.Write(r.text)
	if r.partial {
		return runtime.LogEntry{}, false
	}
	j.open = slices.Delete(j.open, i, i+1)
	return o.entry(), true
}

// rest returns what is there of lines that were not completed.
func (j *joiner) rest() []runtime.LogEntry {
	var out []runtime.LogEntry
	for _, o := range j.open {
		out = append(out, o.entry())
	}
	j.open = nil
	slices.SortStableFunc(out, func(a, b runtime.LogEntry) int { return a.Time.Compare(b.Time) })
	return out
}

func (o *openLine) entry() runtime.LogEntry {
	return runtime.LogEntry{Time: o.at, Stream: o.stream, Line: o.text.String()}
}
