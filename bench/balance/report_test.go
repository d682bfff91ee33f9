package main

import (
	"strings"
	"testing"
	"time"
)

func TestMarkdown(t *testing.T) {
	l := loadOf(1<<10, false, 64)
	r := result{settings: settings{rounds: 3, each: time.Second}, machine: "a machine", versions: []string{"v1"}, idleMemory: 20 << 20, idleCPU: 0.002}
	for i, rates := range [][2]float64{{100, 95}, {50, 40}, {200, 190}} {
		r.note(l, nameHAProxy, cost{answers: answers{requests: 1000, rate: rates[0], median: time.Millisecond, p99: 2 * time.Millisecond}, cpu: time.Second, memory: 10 << 20})
		r.note(l, nameBudgie, cost{answers: answers{requests: 1000, rate: rates[1], median: time.Millisecond, p99: 6 * time.Millisecond, failed: int64(i)}, cpu: 2 * time.Second, memory: 30 << 20})
	}
	text := r.markdown()
	for _, want := range []string{
		"### 1 KiB, 64 connections, kept alive\n",
		"| HAProxy | 100 | 1.00 | 1.00 ms | 2.00 ms | 1.00 | 100.00 | 10.0 MiB |\n",
		"| Budgie | 95 | 0.95 | 1.00 ms | 6.00 ms | 3.00 | 200.00 | 30.0 MiB |\n",
		"| ↳ of these failed | 3 | | | | | | |\n",
		"20.0 MiB, 0.20 % of a processor",
		"HTTP at least 0.9 of HAProxy | 0.95 | met |",
		"HTTP 99th percentile no worse than HAProxy's | 3.00 | **missed** |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}

func TestAllLoads(t *testing.T) {
	seen := make(map[string]bool)
	for _, l := range allLoads() {
		seen[l.String()] = true
	}
	if len(seen) != 8 || !seen["100 KiB, 1000 connections, new for each request"] {
		t.Errorf("the loads are %v", seen)
	}
}
