package main

import (
	"strings"
	"testing"
	"time"
)

func sampleResult() result {
	one := func(took, whole time.Duration) fetches { return fetches{{took: took, whole: whole, bytes: 301 * mega}} }
	const s = time.Second
	return result{
		settings: settings{rounds: 1, limited: 1, size: 300, rate: 25},
		machine:  []string{"a machine"},
		whole:    pair{one(2*s, 0), one(s, 3*s)},
		changed:  pair{one(2*s, 0), one(3*s, 4*s)},
		slow:     slow{registry: one(10*s, 0), one: one(11*s, 0), two: one(5*s, 0)},
	}
}

func TestMarkdown(t *testing.T) {
	text := sampleResult().markdown()
	for _, want := range []string{
		"- a machine\n",
		"| `ctr images pull` | 2.00 s | 2.00 s | 2.00 s | 1.00 | 301.0 MB |\n",
		"| `budgie chirp -d`, its fetch | 1.00 s | 1.00 s | 1.00 s | 0.50 | 301.0 MB |\n",
		"| `budgie chirp -d`, until the replica is ready | 3.00 s | 3.00 s | 3.00 s | 1.50 | 301.0 MB |\n",
		"| `budgie chirp -d`, its fetch, from two peers | 5.00 s |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}

// Every aim is judged by its own numbers.
func TestAims(t *testing.T) {
	want := []bool{true, false, false, true}
	got := sampleResult().aims()
	if len(got) != len(want) {
		t.Fatalf("there are %d aims: %+v", len(got), got)
	}
	for i, a := range got {
		if a.Met != want[i] {
			t.Errorf("%s: %s, met: %t", a.What, a.Measured, a.Met)
		}
	}
}
