package main

import (
	"strings"
	"testing"

	"github.com/budgiehq/budgie/balance/behaviourtest"
)

func TestCells(t *testing.T) {
	var (
		passed  = behaviourtest.Verdict{}
		failed  = behaviourtest.Verdict{Problems: []string{"got 200"}}
		skipped = behaviourtest.Verdict{Skipped: "it has none"}
		both    = []behaviourtest.Front{behaviourtest.HTTP1, behaviourtest.H2C}
	)
	for _, c := range []struct {
		h1, h2c behaviourtest.Verdict
		want    string
	}{
		{passed, passed, "yes"},
		{failed, failed, "**no**"},
		{passed, failed, "**not** h2c"},
		{failed, skipped, "**no**"},
		{passed, skipped, "yes (h1)"},
		{skipped, skipped, "–"},
	} {
		got := cell(both, map[behaviourtest.Front]behaviourtest.Verdict{behaviourtest.HTTP1: c.h1, behaviourtest.H2C: c.h2c})
		if got != c.want {
			t.Errorf("got %q; want %q", got, c.want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	cases := []behaviourtest.Case{
		{Group: "health", Name: "one", Demand: "does it", Fronts: []behaviourtest.Front{behaviourtest.HTTP1}},
		{Group: "health", Name: "two", Demand: "does that", Fronts: []behaviourtest.Front{behaviourtest.HTTP1, behaviourtest.H2}},
	}
	good, bad := newColumn("Good", cases), newColumn("Bad", cases)
	for i, c := range cases {
		for _, f := range c.Fronts {
			good.set(i, f, behaviourtest.Verdict{})
			bad.set(i, f, behaviourtest.Verdict{Problems: []string{"got `x`\nand more"}})
		}
	}
	bad.set(0, behaviourtest.HTTP1, behaviourtest.Verdict{Skipped: "it has none"})
	r := result{machine: []string{"a machine"}, cases: cases, columns: []column{good, bad}}
	text := r.markdown()
	for _, want := range []string{
		"- a machine\n",
		"| Good | 3 | 0 | 0 |\n| Bad | 0 | 2 | 1 |\n",
		"### Health\n\n| case | demands | Good | Bad |\n",
		"| one | does it | yes | – |\n| two | does that | yes | **no** |\n",
		"- one: `it has none`\n- two: `got 'x' and more`\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}
