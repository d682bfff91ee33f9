package main

import (
	"strings"
	"testing"
	"time"
)

func TestMarkdown(t *testing.T) {
	const ms = time.Millisecond
	some := sample{3 * ms, 1 * ms, 2 * ms}
	r := result{
		settings: settings{rounds: 3, few: 3, idle: 100 * time.Second}, machine: []string{"a machine"},
		arrival: some, departure: sample{2500 * ms}, address: some, sees: some, seen: some, list: some,
		packets: 120, bytes: 24000,
	}
	text := r.markdown()
	for _, want := range []string{
		"- a machine\n",
		"| a new replica is seen | 3 | 2 ms | 3 ms | under 1000 ms | met |\n",
		"| its clean end is seen | 1 | 2500 ms | 2500 ms | under 2000 ms | **missed** |\n",
		"sent 120 packets in 100 s: **1.20 a second**, 240 bytes a second (aim: under 5 packets; met).\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	r.packets = 500
	if text := r.markdown(); !strings.Contains(text, "**missed**).") {
		t.Errorf("500 packets in 100 s are well:\n%s", text)
	}
}
