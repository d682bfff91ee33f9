package main

import (
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/benchreport"
)

func sampleResult() result {
	const ms = time.Millisecond
	one := func(name string, d time.Duration) starts {
		return starts{name, benchreport.Sample{d}, benchreport.Sample{d + ms}}
	}
	process := func(name string, mib int64) process { return process{name: name, rss: 2 * mib << 20, pss: mib << 20} }
	return result{
		settings: settings{rounds: 1, many: 4, docker: true},
		machine:  []string{"a machine"},
		starts:   []starts{one(nameDocker, 200*ms), one(nameCold, 130*ms), one(nameWarm, 110*ms), one(nameHost, 90*ms), one(nameCtr, 55*ms), one(nameCtrSeccomp, 65*ms), one(nameCtrCNI, 80*ms)},
		memories: []footprint{{nameDocker, memory{process("dockerd", 90), process("containerd", 10)}}, {nameCold, memory{process("budgie", 24), process("containerd-shim-runc-v2", 2), process("containerd", 10)}}},
		crowds:   []crowd{{nameDocker, 2 * time.Second}},
	}
}

// Every aim is judged by its own numbers.
func TestAims(t *testing.T) {
	want := []bool{true, false, false, true, true, false, false, true}
	got := sampleResult().aims()
	if len(got) != len(want) {
		t.Fatalf("there are %d aims, want %d: %+v", len(got), len(want), got)
	}
	for i, a := range got {
		if a.Met != want[i] {
			t.Errorf("%s: %s, met: %t", a.What, a.Measured, a.Met)
		}
	}
}

func TestMarkdown(t *testing.T) {
	text := sampleResult().markdown()
	for _, want := range []string{
		"- a machine\n",
		"| `budgie run -d` | 110 | 110 | 0.55 | 111 |\n",
		"| `docker run -d -p` | dockerd | 180.0 | 90.0 |\n",
		"| | **all** | **200.0** | **100.0** |\n",
		"| `docker run -d -p` | 2.0 s | 500 ms |\n",
		"| +35 ms | **missed** |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}
