//go:build linux

package benchreport

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine says when and on what something is measured.
func Machine() string {
	var uts unix.Utsname
	var info unix.Sysinfo_t
	_, _ = unix.Uname(&uts), unix.Sysinfo(&info) // both only fail for bad pointers
	return fmt.Sprintf("%s, %d processors (%s), %d MiB of memory, Linux %s", time.Now().UTC().Format(time.DateOnly),
		runtime.NumCPU(), processor(), info.Totalram*uint64(info.Unit)>>20, unix.ByteSliceToString(uts.Release[:]))
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

// FirstLine returns the first line that a program prints, as of "--version", or
// that it does not tell.
func FirstLine(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return name + " of an unknown version"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
