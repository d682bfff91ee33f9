package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/budgiehq/budgie/balance/behaviourtest"
)

// column is how one proxy did.
type column struct {
	name     string
	mu       *sync.Mutex
	verdicts []map[behaviourtest.Front]behaviourtest.Verdict // by the number of the case
}

func newColumn(name string, cases []behaviourtest.Case) column {
	c := column{name: name, mu: new(sync.Mutex), verdicts: make([]map[behaviourtest.Front]behaviourtest.Verdict, len(cases))}
	for i := range c.verdicts {
		c.verdicts[i] = map[behaviourtest.Front]behaviourtest.Verdict{}
	}
	return c
}

// set notes a verdict. It may be called concurrently.
func (c column) set(i int, f behaviourtest.Front, v behaviourtest.Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verdicts[i][f] = v
}

// result is how all did.
type result struct {
	machine []string
	cases   []behaviourtest.Case
	columns []column
}

// short names a front in a cell.
func short(f behaviourtest.Front) string {
	switch f {
	case behaviourtest.HTTP1:
		return "h1"
	case behaviourtest.TLS1:
		return "h1 TLS"
	case behaviourtest.H2C:
		return "h2c"
	}
	return "h2 TLS"
}

// cell says over which fronts a proxy does what a case demands.
func cell(fronts []behaviourtest.Front, verdicts map[behaviourtest.Front]behaviourtest.Verdict) string {
	var failed, passed []string
	for _, f := range fronts {
		switch v := verdicts[f]; {
		case v.Passed():
			passed = append(passed, short(f))
		case v.Skipped == "":
			failed = append(failed, short(f))
		}
	}
	switch {
	case len(failed) > 0 && len(passed) > 0:
		return "**not** " + strings.Join(failed, ", ")
	case len(failed) > 0:
		return "**no**"
	case len(passed) == len(fronts):
		return "yes"
	case len(passed) > 0:
		return "yes (" + strings.Join(passed, ", ") + ")"
	}
	return "–"
}

// markdown is the section of the documentation.
func (r *result) markdown() string {
	var b strings.Builder
	for _, line := range r.machine {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	b.WriteString("\n" + r.sums())
	group := ""
	for i, c := range r.cases {
		if c.Group != group {
			group = c.Group
			b.WriteString("\n### " + strings.ToUpper(group[:1]) + group[1:] + "\n\n| case | demands |")
			for _, col := range r.columns {
				b.WriteString(" " + col.name + " |")
			}
			b.WriteString("\n| --- | --- |" + strings.Repeat(" --- |", len(r.columns)) + "\n")
		}
		fmt.Fprintf(&b, "| %s | %s |", c.Name, c.Demand)
		for _, col := range r.columns {
			b.WriteString(" " + cell(c.Fronts, col.verdicts[i]) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString(r.seen())
	return b.String()
}

// sums counts cases, each over each of its fronts.
func (r *result) sums() string {
	var b strings.Builder
	b.WriteString("| | passed | failed | does not apply |\n| --- | ---: | ---: | ---: |\n")
	for _, col := range r.columns {
		var passed, failed, skipped int
		for i, c := range r.cases {
			for _, f := range c.Fronts {
				switch v := col.verdicts[i][f]; {
				case v.Passed():
					passed++
				case v.Skipped != "":
					skipped++
				default:
					failed++
				}
			}
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", col.name, passed, failed, skipped)
	}
	return b.String()
}

// seen lists what was seen instead of what was demanded, once where it was the same
// over several fronts.
func (r *result) seen() string {
	var b strings.Builder
	for _, col := range r.columns {
		var lines []string
		for i, c := range r.cases {
			for _, f := range c.Fronts {
				v := col.verdicts[i][f]
				text := v.Skipped
				if len(v.Problems) > 0 {
					text = v.Problems[0]
				}
				if text == "" {
					continue
				}
				line := fmt.Sprintf("- %s: `%s`", c.Name, clean(text))
				if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "- "+c.Name+": ") }) {
					lines = append(lines, line)
				}
			}
		}
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n<details><summary>What was seen of %s, over the first front where it was seen</summary>\n\n%s\n\n</details>\n",
				col.name, strings.Join(lines, "\n"))
		}
	}
	return b.String()
}

// clean makes a line of code of a text, of bounded length.
func clean(text string) string {
	text = strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "`", "'")
	if r := []rune(text); len(r) > 240 {
		text = string(r[:240]) + "…"
	}
	return text
}
