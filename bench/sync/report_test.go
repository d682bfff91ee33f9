package main

import (
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/benchreport"
)

func costOf(wall time.Duration, bytes, memory int64) cost {
	return cost{wall: wall, cpu: [2]time.Duration{wall / 2, wall / 4}, wire: [2]int64{bytes, bytes / 10}, memory: [2]int64{memory, memory / 2}}
}

func sampleResult() *result {
	r := &result{settings: settings{rounds: 3, files: 15_000, idle: 2, burst: 2}, machine: []string{"a machine"}}
	const s = time.Second
	for _, c := range []struct {
		name, way string
		costs     []cost
	}{
		{"First copy", nameRsync, []cost{costOf(3*s, 1000, 0), costOf(2*s, 1000, 0), costOf(9*s, 1000, 0)}},
		{"First copy", nameBudgie, []cost{costOf(3*s, 1000, 20<<20)}},
		{"First copy into memory (tmpfs), where fsync costs nothing", nameRsync, []cost{costOf(s, 1000, 0)}},
		{"First copy into memory (tmpfs), where fsync costs nothing", nameBudgie, []cost{costOf(2*s, 1000, 0)}},
		{"Nothing changed", nameRsync, []cost{costOf(s, 10, 0)}},
		{"Nothing changed", nameBudgie, []cost{costOf(s, 10, 0)}},
		{"One byte of the big file changed", nameRsync, []cost{costOf(2*s, 1000, 0)}},
		{"One byte of the big file changed", nameBudgie, []cost{costOf(s, 200, 0)}},
		{"One byte of the big file changed", nameFollow, []cost{costOf(s, 100, 0)}},
		{"A directory renamed", nameFollow, []cost{costOf(s, 300_000, 0)}},
		{"7 files: nothing changed", nameRsync, []cost{costOf(2*s, 10, 0)}},
		{"7 files: nothing changed", nameBudgie, []cost{costOf(2*s, 10, 100<<20)}},
		{"7 files: nothing changed", nameKnown, []cost{costOf(s, 10, 0)}},
	} {
		for _, one := range c.costs {
			r.add(c.name).note(c.way, one)
		}
	}
	r.visible = []visible{{name: nameBudgie, idle: benchreport.Sample{s / 10, s / 5}, burst: benchreport.Sample{s, 2 * s}, took: 4 * s}}
	return r
}

func TestMarkdown(t *testing.T) {
	text := sampleResult().markdown()
	for _, want := range []string{
		"- a machine\n",
		"| rsync | 3 | 3.00 s | 1.00 | 1.50 s | 0.75 s | 1000 | 100 | 0 MiB | 0 MiB |\n",
		"| Budgie | 1 | 3.00 s | 1.00 | 1.50 s | 0.75 s | 1000 | 100 | 20 MiB | 10 MiB |\n",
		"| Budgie | 100 | 200 | 1000 | 2000 | 4.0 s |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}

// Every aim is judged by its own numbers.
func TestAims(t *testing.T) {
	want := []bool{true, false, false, true, false, false, true, false, true}
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
