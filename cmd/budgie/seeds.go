package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/replica"
)

// seeds shows how the volumes of a joining replica come, one after the other: as a
// bar on a terminal, and elsewhere as lines. Its methods may be called concurrently.
type seeds struct {
	mu sync.Mutex
	bars
	began, said time.Time
	now         *seed
}

func (a *app) newSeeds() *seeds { return &seeds{bars: a.newBars()} }

// show takes an event: see [budgie.OnSeed].
func (d *seeds) show(name string, e budgie.SeedProgress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, volume := time.Now(), e.Volume.Target
	switch e.Step {
	case budgie.SeedKept:
		for i, c := range e.Report.Conflicts {
			switch {
			case i == mostSkipped:
				d.line("%s: volume %s: … and %d more", name, volume, len(e.Report.Conflicts)-i)
				return
			case c.Kept == "":
				d.line("%s: volume %s: %s had been removed from the copy of an earlier replica, and is there again", name, volume, c.Path)
			default:
				d.line("%s: volume %s: %s, as an earlier replica changed it, is now %s: take it from there, or remove it", name, volume, c.Path, c.Kept)
			}
		}
	case budgie.SeedStarted:
		d.settle()
		d.began, d.said = now, now
		d.line("%s: copying volume %s from node %.12s at %s", name, volume, e.Node, e.Addr)
		d.begin(name + " " + volume)
	case budgie.SeedReceiving:
		d.now.take(now, e)
		if !d.draws && now.Sub(d.said) >= saidEvery {
			d.said = now
			d.line("%s: volume %s: %s", name, volume, d.now.words(now))
		}
	case budgie.SeedFailed:
		d.settle()
		d.line("%s: volume %s did not come from node %.12s: %v", name, volume, e.Node, e.Err)
	case budgie.SeedDone:
		d.settle()
		r := e.Report
		d.line("%s: volume %s is here and verified: %s, %s, of which %s had to be sent, in %s", name, volume,
			entries(r.Files), size(uint64(r.Bytes)), size(uint64(r.Transferred)), now.Sub(d.began).Round(10*time.Millisecond))
		for i, path := range r.Mended {
			if i == mostSkipped {
				d.line("%s: volume %s: … and %d more", name, volume, len(r.Mended)-i)
				break
			}
			d.line("%s: volume %s: %s was spoiled here, and came anew", name, volume, path)
		}
		for i, path := range r.Skipped {
			if i == mostSkipped {
				d.line("%s: volume %s: … and %d more", name, volume, len(r.Skipped)-i)
				break
			}
			d.line("%s: volume %s: %s is not copied: it is no file, directory or link", name, volume, path)
		}
		for _, what := range r.NotKept {
			d.line("%s: volume %s: this user or file system cannot keep %s", name, volume, what)
		}
	}
}

// entries counts files and directories in words.
func entries(n int) string {
	if n == 1 {
		return "1 file or directory"
	}
	return fmt.Sprintf("%d files and directories", n)
}

// mostSkipped is how many files are named that were not copied, or put aside.
const mostSkipped = 5

// begin begins to show a copy.
func (d *seeds) begin(name string) {
	s := &seed{}
	if d.draws {
		s.bar = d.add(name, 0, decor.Any(func(decor.Statistics) string { return s.words(time.Now()) }, decor.WCSyncSpace))
	}
	d.now = s
}

// end shows what there is to show for the last time.
func (d *seeds) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle()
}

// seed is the copy of a volume on its way. Its methods may be called concurrently:
// the bar asks for the words when it is drawn.
type seed struct {
	bar *mpb.Bar // nil where none is drawn

	mu    sync.Mutex
	last  budgie.SeedProgress
	meter meter
}

// take notes how far it is.
func (s *seed) take(now time.Time, e budgie.SeedProgress) {
	s.mu.Lock()
	if e.Progress.Step != s.last.Progress.Step {
		s.meter = meter{}
	}
	s.last = e
	s.meter.note(now, e.Progress.Bytes)
	s.mu.Unlock()
	if s.bar != nil {
		s.bar.SetTotal(e.Progress.TotalBytes, false)
		s.bar.SetCurrent(e.Progress.Bytes)
	}
}

// words says how far it is.
func (s *seed) words(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.last.Progress
	done, total := size(uint64(max(0, p.Bytes))), size(uint64(p.TotalBytes))
	switch p.Step {
	case replica.Waiting:
		return "waiting for the list of what it has"
	case replica.Comparing:
		return fmt.Sprintf("comparing what is here, %s read", done)
	case replica.Receiving, replica.Verifying:
		verb := ""
		if p.Step == replica.Verifying {
			verb = "verifying "
		}
		return fmt.Sprintf("%s%d of %d files, %s of %s%s", verb, p.Files, p.TotalFiles, done, total, s.meter.words(now, p.TotalBytes))
	}
	return size(uint64(s.last.Received)) + " received" // a Syncer that says no more
}
