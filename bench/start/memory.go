package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// process is a process and the memory that it holds, in bytes: rss is all that
// is resident, pss shares out evenly what several processes have in common.
type process struct {
	name     string
	pid      int
	args     []string
	rss, pss int64
}

// processes returns the processes of this namespace that the function accepts.
// Those that end meanwhile are left out.
func processes(want func(p process) bool) ([]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []process
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(line) == 0 {
			continue // it has ended
		}
		p := process{pid: pid, args: strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")}
		p.name = filepath.Base(p.args[0])
		if !want(p) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
		if err != nil {
			continue
		}
		if p.rss, p.pss, err = parseRollup(string(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		found = append(found, p)
	}
	return found, nil
}

// parseRollup reads what proc(5) calls smaps_rollup.
func parseRollup(text string) (rss, pss int64, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" || f[0] != "Rss:" && f[0] != "Pss:" {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return 0, 0, err
		}
		if f[0] == "Rss:" {
			rss = n << 10
		} else {
			pss = n << 10
		}
	}
	if rss == 0 || pss == 0 {
		return 0, 0, fmt.Errorf("there is no Rss and Pss in %q", text)
	}
	return rss, pss, nil
}

// memory is what the supervising processes of a contender hold.
type memory []process

// without leaves out the processes of a name.
func (m memory) without(name string) memory {
	return slices.DeleteFunc(slices.Clone(m), func(p process) bool { return p.name == name })
}

// only leaves out all others.
func (m memory) only(name string) memory {
	return slices.DeleteFunc(slices.Clone(m), func(p process) bool { return p.name != name })
}

func (m memory) rss() (sum int64) {
	for _, p := range m {
		sum += p.rss
	}
	return sum
}

func (m memory) pss() (sum int64) {
	for _, p := range m {
		sum += p.pss
	}
	return sum
}
