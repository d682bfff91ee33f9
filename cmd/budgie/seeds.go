package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/budgiehq/budgie"
)

// seeds shows how the volumes of a joining replica come, as lines. Its methods
// may be called concurrently.
type seeds struct {
	out io.Writer

	mu          sync.Mutex
	began, said time.Time
}

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
		d.began, d.said = now, now
		d.line("%s: copying volume %s from node %.12s at %s", name, volume, e.Node, e.Addr)
	case budgie.SeedReceiving:
		if now.Sub(d.said) >= saidEvery {
			d.said = now
			d.line("%s: volume %s: %s received", name, volume, size(uint64(e.Received)))
		}
	case budgie.SeedFailed:
		d.line("%s: volume %s did not come from node %.12s: %v", name, volume, e.Node, e.Err)
	case budgie.SeedDone:
		r := e.Report
		d.line("%s: volume %s is here and verified: %s, %s, of which %s had to be sent, in %s", name, volume,
			entries(r.Files), size(uint64(r.Bytes)), size(uint64(r.Transferred)), now.Sub(d.began).Round(10*time.Millisecond))
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

// line prints a line. What is in it may come from another node.
func (d *seeds) line(format string, args ...any) {
	fmt.Fprintln(d.out, printable(fmt.Sprintf(format, args...)))
}
