//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/testenv"
)

// The figures that an idle supervisor must keep.
const (
	mostResidentOne    = 30 << 10 // KiB, with one container
	mostResidentTwenty = 60 << 10 // KiB, with twenty
	mostIdleCPU        = 0.005    // of a core
	idleWindow         = 10 * time.Second
)

// TestIdleSupervisor measures a supervisor that has nothing to do but its
// health checks.
func TestIdleSupervisor(t *testing.T) {
	testenv.NeedRoot(t) // for a network namespace
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	file := filepath.Join(dir, "web.bun")
	text := "version: \"1.0\"\nimage: {command: [testserver]}\nports: [{container_port: 80}]\nhealthcheck: {path: /}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "BUDGIE_DATA_DIR="+data, "BUDGIE_BIND=127.0.0.1", "BUDGIE_INTERFACES=lo",
			"PATH="+binDir+string(os.PathListSeparator)+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	t.Cleanup(func() { endAll(data) })

	// In a network of its own, the supervisor hears no announcements but those
	// of its own containers, and not the noise of other tests.
	run("unshare", "--net", "sh", "-c", "ip link set lo up && exec budgie run -d -name web-1 "+file)
	pid, err := supervisorPID(data)
	if err != nil {
		t.Fatal(err)
	}
	check(t, pid, "one container", mostResidentOne)
	for n := 2; n <= 20; n++ {
		run(filepath.Join(binDir, "budgie"), "run", "-d", "-name", fmt.Sprintf("web-%d", n), file)
	}
	check(t, pid, "twenty containers", mostResidentTwenty)
}

// check measures the supervisor over a window of idleness.
func check(t *testing.T, pid int, what string, mostKiB int) {
	t.Helper()
	before := cpuTime(t, pid)
	// The window is the measure itself, not a wait for something to happen.
	window := time.NewTimer(idleWindow)
	<-window.C
	cpu := (cpuTime(t, pid) - before).Seconds() / idleWindow.Seconds()
	kib := residentKiB(t, pid)
	t.Logf("%s: %.1f MiB resident, %.2f %% of a core", what, float64(kib)/1024, 100*cpu)
	if kib > mostKiB {
		t.Errorf("%s: %d KiB resident, want at most %d", what, kib, mostKiB)
	}
	if cpu > mostIdleCPU {
		t.Errorf("%s: %.2f %% of a core, want at most %.2f %%", what, 100*cpu, 100*mostIdleCPU)
	}
}

// residentKiB returns VmRSS of /proc/PID/status.
func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	return statusKiB(t, pid, "VmRSS:")
}

// statusKiB returns a figure of /proc/PID/status that is in KiB.
func statusKiB(t *testing.T, pid int, name string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatal("no " + name)
	return 0
}

// cpuTime returns utime and stime of /proc/PID/stat, whose unit is the clock
// tick of 10 ms (proc_pid_stat(5); USER_HZ is 100 on every Linux port of Go).
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+2:])
	var ticks int
	for _, i := range []int{11, 12} { // fields 14 and 15 of all
		n, err := strconv.Atoi(string(fields[i]))
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
