//go:build linux

package containerd

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/budgiehq/budgie/runtime"
)

// A container whose task somebody deleted with "ctr tasks rm", which takes the
// directory of its pipes along, ends, starts again and can be removed.
func TestForeignTaskRemoval(t *testing.T) {
	b := newBench(t)
	id, st := b.run(shell("echo ready; exec sleep 1000"))
	b.waitFor(id, "ready")
	for range 2 {
		if err := os.RemoveAll(b.path(id, "io")); err != nil {
			t.Fatal(err)
		}
		process, err := os.FindProcess(st.PID)
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Wait(b.ctx, id); err != nil {
			t.Fatal(err)
		}
		if st, err = b.Start(b.ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Stop(b.ctx, id, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.path(id, "io")); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(b.ctx, id); err != nil {
		t.Error(err)
	}
}

// A container whose snapshot or whose record somebody deleted with ctr says what to
// do, and can be removed.
func TestForeignRemoval(t *testing.T) {
	b := newBench(t)
	c, err := daemon(t).Client()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for what, remove := range map[string]func(id string) error{
		"the container's file system": func(id string) error { return c.SnapshotService(snapshotter).Remove(b.ctx, id) },
		"the container":               func(id string) error { return c.ContainerService().Delete(b.ctx, id) },
	} {
		id := b.create(shell("true"))
		if err := remove(id); err != nil {
			t.Fatal(err)
		}
		_, err := b.Start(b.ctx, id)
		if err == nil || !strings.Contains(err.Error(), "does not have "+what+" any more") || !strings.Contains(err.Error(), "remove it and create it again") {
			t.Errorf("Start without %s: %v", what, err)
		}
		if err := b.Remove(b.ctx, id); err != nil {
			t.Error(err)
		}
	}
}

// Of several processes that remove a container at the same time each finds it
// removed by itself or by another one.
func TestRemoveAtTheSameTime(t *testing.T) {
	b := newBench(t)
	rivals := []*Runtime{b.Runtime}
	for range 3 {
		r := open(t, daemon(t), b.dir)
		defer r.Close()
		rivals = append(rivals, r)
	}
	for range 10 {
		id := b.create(shell("true"))
		var removing sync.WaitGroup
		for _, r := range rivals {
			removing.Go(func() {
				if err := r.Remove(b.ctx, id); err != nil && !errors.Is(err, runtime.ErrNotFound) {
					t.Error(err)
				}
			})
		}
		removing.Wait()
	}
}

// Who looks for what killed programs left, and has seen the directory of a container that
// is being made, leaves the container alone when it has been made meanwhile.
func TestSweepSparesWhatHasJustBeenMade(t *testing.T) {
	b := newBench(t)
	id := b.create(shell("exec sleep 1000"))
	c, err := b.client(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.sweepIfDead(b.ctx, c, making+id, making); err != nil {
		t.Error(err)
	}
	if _, err := b.Start(b.ctx, id); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
