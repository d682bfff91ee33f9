package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/benchreport"
)

// Names of what is measured.
const (
	nameBackends  = "no proxy: the backends"
	nameHAProxy   = "HAProxy"
	nameNginx     = "nginx"
	nameCaddy     = "Caddy"
	nameReverse   = "httputil.ReverseProxy"
	nameBudgie    = "Budgie"
	nameHATCP     = "HAProxy, TCP"
	nameBudgieTCP = "Budgie, TCP"
)

// settings are how much is measured.
type settings struct {
	rounds     int
	each, idle time.Duration
	only       *regexp.Regexp // names of proxies
	loads      []load
}

// cost is what was measured of a proxy under a load.
type cost struct {
	answers
	cpu    time.Duration
	memory int64 // bytes
}

// cpuPer is the processor time for 100,000 requests, in seconds.
func (c cost) cpuPer() float64 {
	if c.requests == 0 {
		return 0
	}
	return c.cpu.Seconds() / float64(c.requests) * 100_000
}

// row is what was measured of a proxy under a load, round by round.
type row struct {
	name   string
	rounds []cost
}

// table is what was measured under a load.
type table struct {
	load load
	rows []*row
}

type result struct {
	settings
	machine  string
	versions []string
	tables   []*table

	idleMemory int64
	idleCPU    float64 // of one processor
}

func (r *result) note(l load, name string, c cost) {
	t := r.of(l)
	if t == nil {
		t = &table{load: l}
		r.tables = append(r.tables, t)
	}
	if found := t.of(name); found != nil {
		found.rounds = append(found.rounds, c)
		return
	}
	t.rows = append(t.rows, &row{name, []cost{c}})
}

func (r *result) of(l load) *table {
	if i := slices.IndexFunc(r.tables, func(t *table) bool { return t.load == l }); i >= 0 {
		return r.tables[i]
	}
	return nil
}

func (t *table) of(name string) *row {
	if i := slices.IndexFunc(t.rows, func(r *row) bool { return r.name == name }); i >= 0 {
		return t.rows[i]
	}
	return nil
}

// median is that of a number over the rounds.
func (r *row) median(of func(cost) float64) float64 {
	all := make([]float64, 0, len(r.rounds))
	for _, c := range r.rounds {
		all = append(all, of(c))
	}
	return median(all)
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	half := len(all) / 2
	if len(all)%2 == 1 {
		return all[half]
	}
	return (all[half-1] + all[half]) / 2
}

func rate(c cost) float64 { return c.rate }
func tail(c cost) float64 { return c.p99.Seconds() }

// ratio is the median of the ratios of a number to another proxy's in the same
// round, 0 where there is none.
func (t *table) ratio(name, to string, of func(cost) float64) float64 {
	a, b := t.of(name), t.of(to)
	if a == nil || b == nil {
		return 0
	}
	var all []float64
	for i := range min(len(a.rounds), len(b.rounds)) {
		if by := of(b.rounds[i]); by > 0 {
			all = append(all, of(a.rounds[i])/by)
		}
	}
	return median(all)
}

// rival is whom a proxy is compared with: the HAProxy of its mode.
func rival(name string) string {
	if name == nameBudgieTCP || name == nameHATCP {
		return nameHATCP
	}
	return nameHAProxy
}

func (r *result) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n%s.\n%d rounds, %v each.\n", r.machine, strings.Join(r.versions, "; "), r.settings.rounds, r.each)
	order := []string{nameHAProxy, nameNginx, nameCaddy, nameReverse, nameBudgie, nameHATCP, nameBudgieTCP, nameBackends}
	for _, t := range r.tables {
		fmt.Fprintf(&b, "\n### %v\n\n", t.load)
		b.WriteString("| | requests/s | of HAProxy | median | 99 % | 99 % of HAProxy's | CPU s per 100,000 | memory |\n")
		b.WriteString("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
		for _, name := range order {
			if row := t.of(name); row != nil {
				t.write(&b, row)
			}
		}
	}
	if r.idleMemory > 0 {
		fmt.Fprintf(&b, "\n### Idle\n\nBudgie with 100 backends, each probed by a request every 2 s, and no client: %.1f MiB, %.2f %% of a processor.\n",
			float64(r.idleMemory)/(1<<20), 100*r.idleCPU)
	}
	aims := r.aims()
	return b.String() + aims.Markdown()
}

func (t *table) write(b *strings.Builder, r *row) {
	of := rival(r.name)
	ms := func(of func(cost) float64) string { return fmt.Sprintf("%.2f ms", 1000*r.median(of)) }
	fmt.Fprintf(b, "| %s | %.0f | %s | %s | %s | %s ", r.name, r.median(rate), benchreport.Times(t.ratio(r.name, of, rate)),
		ms(func(c cost) float64 { return c.answers.median.Seconds() }), ms(tail), benchreport.Times(t.ratio(r.name, of, tail)))
	if r.name == nameBackends {
		b.WriteString("| - | - ")
	} else {
		fmt.Fprintf(b, "| %.2f | %.1f MiB ", r.median(cost.cpuPer), r.median(func(c cost) float64 { return float64(c.memory) / (1 << 20) }))
	}
	b.WriteString("|\n")
	var failed int64
	for _, c := range r.rounds {
		failed += c.failed
	}
	if failed > 0 {
		fmt.Fprintf(b, "| ↳ of these failed | %d | | | | | | |\n", failed)
	}
}

// What is wanted of every load.
const (
	ofHAProxy = 0.9
	ofCaddy   = 3
	// sameTail is how much more than another 99th percentile is not told apart from
	// it: on a machine that others use it differs by as much between rounds.
	sameTail = 1.1
	idleMiB  = 40
)

func (r *result) aims() benchreport.Aims {
	var all benchreport.Aims
	for _, t := range r.tables {
		add := func(what, name, to string, of func(cost) float64, met func(float64) bool) {
			if got := t.ratio(name, to, of); got > 0 {
				all.Add(fmt.Sprintf("%v: %s", t.load, what), benchreport.Times(got), met(got))
			}
		}
		add("HTTP at least 0.9 of HAProxy", nameBudgie, nameHAProxy, rate, func(f float64) bool { return f >= ofHAProxy })
		add("HTTP at least 3 times Caddy", nameBudgie, nameCaddy, rate, func(f float64) bool { return f >= ofCaddy })
		add("HTTP 99th percentile no worse than HAProxy's", nameBudgie, nameHAProxy, tail, func(f float64) bool { return f <= sameTail })
		add("TCP level with HAProxy's", nameBudgieTCP, nameHATCP, rate, func(f float64) bool { return f >= 1 })
		add("TCP 99th percentile no worse than HAProxy's", nameBudgieTCP, nameHATCP, tail, func(f float64) bool { return f <= sameTail })
	}
	if r.idleMemory > 0 {
		got := float64(r.idleMemory) / (1 << 20)
		all.Add("idle with 100 backends: under 40 MiB, 1 % of a processor", fmt.Sprintf("%.1f MiB, %.2f %%", got, 100*r.idleCPU), got < idleMiB && r.idleCPU < 0.01)
	}
	return all
}
