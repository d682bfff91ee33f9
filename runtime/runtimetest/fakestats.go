package runtimetest

import (
	"context"
	"time"

	"github.com/budgiehq/budgie/runtime"
)

// What a Fake's container uses when it does nothing, and may use.
const (
	fakeMemory      = 1 << 20
	fakeMemoryLimit = 1 << 30
)

// Stats returns what the commands of Exec would use, and a process and a little
// memory for the container itself.
func (f *Fake) Stats(ctx context.Context, id string) (runtime.Stats, error) {
	_, done, err := f.enter(ctx, "stats", id)
	if err != nil {
		return runtime.Stats{}, err
	}
	defer done()
	c, _, err := f.findRunning(id)
	if err != nil {
		return runtime.Stats{}, f.errorf("stats", id, err)
	}
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	return runtime.Stats{
		Time:        time.Now(),
		CPUTime:     c.cpu,
		Memory:      fakeMemory + c.memory,
		MemoryLimit: fakeMemoryLimit,
		IO:          &runtime.IOStats{},
		Processes:   1 + c.commands,
	}, nil
}

// FakeDetails is what [Fake.Inspect] returns.
type FakeDetails struct {
	// Command is what the container runs.
	Command []string `json:"command"`
	// LogEntries is how many it has logged.
	LogEntries int `json:"log_entries"`
}

// Inspect returns [FakeDetails].
func (f *Fake) Inspect(ctx context.Context, id string) (any, error) {
	_, done, err := f.enter(ctx, "inspect", id)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := f.find(id)
	if err != nil {
		return nil, f.errorf("inspect", id, err)
	}
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	return FakeDetails{Command: c.spec.Clone().Image.Command, LogEntries: len(c.entries)}, nil
}
