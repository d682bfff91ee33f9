//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// The environment that says for how long the soak goes on, and with which choices.
const (
	soakEnv     = "BUDGIE_SOAK"
	soakSeedEnv = "BUDGIE_SOAK_SEED"
)

// soakFaults are what happens to the machines. The first ones leave a supervisor be,
// so that those alone happen to the machine whose memory is looked at.
var (
	mildFaults = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return f.what == "crashed" || f.what == "powered off" })
	soakFaults = append(slices.Clone(faults), fault{"upgraded", -1, (*failover).upgrade, func(*failover, *machine) {}})
)

// What a process may have more at the end than when it had got going: what does not
// grow stays far below that, and what grows does not within an hour of faults.
const (
	mostMemoryGrowth = 4 << 10 // KiB
	mostFilesGrowth  = 32
)

// footprint is what a process has.
type footprint struct{ kib, files int }

// TestSoak is the failover of machines that fail in any order, for as long as
// BUDGIE_SOAK says (make soak: an hour), with upgrades in place between. What must not
// fail does not, and the processes that live through all of it do not grow: the
// balancer apart, and the supervisor of one machine.
func TestSoak(t *testing.T) {
	duration := soakDuration(t)
	random := soakRandom(t, duration)
	f := newFailover(t)
	lasting := map[string]int{
		"the balancer":                         f.balancer.Process.Pid,
		"the supervisor of " + f.nodes[0].Name: f.supervisors[f.nodes[0]].Process.Pid,
	}
	seen := make(map[string][]footprint)
	for began := time.Now(); time.Since(began) < duration; {
		i := random.IntN(len(f.nodes))
		choice := soakFaults
		if i == 0 {
			choice = mildFaults
		}
		f.all = random.IntN(2) == 0 // for longer than the silence, or not
		entrance := f.nodes[(i+1+random.IntN(len(f.nodes)-1))%len(f.nodes)]
		f.try(choice[random.IntN(len(choice))], f.nodes[i], entrance)
		for who, pid := range lasting {
			seen[who] = append(seen[who], footprintOf(t, pid))
		}
	}
	f.finish()
	f.judge()
	for who, all := range seen {
		f.judgeGrowth(who, all)
	}
}

func soakDuration(t *testing.T) time.Duration {
	text := os.Getenv(soakEnv)
	if text == "" {
		return 5 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", soakEnv, err)
	}
	return d
}

func soakRandom(t *testing.T, d time.Duration) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(soakSeedEnv); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", soakSeedEnv, err)
		}
	}
	t.Logf("%s=%s %s=%d", soakEnv, d, soakSeedEnv, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// upgrade replaces the supervisor of a machine by another process in place.
func (f *failover) upgrade(m *machine) {
	before := f.supervisorOf(m)
	m.budgie("upgrade")
	if after := f.supervisorOf(m); after == before {
		f.Fatalf("process %s still supervises %s", after, m.Name)
	}
}

// supervisorOf returns the number that the supervisor of a machine has there.
func (f *failover) supervisorOf(m *machine) string {
	pid, err := supervisorPID(filepath.Join(m.Dir, "budgie"))
	if err != nil {
		f.Fatal(err)
	}
	return strconv.Itoa(pid)
}

// footprintOf returns what a process has now: the memory that is its own alone, since
// what it maps from files can be taken from it at any time.
func footprintOf(t *testing.T, pid int) footprint {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return footprint{statusKiB(t, pid, "RssAnon:"), len(files)}
}

// judgeGrowth compares what a process had in the second sixth of the time with what it
// had in the last one, by the medians.
func (f *failover) judgeGrowth(who string, all []footprint) {
	sixth := max(len(all)/6, 1)
	early, late := all[min(sixth, len(all)-1):], all[len(all)-sixth:]
	early = early[:min(sixth, len(early))]
	kib := func(p footprint) int { return p.kib }
	files := func(p footprint) int { return p.files }
	f.Logf("%s: %d KiB of memory and %d files at first, %d and %d at last, in %d looks", who,
		median(early, kib), median(early, files), median(late, kib), median(late, files), len(all))
	if grown := median(late, kib) - median(early, kib); grown > mostMemoryGrowth {
		f.Errorf("the memory of %s grew by %d KiB", who, grown)
	}
	if grown := median(late, files) - median(early, files); grown > mostFilesGrowth {
		f.Errorf("%s has %d more files open", who, grown)
	}
}

func median(all []footprint, of func(footprint) int) int {
	values := make([]int, len(all))
	for i, p := range all {
		values[i] = of(p)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
