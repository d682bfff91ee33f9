package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/internal/hostmemory"
	"github.com/budgiehq/budgie/runtime"
)

// Stats adds up what the container's processes use. The processor time and the
// I/O of a process that has ended count as long as the one that waited for it
// runs. Memory is what each process has in memory, what it shares with others
// divided among them; a kernel that cannot tell counts it for each. I/O is left
// out where this program may not see it of some process.
func (r *Runtime) Stats(ctx context.Context, id string) (runtime.Stats, error) {
	_, done, err := r.enter(ctx)
	if err != nil {
		return runtime.Stats{}, opError("stats", id, err)
	}
	defer done()
	st, err := r.stats(id)
	return st, opError("stats", id, err)
}

func (r *Runtime) stats(id string) (runtime.Stats, error) {
	h, _, err := r.hold(id)
	if err != nil {
		return runtime.Stats{}, err
	}
	defer h.close()
	procs, err := members(id, &h.identity)
	if err != nil {
		return runtime.Stats{}, err
	}
	st := runtime.Stats{Time: time.Now(), MemoryLimit: hostmemory.Cap(0), IO: &runtime.IOStats{}}
	for _, p := range procs {
		if err := addUsage(&st, p.PID); err != nil && !hasEnded(err) {
			return runtime.Stats{}, err
		}
	}
	if st.Processes == 0 {
		return runtime.Stats{}, runtime.ErrNotRunning
	}
	return st, nil
}

// hasEnded reports whether a file of a process could not be read because that
// has ended.
func hasEnded(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// addUsage adds what one process uses.
func addUsage(st *runtime.Stats, pid int) error {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return err
	}
	cpu, rss, err := parseStat(stat)
	if err != nil {
		return fmt.Errorf("%sstat: %w", dir, err)
	}
	memory := rss
	if rollup, err := os.ReadFile(dir + "smaps_rollup"); err == nil {
		if pss, ok := field(rollup, "Pss"); ok {
			memory = pss << 10
		}
	}
	text, err := os.ReadFile(dir + "io")
	switch {
	case err != nil && hasEnded(err):
		return err
	case err != nil:
		st.IO = nil // another user's
	case st.IO != nil:
		read, _ := field(text, "read_bytes")
		written, _ := field(text, "write_bytes")
		st.IO.Read += read
		st.IO.Written += written
	}
	st.CPUTime += cpu
	st.Memory += memory
	st.Processes++
	return nil
}

// tick is the unit of processor time in /proc: USER_HZ is 100 on every Linux
// that Go runs on.
const tick = 10 * time.Millisecond

// parseStat reads proc_pid_stat(5): processor time with that of children that
// were waited for, and resident memory in bytes.
func parseStat(text []byte) (cpu time.Duration, rss uint64, err error) {
	const utime, cstime, pages = 11, 14, 21 // after the name in parentheses
	i := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[i+1:]))
	if i < 0 || len(fields) <= pages {
		return 0, 0, errors.New("unknown form")
	}
	var ticks int64
	for _, f := range fields[utime : cstime+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		ticks += n
	}
	if rss, err = strconv.ParseUint(fields[pages], 10, 64); err != nil {
		return 0, 0, err
	}
	return time.Duration(ticks) * tick, rss * uint64(os.Getpagesize()), nil
}

// field returns the number of a line "name: number unit".
func field(text []byte, name string) (uint64, bool) {
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte(name+":"))
		if words := bytes.Fields(rest); ok && len(words) > 0 {
			n, err := strconv.ParseUint(string(words[0]), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
