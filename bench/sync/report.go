package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/benchreport"
)

// smallSize is how many bytes small files have on average.
const smallSize = 4096

// Names of ways.
const (
	nameRsync  = "rsync"
	nameFsync  = "rsync --fsync"
	nameBudgie = "Budgie"
	nameFollow = "Budgie, following"
	nameKnown  = "Budgie, from a node whose volume another replica follows"
)

// settings are how much is measured.
type settings struct {
	rounds, files, big, many, idle, burst int
	// rate is that of the limited link, in millions of bytes per second.
	rate int
}

// cost is what it took to make or update a copy. The first of two numbers is of
// the side with the source, or of bytes to the copy; the second is of the copy's
// side, or of bytes to the source's.
type cost struct {
	wall   time.Duration
	cpu    [2]time.Duration
	wire   [2]int64
	memory [2]int64
}

// comparison is the same done in several ways.
type comparison struct {
	name string
	ways []measured
}

type measured struct {
	name  string
	costs []cost
}

func (c *comparison) note(way string, got cost) {
	for i := range c.ways {
		if c.ways[i].name == way {
			c.ways[i].costs = append(c.ways[i].costs, got)
			return
		}
	}
	c.ways = append(c.ways, measured{way, []cost{got}})
}

// median returns the middle of the measurements, number by number; of an even
// number, the mean of the middle two.
func (m measured) median() cost {
	var c cost
	c.wall = time.Duration(middle(m.costs, func(c cost) int64 { return int64(c.wall) }))
	for i := range 2 {
		c.cpu[i] = time.Duration(middle(m.costs, func(c cost) int64 { return int64(c.cpu[i]) }))
		c.wire[i] = middle(m.costs, func(c cost) int64 { return c.wire[i] })
		c.memory[i] = middle(m.costs, func(c cost) int64 { return c.memory[i] })
	}
	return c
}

func middle(costs []cost, of func(cost) int64) int64 {
	var all []int64
	for _, c := range costs {
		all = append(all, of(c))
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// of returns the median of a way, false where it was not measured.
func (c *comparison) of(way string) (cost, bool) {
	for _, m := range c.ways {
		if m.name == way {
			return m.median(), true
		}
	}
	return cost{}, false
}

// visible is how long what was written took to be seen in a copy.
type visible struct {
	name        string
	idle, burst benchreport.Sample
	// took is for how long the burst was written.
	took time.Duration
	// failed says why there are no measurements.
	failed error
}

// result is all that was measured.
type result struct {
	settings    settings
	machine     []string
	comparisons []*comparison
	visible     []visible
}

// add returns the comparison of a name, a new one where there is none.
func (r *result) add(name string) *comparison {
	for _, c := range r.comparisons {
		if c.name == name {
			return c
		}
	}
	c := &comparison{name: name}
	r.comparisons = append(r.comparisons, c)
	return c
}

// markdown is the section of the documentation.
func (r *result) markdown() string {
	var b strings.Builder
	for _, line := range r.machine {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	for _, c := range r.comparisons {
		b.WriteString("\n### " + c.name + "\n\n" + c.table())
	}
	fmt.Fprintf(&b, "\n### From a write to its being seen in the copy\n\nA tree of %d small files, in which %d files were written one after the other, and then %d at 1,000 a second. In milliseconds.\n\n",
		r.settings.files, r.settings.idle, r.settings.burst)
	b.WriteString("| | idle, median | 99th percentile | burst, median | 99th percentile | written in |\n| --- | ---: | ---: | ---: | ---: | ---: |\n")
	for _, v := range r.visible {
		if v.failed != nil {
			fmt.Fprintf(&b, "| %s | not measured: %s | | | | |\n", v.name, strings.Join(strings.Fields(v.failed.Error()), " "))
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %.1f s |\n", v.name, millis(v.idle.Median()), millis(v.idle.Quantile(0.99)),
			millis(v.burst.Median()), millis(v.burst.Quantile(0.99)), v.took.Seconds())
	}
	b.WriteString(r.aims().Markdown())
	return b.String()
}

func millis(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

func (c *comparison) table() string {
	var b strings.Builder
	b.WriteString("| | runs | time | of rsync's | CPU, source | CPU, copy | bytes to the copy | bytes to the source | memory, source | memory, copy |\n")
	b.WriteString("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	rsync, _ := c.of(nameRsync)
	for _, m := range c.ways {
		got := m.median()
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %d | %d | %s | %s |\n", m.name, len(m.costs), seconds(got.wall), benchreport.Times(benchreport.Ratio(got.wall, rsync.wall)),
			seconds(got.cpu[0]), seconds(got.cpu[1]), got.wire[0], got.wire[1], mebi(got.memory[0]), mebi(got.memory[1]))
	}
	return b.String()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func mebi(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
