package runtime_test

import (
	"testing"
	"time"

	"github.com/budgiehq/budgie/runtime"
)

func TestCPUSince(t *testing.T) {
	at := time.Unix(1000, 0)
	before := runtime.Stats{Time: at, CPUTime: time.Second}
	for _, test := range []struct {
		name  string
		now   runtime.Stats
		want  float64
		known bool
	}{
		{"half a processor", runtime.Stats{Time: at.Add(2 * time.Second), CPUTime: 2 * time.Second}, 0.5, true},
		{"three processors", runtime.Stats{Time: at.Add(time.Second), CPUTime: 4 * time.Second}, 3, true},
		{"idle", runtime.Stats{Time: at.Add(time.Second), CPUTime: time.Second}, 0, true},
		{"another run", runtime.Stats{Time: at.Add(time.Second), CPUTime: time.Millisecond}, 0, false},
		{"the same reading", before, 0, false},
		{"an earlier reading", runtime.Stats{Time: at.Add(-time.Second), CPUTime: 2 * time.Second}, 0, false},
	} {
		if got, ok := test.now.CPUSince(before); got != test.want || ok != test.known {
			t.Errorf("%s: %v, %v, want %v, %v", test.name, got, ok, test.want, test.known)
		}
	}
	if got, ok := before.CPUSince(runtime.Stats{}); ok {
		t.Errorf("since no reading at all: %v", got)
	}
}

func TestMemoryShare(t *testing.T) {
	if got := (runtime.Stats{Memory: 1 << 20, MemoryLimit: 4 << 20}).MemoryShare(); got != 0.25 {
		t.Errorf("a quarter is %v", got)
	}
	if got := (runtime.Stats{Memory: 1 << 20}).MemoryShare(); got != 0 {
		t.Errorf("of an unknown limit it is %v", got)
	}
}
