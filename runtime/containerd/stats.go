//go:build linux

package containerd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/hostmemory"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	cg1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cg2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
)

// Stats returns what the container's control group counts.
func (r *Runtime) Stats(ctx context.Context, id string) (runtime.Stats, error) {
	ctx, done, err := r.enter(ctx, "stats", id)
	if err != nil {
		return runtime.Stats{}, err
	}
	defer openOrphans(r.path(id, "io"))()
	st, err := r.stats(ctx, id)
	return st, done(explainShim(ctx, id, err))
}

func (r *Runtime) stats(ctx context.Context, id string) (runtime.Stats, error) {
	now, err := r.status(ctx, id)
	if err != nil {
		return runtime.Stats{}, err
	}
	if now.State != lifecycle.Running {
		return runtime.Stats{}, runtime.ErrNotRunning
	}
	task, seen, err := r.task(ctx, id)
	if errdefs.IsNotFound(err) || err == nil && seen.Status == client.Stopped {
		return runtime.Stats{}, runtime.ErrNotRunning // it has just ended
	}
	if err != nil {
		return runtime.Stats{}, err
	}
	if seen.Status == client.Unknown {
		return runtime.Stats{}, errShimSilent
	}
	short, cancel := context.WithTimeout(ctx, r.answerPatience)
	defer cancel()
	st, err := readStats(short, task)
	if err == nil || short.Err() != nil {
		return st, err
	}
	// A container that ended meanwhile is the reason for all sorts of errors.
	if seen, serr := task.Status(ctx); errdefs.IsNotFound(serr) || serr == nil && seen.Status == client.Stopped {
		err = fmt.Errorf("%w any more: %w", runtime.ErrNotRunning, err)
	}
	return runtime.Stats{}, err
}

func readStats(ctx context.Context, task client.Task) (runtime.Stats, error) {
	metrics, err := taskMetrics(ctx, task)
	if err != nil {
		return runtime.Stats{}, err
	}
	st, err := convertMetrics(metrics)
	if err != nil {
		return runtime.Stats{}, err
	}
	st.Time = time.Now()
	st.MemoryLimit = hostmemory.Cap(st.MemoryLimit)
	// The control group counts threads.
	procs, err := task.Pids(ctx)
	st.Processes = len(procs)
	return st, err
}

// taskMetrics returns *cg1.Metrics or *cg2.Metrics.
func taskMetrics(ctx context.Context, task client.Task) (any, error) {
	metric, err := task.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	return typeurl.UnmarshalAny(metric.Data)
}

// convertMetrics reads what control groups of version 1 or 2 count. The limit is
// the container's own, which may be more than any machine has.
func convertMetrics(metrics any) (runtime.Stats, error) {
	switch m := metrics.(type) {
	case *cg1.Metrics:
		return fromCgroup1(m), nil
	case *cg2.Metrics:
		return fromCgroup2(m), nil
	}
	return runtime.Stats{}, fmt.Errorf("%w: metrics of the unknown kind %T", runtime.ErrUnsupported, metrics)
}

func fromCgroup1(m *cg1.Metrics) runtime.Stats {
	st := runtime.Stats{
		CPUTime:     time.Duration(m.GetCPU().GetUsage().GetTotal()),
		Memory:      without(m.GetMemory().GetUsage().GetUsage(), m.GetMemory().GetTotalInactiveFile()),
		MemoryLimit: m.GetMemory().GetUsage().GetLimit(),
	}
	if m.Blkio == nil {
		return st
	}
	st.IO = &runtime.IOStats{}
	for _, e := range m.GetBlkio().GetIoServiceBytesRecursive() {
		switch strings.ToLower(e.GetOp()) {
		case "read":
			st.IO.Read += e.GetValue()
		case "write":
			st.IO.Written += e.GetValue()
		}
	}
	return st
}

func fromCgroup2(m *cg2.Metrics) runtime.Stats {
	st := runtime.Stats{
		CPUTime:     time.Duration(m.GetCPU().GetUsageUsec()) * time.Microsecond,
		Memory:      without(m.GetMemory().GetUsage(), m.GetMemory().GetInactiveFile()),
		MemoryLimit: m.GetMemory().GetUsageLimit(),
	}
	if m.Io == nil {
		return st
	}
	st.IO = &runtime.IOStats{}
	for _, e := range m.GetIo().GetUsage() {
		st.IO.Read += e.GetRbytes()
		st.IO.Written += e.GetWbytes()
	}
	return st
}

// without takes the part of memory away that is files which were not used
// lately, as "docker stats" does. The two are not counted at the same moment.
func without(usage, inactiveFile uint64) uint64 {
	if inactiveFile > usage {
		return usage
	}
	return usage - inactiveFile
}
