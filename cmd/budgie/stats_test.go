package main

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0B", 1: "1B", 1023: "1023B", 1024: "1KiB", 1536: "1.5KiB", 10 << 10: "10KiB", 999 << 10: "999KiB",
		1000 << 10: "0.977MiB", 1 << 20: "1MiB", 123456789: "118MiB", 1 << 30: "1GiB", 1 << 40: "1TiB", 1 << 50: "1PiB",
		math.MaxUint64: "16EiB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}

// TestStatsTable: what is not known is a dash.
func TestStatsTable(t *testing.T) {
	named := func(name string) lifecycle.Container { return lifecycle.Container{Name: name} }
	var out strings.Builder
	writeStats(&out, []usage{
		{container: named("all"), hasCPU: true, cpu: 1.5, now: runtime.Stats{
			Memory: 1 << 20, MemoryLimit: 4 << 20, IO: &runtime.IOStats{Read: 2048, Written: 5}, Processes: 3}},
		{container: named("first"), now: runtime.Stats{Memory: 1 << 20, MemoryLimit: 1 << 30, Processes: 1}},
		{container: named("bad\x1bname"), err: errors.New("unknown")},
	})
	want := `NAME      CPU %    MEM / LIMIT  MEM %   I/O        PIDS
all       150.00%  1MiB / 4MiB  25.00%  2KiB / 5B  3
first     -        1MiB / 1GiB  0.10%   -          1
bad?name  -        -            -       -          -
`
	if out.String() != want {
		t.Errorf("the table is\n%s, want\n%s", &out, want)
	}
}
