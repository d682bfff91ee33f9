package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// settings are how much is measured.
type settings struct {
	rounds, few int
	idle        time.Duration
}

// result is all that was measured.
type result struct {
	settings           settings
	machine            []string
	arrival, departure sample
	address            sample
	// sees and seen are the two directions after a cable was put in again.
	sees, seen sample
	list       sample
	// packets and bytes, of UDP's payload, were sent while nothing happened.
	packets, bytes int
}

// sample is durations of the same thing. It is not empty.
type sample []time.Duration

func (s sample) median() time.Duration { return slices.Sorted(slices.Values(s))[len(s)/2] }

func (s sample) max() time.Duration { return slices.Max(s) }

// machine says on what was measured, and when.
func machine() []string {
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("of an unknown version")
	}
	return []string{fmt.Sprintf("%s, %d processors, Linux %s, %s", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(),
		strings.TrimSpace(string(kernel)), runtime.Version())}
}

// markdown is the section of the documentation.
func (r result) markdown() string {
	var b strings.Builder
	for _, line := range r.machine {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	b.WriteString("\n| | rounds | median | longest | aim | |\n| --- | ---: | ---: | ---: | ---: | --- |\n")
	for _, row := range []struct {
		what string
		got  sample
		most time.Duration
	}{
		{"a new replica is seen", r.arrival, time.Second},
		{"its clean end is seen", r.departure, 2 * time.Second},
		{"a changed address is seen, the old one gone", r.address, 10 * time.Second},
		{"a cable is back: the host sees the others", r.sees, 5 * time.Second},
		{"a cable is back: the others see the host", r.seen, 5 * time.Second},
		{"a newcomer has listed 100 replicas of 20 hosts", r.list, 2 * time.Second},
	} {
		fmt.Fprintf(&b, "| %s | %d | %s | %s | under %s | %s |\n", row.what, len(row.got), ms(row.got.median()), ms(row.got.max()),
			ms(row.most), verdict(row.got.max() < row.most))
	}
	seconds := r.settings.idle.Seconds()
	fmt.Fprintf(&b, "\n20 hosts with 100 replicas, all of which browse, and to which nothing happens, sent %d packets in %.0f s: "+
		"**%.2f a second**, %.0f bytes a second (aim: under 5 packets; %s).\n",
		r.packets, seconds, float64(r.packets)/seconds, float64(r.bytes)/seconds, verdict(float64(r.packets)/seconds < 5))
	return b.String()
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

func ms(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond)) }
