//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sampleEvery is how often memory is looked at.
const sampleEvery = 50 * time.Millisecond

// peaks watches how much memory processes have, each with all that it started.
type peaks struct {
	stop context.CancelFunc
	wg   sync.WaitGroup
	most []int64
}

// watchMemory begins that, by process ids of this namespace.
func watchMemory(pids ...int) *peaks {
	ctx, cancel := context.WithCancel(context.Background())
	p := &peaks{stop: cancel, most: make([]int64, len(pids))}
	p.wg.Go(func() {
		for ctx.Err() == nil {
			for i, pid := range pids {
				p.most[i] = max(p.most[i], pss(pid))
			}
			select {
			case <-time.After(sampleEvery):
			case <-ctx.Done():
			}
		}
	})
	return p
}

// end returns the most that each had, in bytes.
func (p *peaks) end() []int64 {
	p.stop()
	p.wg.Wait()
	return p.most
}

// pss is the memory of a process and its descendants; what they share with each
// other counts once (proc_pid_smaps(5)). It is 0 for what has ended.
func pss(pid int) int64 {
	var sum int64
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range bytes.Lines(data) {
		if rest, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
			kib, _ := strconv.ParseInt(strings.Fields(string(rest))[0], 10, 64)
			sum += kib << 10
		}
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	for _, child := range strings.Fields(string(children)) {
		if n, err := strconv.Atoi(child); err == nil {
			sum += pss(n)
		}
	}
	return sum
}

// tick is the unit of times in /proc, USER_HZ, which is the same everywhere.
const tick = 10 * time.Millisecond

// cpu is the processor time of a process that runs (proc_pid_stat(5)).
func cpu(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may have anything in it.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is %q", pid, data)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, err
}

// traffic returns what a network interface has received and sent, by what proc(5)
// calls /proc/net/dev.
func traffic(text, nic string) (in, out int64, err error) {
	for line := range strings.Lines(text) {
		name, counters, found := strings.Cut(line, ":")
		f := strings.Fields(counters)
		if !found || strings.TrimSpace(name) != nic || len(f) != 16 {
			continue
		}
		if in, err = strconv.ParseInt(f[0], 10, 64); err == nil {
			out, err = strconv.ParseInt(f[8], 10, 64)
		}
		return in, out, err
	}
	return 0, 0, fmt.Errorf("there is no network interface %s", nic)
}
