package main

import (
	"os"
	"testing"
)

func TestParseRollup(t *testing.T) {
	rss, pss, err := parseRollup("562fb81a2000-7ffe74c00000 ---p 00000000 00:00 0 [rollup]\nRss:    1752 kB\nPss:     274 kB\nPss_Dirty:  116 kB\n")
	if err != nil || rss != 1752<<10 || pss != 274<<10 {
		t.Errorf("got %d, %d, %v", rss, pss, err)
	}
	for _, text := range []string{"", "Rss: 1 kB\n", "Rss: x kB\nPss: 1 kB\n"} {
		if _, _, err := parseRollup(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestSums(t *testing.T) {
	m := memory{{name: "a", rss: 1, pss: 2}, {name: "b", rss: 4, pss: 8}, {name: "a", rss: 16, pss: 32}}
	if m.rss() != 21 || m.pss() != 42 || m.without("a").rss() != 4 || m.only("a").rss() != 17 {
		t.Errorf("got %d, %d, %d", m.rss(), m.pss(), m.without("a").rss())
	}
}

func TestProcesses(t *testing.T) {
	found, err := processes(func(p process) bool { return p.pid == os.Getpid() })
	if err != nil || len(found) != 1 || found[0].rss < 1<<20 || found[0].pss > found[0].rss {
		t.Errorf("this process is %+v, %v", found, err)
	}
}
