package main

import (
	"fmt"
	"strings"

	"github.com/budgiehq/budgie/internal/benchreport"
)

// mostMemory is what a side may have at 100,000 files, in bytes.
const mostMemory = 100 << 20

// aim is what is wanted of a comparison.
type aim struct {
	// of is how its name begins, or ends.
	of   string
	what string
	// most is which share of rsync's time it may take, and mostWire of its bytes, 0
	// for any.
	most, mostWire float64
}

var wanted = []aim{
	{of: "First copy", what: "first copy: no slower than rsync, though encrypted, verified and synced to the disk", most: 1},
	{of: "Nothing changed", what: "nothing changed: at most half of rsync's time", most: 0.5},
	{of: "One byte", what: "one byte: at most half of rsync's time, a tenth of its bytes", most: 0.5, mostWire: 0.1},
	{of: "100 bytes", what: "insertion: at most half of rsync's time, a tenth of its bytes", most: 0.5, mostWire: 0.1},
}

// aims judges what was measured.
func (r *result) aims() benchreport.Aims {
	var all benchreport.Aims
	for _, c := range r.comparisons {
		for _, a := range wanted {
			if strings.HasPrefix(c.name, a.of) && !strings.Contains(c.name, "tmpfs") {
				a.judge(c, &all)
			}
		}
		if got, ok := c.of(nameBudgie); ok && strings.HasSuffix(c.name, ": nothing changed") {
			rsync, _ := c.of(nameRsync)
			share := benchreport.Ratio(got.wall, rsync.wall)
			all.Add(c.name+": at most half of rsync's time", benchreport.Times(share), share <= 0.5)
			if known, ok := c.of(nameKnown); ok {
				share := benchreport.Ratio(known.wall, rsync.wall)
				all.Add(c.name+", from a node whose volume is followed: the same", benchreport.Times(share), share <= 0.5)
			}
			memory := max(got.memory[0], got.memory[1])
			all.Add(c.name+": memory of each side under "+mebi(mostMemory), mebi(memory), memory < mostMemory)
		}
		if got, ok := c.of(nameFollow); ok && strings.HasPrefix(c.name, "A directory") {
			moved := got.wire[0] + got.wire[1]
			all.Add("rename while following: no data (1,000 entries are named anew, in 300 kB at most)", fmt.Sprintf("%d bytes", moved), moved < 300_000)
		}
	}
	for _, v := range r.visible {
		if v.name == nameBudgie {
			all.Add("a write is seen in well under a second: idle, 99th percentile", millis(v.idle.Quantile(0.99))+" ms", v.idle.Quantile(0.99).Seconds() < 0.5)
		}
	}
	return all
}

// judge judges each of Budgie's ways.
func (a aim) judge(c *comparison, all *benchreport.Aims) {
	rsync, _ := c.of(nameRsync)
	for _, way := range []string{nameBudgie, nameFollow} {
		got, ok := c.of(way)
		if !ok {
			continue
		}
		share := benchreport.Ratio(got.wall, rsync.wall)
		measured, met := benchreport.Times(share)+" of the time", share <= a.most
		if a.mostWire > 0 {
			share := benchreport.Ratio(got.wire[0]+got.wire[1], rsync.wire[0]+rsync.wire[1])
			measured += fmt.Sprintf(", %.3f of the bytes", share)
			met = met && share <= a.mostWire
		}
		all.Add(way+": "+a.what, measured, met)
	}
}
