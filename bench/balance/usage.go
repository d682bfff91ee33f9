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
const sampleEvery = 250 * time.Millisecond

// peak watches how much memory a process has with all that it started.
type peak struct {
	stop context.CancelFunc
	wg   sync.WaitGroup
	most int64
}

func watchMemory(pid int) *peak {
	ctx, cancel := context.WithCancel(context.Background())
	p := &peak{stop: cancel}
	p.wg.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			p.most = max(p.most, memory(pid))
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return p
}

// end returns the most that it had, in bytes.
func (p *peak) end() int64 {
	p.stop()
	p.wg.Wait()
	return p.most
}

// memory is what is resident of a process and of those that it started, in bytes;
// what they share with each other counts in parts (Pss, proc_pid_smaps(5)), so that
// a server of several processes is not charged several times for the same. Of what
// has ended it is 0.
func memory(pid int) int64 {
	var sum int64
	for _, pid := range family(pid) {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for line := range bytes.Lines(data) {
			if rest, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
				kib, _ := strconv.ParseInt(strings.Fields(string(rest))[0], 10, 64)
				sum += kib << 10
			}
		}
	}
	return sum
}

// tick is the unit of times in /proc, USER_HZ, which is the same everywhere.
const tick = 10 * time.Millisecond

// cpu is the processor time of a process and of those that it started
// (proc_pid_stat(5)).
func cpu(pid int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range family(pid) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// The name, in parentheses, may have anything in it.
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if len(fields) < 13 {
			return 0, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
		}
		for _, f := range fields[11:13] { // utime, stime
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}

// family is a process and what it started.
func family(pid int) []int {
	all := []int{pid}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	for _, child := range strings.Fields(string(children)) {
		if n, err := strconv.Atoi(child); err == nil {
			all = append(all, family(n)...)
		}
	}
	return all
}
