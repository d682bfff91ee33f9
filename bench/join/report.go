package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/benchreport"
)

// mega is a million: sizes and rates are decimal, as those of networks are.
const mega = 1_000_000

// layers is how many of the same size an image has.
const layers = 3

// settings are how much is measured.
type settings struct {
	rounds, limited int
	// size is that of the image, in millions of bytes, and rate that of the
	// limited links, in millions of bytes per second.
	size, rate int
}

// fetch is how an image was fetched.
type fetch struct {
	// took is until it was unpacked, whole until the replica was ready, where
	// there is one.
	took, whole time.Duration
	// bytes came over the network.
	bytes int64
}

type fetches []fetch

func (f fetches) sample(of func(fetch) time.Duration) benchreport.Sample {
	var s benchreport.Sample
	for _, one := range f {
		s = append(s, of(one))
	}
	return s
}

func (f fetches) took() benchreport.Sample {
	return f.sample(func(one fetch) time.Duration { return one.took })
}

func (f fetches) whole() benchreport.Sample {
	return f.sample(func(one fetch) time.Duration { return one.whole })
}

// bytes returns the median, 0 of none.
func (f fetches) bytes() int64 {
	var all []int64
	for _, one := range f {
		all = append(all, one.bytes)
	}
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	return all[(len(all)-1)/2]
}

// pair is both ways to get the same image.
type pair struct{ registry, peer fetches }

// slow is what was measured over limited links: from the registry, from one peer,
// from two.
type slow struct{ registry, one, two fetches }

// result is all that was measured.
type result struct {
	settings       settings
	machine        []string
	whole, changed pair
	slow           slow
}

const tableHead = "| | median | fastest | slowest | of the registry | received |\n| --- | ---: | ---: | ---: | ---: | ---: |\n"

// row is a line of a table.
func row(name string, s, registry benchreport.Sample, bytes int64) string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %.1f MB |\n", name, seconds(s.Median()), seconds(s.Quantile(0)), seconds(s.Quantile(1)),
		benchreport.Times(benchreport.Ratio(s.Median(), registry.Median())), float64(bytes)/mega)
}

const (
	nameRegistry = "`ctr images pull`"
	namePeer     = "`budgie chirp -d`, its fetch"
	nameJoin     = "`budgie chirp -d`, until the replica is ready"
)

func (p pair) table() string {
	registry := p.registry.took()
	return tableHead + row(nameRegistry, registry, registry, p.registry.bytes()) +
		row(namePeer, p.peer.took(), registry, p.peer.bytes()) + row(nameJoin, p.peer.whole(), registry, p.peer.bytes())
}

// markdown is the section of the documentation.
func (r result) markdown() string {
	var b strings.Builder
	for _, line := range r.machine {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	fmt.Fprintf(&b, "\n### An image of %d MB\n\n%d rounds.\n\n%s", r.settings.size, r.settings.rounds, r.whole.table())
	fmt.Fprintf(&b, "\n### Another version of it, with one layer of %d changed\n\n%d rounds.\n\n%s", layers, r.settings.rounds, r.changed.table())
	fmt.Fprintf(&b, "\n### Over links of %d MB/s\n\n%d rounds.\n\n%s", r.settings.rate, r.settings.limited, tableHead)
	registry := r.slow.registry.took()
	b.WriteString(row(nameRegistry, registry, registry, r.slow.registry.bytes()))
	b.WriteString(row(namePeer+", from one peer", r.slow.one.took(), registry, r.slow.one.bytes()))
	b.WriteString(row(namePeer+", from two peers", r.slow.two.took(), registry, r.slow.two.bytes()))
	b.WriteString(r.aims().Markdown())
	return b.String()
}

// The aims, as shares of what the registry needs and of what one peer brings.
const (
	mostOfRegistry = 1.0
	leastOfTwo     = 1.6
)

func (r result) aims() benchreport.Aims {
	var all benchreport.Aims
	for _, a := range []struct {
		what string
		pair
	}{{"the image", r.whole}, {"its other version", r.changed}} {
		got := benchreport.Ratio(a.peer.took().Median(), a.registry.took().Median())
		all.Add("the fetch of "+a.what+": no slower than `ctr images pull`", benchreport.Times(got), noSlower(got))
	}
	one := benchreport.Ratio(r.slow.one.took().Median(), r.slow.registry.took().Median())
	all.Add("over limited links, the fetch from one peer: no slower than `ctr images pull`", benchreport.Times(one), noSlower(one))
	got := benchreport.Ratio(r.slow.one.took().Median(), r.slow.two.took().Median())
	all.Add(fmt.Sprintf("over limited links, two peers: at least %.1f times as fast as one", leastOfTwo), benchreport.Times(got), got >= leastOfTwo)
	return all
}

// noSlower judges a ratio as it is printed.
func noSlower(ratio float64) bool {
	return ratio > 0 && math.Round(100*ratio) <= 100*mostOfRegistry
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
