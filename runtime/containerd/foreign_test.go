//go:build linux

package containerd

import (
	"os"
	"testing"
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
