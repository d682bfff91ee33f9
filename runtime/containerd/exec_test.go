//go:build linux

package containerd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/execio"
	"github.com/budgiehq/budgie/runtime"
)

// TestExecLeavesHolders: what a command leaves behind and that holds its output
// is not waited for; what was written before is there.
func TestExecLeavesHolders(t *testing.T) {
	b := newBench(t)
	id, _ := b.run(shell("exec sleep 1000"))
	for _, tty := range []*runtime.TTY{nil, {}} {
		var out bytes.Buffer
		begin := time.Now()
		code, err := b.Exec(b.ctx, id, runtime.ExecConfig{
			Command: []string{"sh", "-c", `trap "" HUP; sleep 1000 & echo left`}, Stdout: &out, TTY: tty,
		})
		if took := time.Since(begin); took > execio.Patience+5*time.Second {
			t.Errorf("Exec took %v", took)
		}
		if code != 0 || err != nil || strings.TrimSpace(out.String()) != "left" {
			t.Errorf("Exec gives %d, %v, %q", code, err, &out)
		}
	}
}

// TestExecKilledClient: the streams that a killed client left of a command go with
// the next start.
func TestExecKilledClient(t *testing.T) {
	b := newBench(t)
	id, _ := b.run(shell("exec sleep 1000"))
	left := filepath.Join(b.dir, id, "io", "1105618317") // named so by containerd's client
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(left, "exec-x-stdout"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(b.ctx, id, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Start(b.ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the next start there is %s: %v", left, err)
	}
}

// TestExecUser: users are the image's, with their groups.
func TestExecUser(t *testing.T) {
	b := newBench(t)
	id, _ := b.run(shell("exec sleep 1000"))
	for user, want := range map[string]string{"": "uid=0(root)", "guest": "uid=405(guest) gid=100(users) groups=100(users),777(extra)", "12:34": "uid=12 gid=34"} {
		var out bytes.Buffer
		code, err := b.Exec(b.ctx, id, runtime.ExecConfig{Command: []string{"id"}, User: user, Stdout: &out})
		if code != 0 || err != nil || !strings.HasPrefix(out.String(), want) {
			t.Errorf("user %q: %d, %v, %s", user, code, err, &out)
		}
	}
	if _, err := b.Exec(b.ctx, id, runtime.ExecConfig{Command: []string{"id"}, User: "no-such-user"}); !errors.Is(err, runtime.ErrCommand) {
		t.Errorf("a user who is not there gives %v", err)
	}
}

// TestExecFailedReceiver: a receiver that takes nothing does not hold the
// command up.
func TestExecFailedReceiver(t *testing.T) {
	b := newBench(t)
	id, _ := b.run(shell("exec sleep 1000"))
	r, w := io.Pipe()
	_ = r.Close()
	code, err := b.Exec(b.ctx, id, runtime.ExecConfig{Command: []string{"seq", "200000"}, Stdout: w})
	if code != 0 || err != nil {
		t.Errorf("Exec gives %d, %v", code, err)
	}
}

// TestExecHangingReceiver: one that hangs holds Exec up until ctx ends, and no
// longer.
func TestExecHangingReceiver(t *testing.T) {
	b := newBench(t)
	id, _ := b.run(shell("exec sleep 1000"))
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	r, w := io.Pipe()
	defer r.Close()
	done := make(chan error, 1)
	go func() {
		_, err := b.Exec(ctx, id, runtime.ExecConfig{Command: []string{"sh", "-c", "echo 1; echo 2; exec sleep 1000"}, Stdout: w})
		done <- err
	}()
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Exec gives %v", err)
	}
}

// Where a container has used up its memory, no command can be started in it, and that is
// what is said.
func TestExecWithoutMemory(t *testing.T) {
	b := newBench(t)
	s := shell("exec sleep 1000") // which takes nothing more, and is never what the kernel chooses
	s.Resources.MemoryLimit, s.Resources.MemorySwap = 16<<20, 16<<20
	id, _ := b.run(s)
	fill := runtime.ExecConfig{Command: []string{"sh", "-c", "echo 1000 >/proc/self/oom_score_adj; exec cat /dev/zero >/dev/shm/full"}}
	if code, err := b.Exec(b.ctx, id, fill); code != 128+int(syscall.SIGKILL) || err != nil {
		t.Fatalf("what uses the memory up gives %d, %v", code, err)
	}
	// What fills it freed at its end what it had itself. So that this is too little for
	// runc, and not only for the command, it has much to read.
	long := slices.Repeat([]string{strings.Repeat("x", 100<<10)}, 15)
	_, err := b.Exec(b.ctx, id, runtime.ExecConfig{Command: append([]string{"true"}, long...)})
	if err == nil || !strings.Contains(err.Error(), "the 16777216 bytes of the container's resources.memory_limit are used up") {
		t.Errorf("got %v", err)
	}
}
