//go:build linux

package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/pkg/cio"
	"golang.org/x/sys/unix"
)

// unopened are streams that nobody opens, as those of a client that was killed.
type unopened struct{ config cio.Config }

func (s unopened) Config() cio.Config { return s.config }
func (unopened) Cancel()              {}
func (unopened) Wait()                {}
func (unopened) Close() error         { return nil }

// A client of a command that is killed before it has opened the command's streams makes
// nothing else wait.
func TestStreamsOfADeadClient(t *testing.T) {
	containerdtest.Need(t)
	containerdtest.EachVersion(t, testStreamsOfADeadClient)
}

func testStreamsOfADeadClient(t *testing.T, v containerdtest.Version) {
	d, ctx := private(t, v), t.Context()
	r := open(t, d, t.TempDir())
	defer r.Close()
	s := shell("trap 'exit 7' USR1; echo ready; while true; do sleep 0.05; done")
	id, st := launch(t, r, s)
	dead := filepath.Join(r.path(id, "io"), "dead")
	streams := unopened{cio.Config{Stdout: filepath.Join(dead, "out"), Stderr: filepath.Join(dead, "err")}}
	if err := errors.Join(os.Mkdir(dead, 0o700), unix.Mkfifo(streams.config.Stdout, 0o600), unix.Mkfifo(streams.config.Stderr, 0o600)); err != nil {
		t.Fatal(err)
	}
	task, _, err := r.task(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	what, err := r.execSpec(ctx, task, id, runtime.ExecConfig{Command: []string{"sh", "-c", "echo >/tmp/begun; exec sleep 1000"}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := task.Exec(ctx, "exec-dead", what, func(string) (cio.IO, error) { return streams, nil })
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() { started <- p.Start(ctx) }()
	begun := fmt.Sprintf("/proc/%d/root/tmp/begun", st.PID)
	for end := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		if _, err := os.Stat(begun); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	longAgo := time.Now().Add(-time.Minute)
	if err := os.Chtimes(dead, longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	// Without anybody who opens them these are given up: the shim waits for half a minute.
	if code, err := r.Exec(ctx, id, runtime.ExecConfig{Command: []string{"true"}}); code != 0 || err != nil {
		t.Errorf("Exec: %d, %v", code, err)
	}
	if _, err := r.Stats(ctx, id); err != nil {
		t.Errorf("Stats: %v", err)
	}
	if err := <-started; err != nil {
		t.Errorf("the dead client's command: %v", err)
	}
	if err := r.Stop(ctx, id, time.Minute); err != nil {
		t.Error(err)
	}
	if st, err := r.Status(ctx, id); err != nil || st.Exit == nil || st.Exit.Code != 7 {
		t.Errorf("it ended with %+v, %v", st.Exit, err)
	}
	if err := r.Remove(ctx, id); err != nil {
		t.Error(err)
	}
	empty(t, d)
}
