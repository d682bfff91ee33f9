package runtime

import (
	"context"
	"time"
)

// Stats is one reading of what a running container uses.
type Stats struct {
	// Time is when the reading was taken.
	Time time.Time `json:"time"`
	// CPUTime is the processor time that the container has used since it was
	// started, of all processors together, in nanoseconds as JSON.
	CPUTime time.Duration `json:"cpu_time_ns"`
	// Memory is the memory in use in bytes, without file contents that the
	// kernel could drop at any time.
	Memory uint64 `json:"memory_bytes"`
	// MemoryLimit is the most that it may use in bytes: the container's limit,
	// or the machine's memory where that is less or there is no limit.
	MemoryLimit uint64 `json:"memory_limit_bytes"`
	// IO is what was transferred from and to disks; nil where the runtime cannot
	// tell.
	IO *IOStats `json:"io"`
	// Processes is the number of processes, threads not counted.
	Processes int `json:"processes"`
}

// IOStats counts bytes that were read from and written to disks since the
// container was started. What comes out of a cache, and what is still to be
// written, is not counted, or only later.
type IOStats struct {
	Read    uint64 `json:"read_bytes"`
	Written uint64 `json:"written_bytes"`
}

// CPUSince returns how many processors the container kept busy, on average,
// since an earlier reading: 0.5 is half of one. It reports false where before is
// no earlier reading of the same run.
func (s Stats) CPUSince(before Stats) (processors float64, ok bool) {
	passed := s.Time.Sub(before.Time)
	if before.Time.IsZero() || passed <= 0 || s.CPUTime < before.CPUTime {
		return 0, false
	}
	return float64(s.CPUTime-before.CPUTime) / float64(passed), true
}

// MemoryShare returns the part of MemoryLimit that is in use, from 0 to 1, and 0
// where no limit is known.
func (s Stats) MemoryShare() float64 {
	if s.MemoryLimit == 0 {
		return 0
	}
	return float64(s.Memory) / float64(s.MemoryLimit)
}

// Statser is a runtime that can tell what its containers use.
type Statser interface {
	// Stats takes a reading of a running container, commands run in it by Exec
	// included. One that does not run gives ErrNotRunning, an unknown id
	// ErrNotFound.
	Stats(ctx context.Context, id string) (Stats, error)
}
