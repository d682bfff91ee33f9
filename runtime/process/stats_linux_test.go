package process

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestParseStat: a name may hold anything, and times are those of the process
// and of the children that it waited for.
func TestParseStat(t *testing.T) {
	const numbers = " S 1 7 7 0 -1 4194560 1 2 3 4 50 25 200 25 20 0 1 0 123 456789 300 18446744073709551615 1 1 0"
	for _, name := range []string{"sleep", "a b", ") S 1 (", "((", "\n9 9 9 9"} {
		cpu, rss, err := parseStat([]byte("7 (" + name + ")" + numbers + "\n"))
		if err != nil || cpu != 3*time.Second || rss != 300*uint64(os.Getpagesize()) {
			t.Errorf("%q: %v, %d, %v", name, cpu, rss, err)
		}
	}
	for _, text := range []string{"", "7 (sleep) S 1", "7 sleep" + numbers, "7 (sleep)" + strings.Replace(numbers, " 200 ", " x ", 1),
		"7 (sleep)" + strings.Replace(numbers, " 300 ", " -3 ", 1)} {
		if cpu, rss, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: %v, %d", text, cpu, rss)
		}
	}
}

func TestField(t *testing.T) {
	text := []byte("head\nRss:   12 kB\nPss_Dirty: 5 kB\nPss:\t7 kB\nbroken: x\nempty:\n")
	for name, want := range map[string]uint64{"Rss": 12, "Pss": 7} {
		if got, ok := field(text, name); !ok || got != want {
			t.Errorf("%s is %d, %v", name, got, ok)
		}
	}
	for _, name := range []string{"broken", "empty", "ss", "Swap"} {
		if got, ok := field(text, name); ok {
			t.Errorf("%s is %d", name, got)
		}
	}
}

// TestStatsOfAll: processes that have left the container's group count, too,
// and Inspect names them.
func TestStatsOfAll(t *testing.T) {
	f := newFixture(t)
	id := f.run(spec("spawn"))
	child, err := strconv.Atoi(f.firstLine(id))
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stats(t.Context(), id)
	if err != nil || st.Processes != 2 || st.IO == nil {
		t.Errorf("Stats gives %+v, %v, want 2 processes", st, err)
	}
	detail, err := f.Inspect(t.Context(), id)
	d, ok := detail.(Details)
	if err != nil || !ok || d.PID == 0 || d.Group != d.PID || d.Supervisor != os.Getpid() || d.Dir != f.path(id) {
		t.Errorf("Inspect gives %+v, %v", detail, err)
	}
	if want := []int{d.PID, child}; len(d.Processes) != 2 || !slices.Contains(d.Processes, d.PID) || !slices.Contains(d.Processes, child) {
		t.Errorf("the processes are %v, want %v", d.Processes, want)
	}
}
