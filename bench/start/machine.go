//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/budgiehq/budgie"
	"golang.org/x/sys/unix"
)

// machine says what was measured, on what, and when.
func (w *world) machine(ctx context.Context) []string {
	firstLine := func(name string, args ...string) string {
		out, err := exec.CommandContext(ctx, name, args...).Output()
		if err != nil {
			return name + " of an unknown version"
		}
		line, _, _ := strings.Cut(string(out), "\n")
		return line
	}
	var uts unix.Utsname
	var info unix.Sysinfo_t
	_, _ = unix.Uname(&uts), unix.Sysinfo(&info) // both only fail for bad pointers
	lines := []string{
		time.Now().UTC().Format(time.DateOnly) + ", " + fmt.Sprintf("%d processors (%s), %d MiB of memory, Linux %s", runtime.NumCPU(), processor(), info.Totalram*uint64(info.Unit)>>20, unix.ByteSliceToString(uts.Release[:])),
		"Budgie " + budgie.Version + " built with " + runtime.Version(),
		firstLine("containerd", "--version") + ", " + firstLine("runc", "--version"),
	}
	if w.docker != nil {
		lines = append(lines, firstLine(w.docker.client, "--version"))
	}
	return lines
}

func processor() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
