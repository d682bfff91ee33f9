//go:build linux

package containerd

import (
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/budgiehq/budgie/runtime"
	cg1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cg2 "github.com/containerd/cgroups/v3/cgroup2/stats"
)

// TestConvertMetrics: both versions of control groups say the same in different
// words and units.
func TestConvertMetrics(t *testing.T) {
	one := func(inactive, limit uint64) *cg1.Metrics {
		return &cg1.Metrics{
			Pids: &cg1.PidsStat{Current: 99},
			CPU:  &cg1.CPUStat{Usage: &cg1.CPUUsage{Total: 1_500_000_000, Kernel: 1, User: 1}},
			Memory: &cg1.MemoryStat{
				Cache: 1 << 40, InactiveFile: 1 << 39, TotalInactiveFile: inactive,
				Usage: &cg1.MemoryEntry{Usage: 10 << 20, Limit: limit, Max: 1 << 40},
			},
			Blkio: &cg1.BlkIOStat{
				IoServiceBytesRecursive: []*cg1.BlkIOEntry{
					{Op: "Read", Major: 8, Value: 100}, {Op: "Write", Major: 8, Value: 10}, {Op: "Sync", Value: 55}, {Op: "Total", Value: 110},
					{Op: "read", Major: 9, Value: 1000}, {Op: "write", Major: 9, Value: 1}, {Op: "Discard", Value: 7},
				},
				IoServicedRecursive: []*cg1.BlkIOEntry{{Op: "Read", Value: 3}},
			},
		}
	}
	two := func(inactive, limit uint64) *cg2.Metrics {
		return &cg2.Metrics{
			Pids: &cg2.PidsStat{Current: 99},
			CPU:  &cg2.CPUStat{UsageUsec: 1_500_000, UserUsec: 1, SystemUsec: 1},
			Memory: &cg2.MemoryStat{
				File: 1 << 40, InactiveFile: inactive, Usage: 10 << 20, UsageLimit: limit, MaxUsage: 1 << 40, SwapUsage: 1 << 39,
			},
			Io: &cg2.IOStat{Usage: []*cg2.IOEntry{
				{Major: 8, Rbytes: 100, Wbytes: 10, Rios: 3, Wios: 4}, {Major: 9, Rbytes: 1000, Wbytes: 1},
			}},
		}
	}
	io := &runtime.IOStats{Read: 1100, Written: 11}
	cpu := 1500 * time.Millisecond
	for _, test := range []struct {
		name    string
		metrics any
		want    runtime.Stats
	}{
		{"v1", one(4<<20, 64<<20), runtime.Stats{CPUTime: cpu, Memory: 6 << 20, MemoryLimit: 64 << 20, IO: io}},
		{"v2", two(4<<20, 64<<20), runtime.Stats{CPUTime: cpu, Memory: 6 << 20, MemoryLimit: 64 << 20, IO: io}},
		{"v1 without limit", one(0, math.MaxInt64-4095), runtime.Stats{CPUTime: cpu, Memory: 10 << 20, MemoryLimit: math.MaxInt64 - 4095, IO: io}},
		{"v2 without limit", two(0, math.MaxUint64), runtime.Stats{CPUTime: cpu, Memory: 10 << 20, MemoryLimit: math.MaxUint64, IO: io}},
		{"v1, more cache than use", one(11<<20, 1), runtime.Stats{CPUTime: cpu, Memory: 10 << 20, MemoryLimit: 1, IO: io}},
		{"v2, more cache than use", two(11<<20, 1), runtime.Stats{CPUTime: cpu, Memory: 10 << 20, MemoryLimit: 1, IO: io}},
		{"v1, nothing", &cg1.Metrics{}, runtime.Stats{}},
		{"v2, nothing", &cg2.Metrics{}, runtime.Stats{}},
		{"v1, no I/O yet", &cg1.Metrics{Blkio: &cg1.BlkIOStat{}}, runtime.Stats{IO: &runtime.IOStats{}}},
		{"v2, no I/O yet", &cg2.Metrics{Io: &cg2.IOStat{}}, runtime.Stats{IO: &runtime.IOStats{}}},
	} {
		if got, err := convertMetrics(test.metrics); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v, want %+v", test.name, got, err, test.want)
		}
	}
	if got, err := convertMetrics("what"); !errors.Is(err, runtime.ErrUnsupported) {
		t.Errorf("metrics of another kind give %+v, %v", got, err)
	}
}

// TestStatsLimit: the limit is the container's own where it has one.
func TestStatsLimit(t *testing.T) {
	b := newBench(t)
	s := shell("echo up; exec sleep 1000")
	free, _ := b.run(s)
	s.Resources.MemoryLimit = 64 << 20
	limited, _ := b.run(s)
	b.waitFor(free, "up")
	b.waitFor(limited, "up")
	a, err := b.Stats(b.ctx, free)
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.Stats(b.ctx, limited)
	if err != nil {
		t.Fatal(err)
	}
	if c.MemoryLimit != 64<<20 || a.MemoryLimit <= 64<<20 || a.MemoryLimit > 1<<48 {
		t.Errorf("the limits are %d, and without one %d", c.MemoryLimit, a.MemoryLimit)
	}
	if a.Processes != 1 || c.Processes != 1 || c.Memory == 0 || c.Memory > 16<<20 {
		t.Errorf("a sleep is %+v", c)
	}
}
