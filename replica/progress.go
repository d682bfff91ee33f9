package replica

import (
	"context"
	"time"
)

// Step is a part of the work of making a copy.
type Step string

// The steps, in their order. A source that does not hold still has Receive go
// through all but the last again.
const (
	// Waiting: the source lists what it has.
	Waiting Step = "waiting"
	// Comparing: what the copy has already is read. How much that is is not known
	// before.
	Comparing Step = "comparing"
	// Receiving: what the copy lacks is on its way.
	Receiving Step = "receiving"
	// Verifying: the copy is read again.
	Verifying Step = "verifying"
)

// Progress says how far a copy is. Other names of a file, directories and links do
// not count.
type Progress struct {
	// Step is what is being done.
	Step Step
	// Files is how many files are done with, of TotalFiles; while receiving, those
	// that the copy had count too.
	Files, TotalFiles int
	// Bytes is the size of what is done with, of TotalBytes, parts of files included,
	// wherever they come from. It falls where a part has to come again.
	Bytes, TotalBytes int64
}

// ReceiveOptions are the parts of a Receive that its caller may have. The zero
// value has none.
type ReceiveOptions struct {
	// Tell is called when the progress has changed, a few times a second at most and
	// once when the copy is complete, by one goroutine at a time. The copy waits for
	// it.
	Tell func(Progress)
	// Full has both sides read every file again, also those whose size and times say
	// that they are what they were. What differs is named in the report
	// ([Report].Mended, and Conflicts where the copy remembers) and comes anew. A
	// sender that speaks version 2 of the protocol does not read again.
	Full bool
}

// tellEvery is how often progress is told.
const tellEvery = 200 * time.Millisecond

// progress tells somebody how far a copy is. A nil one does nothing.
type progress struct {
	tell func(Progress)
	now  Progress
	told time.Time
}

// begin begins a step.
func (p *progress) begin(now Progress) {
	if p == nil {
		return
	}
	p.now = now
	p.say()
}

// beginReceiving begins the step by what a manifest has, and a plan has to bring.
func (p *progress) beginReceiving(m *manifest, todo plan) {
	if p == nil {
		return
	}
	now := Progress{Step: Receiving, TotalFiles: m.files(), TotalBytes: m.total}
	files, bytes := todo.size(m)
	now.Files, now.Bytes = now.TotalFiles-files, now.TotalBytes-bytes
	p.begin(now)
}

// add notes that more was done, or has to be done again.
func (p *progress) add(files int, bytes int64) {
	if p == nil || files == 0 && bytes == 0 {
		return
	}
	p.now.Files += files
	p.now.Bytes += bytes
	if total := p.now.TotalBytes; p.now.Step != Comparing {
		// What else is in the copy, or comes to be while it is read, is read as well.
		p.now.Bytes = min(p.now.Bytes, total)
		p.now.Files = min(p.now.Files, p.now.TotalFiles)
	}
	if time.Since(p.told) >= tellEvery {
		p.say()
	}
}

func (p *progress) say() {
	p.told = time.Now()
	p.tell(p.now)
}

// files counts the files of a manifest, each by its first name.
func (m *manifest) files() int {
	n := 0
	for _, e := range m.entries {
		if e.kind == kindFile {
			n++
		}
	}
	return n
}

// size returns how many files a plan brings into place, and their bytes.
func (p plan) size(m *manifest) (files int, bytes int64) {
	for _, e := range p.copies {
		bytes += e.size
	}
	for _, e := range p.again {
		bytes += e.size
	}
	for _, i := range p.wanted {
		bytes += m.entries[i].size
	}
	return len(p.copies) + len(p.wanted) + len(p.again), bytes
}

// complete is the progress of a copy that is as m.
func complete(m *manifest) Progress {
	now := Progress{Step: Verifying, TotalFiles: m.files(), TotalBytes: m.total}
	now.Files, now.Bytes = now.TotalFiles, now.TotalBytes
	return now
}

// counted counts what is read.
type counted struct {
	contentWriter
	s *scanner
}

// Write implements contentWriter.
func (c counted) Write(p []byte) (int, error) {
	c.s.count(0, int64(len(p)))
	return c.contentWriter.Write(p)
}

// Zeros implements contentWriter.
func (c counted) Zeros(ctx context.Context, n int64) error {
	c.s.count(0, n)
	return c.contentWriter.Zeros(ctx, n)
}
