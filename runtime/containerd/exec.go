//go:build linux

package containerd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// execPatience is how long the output of a command is waited for after its end,
// where something that it started still holds it.
const execPatience = 2 * time.Second

// Exec runs a command with the container's environment, user and working
// directory. It is killed when ctx ends and when the container does. A Stdin
// whose Read does not return is left behind, as with os/exec.
func (r *Runtime) Exec(ctx context.Context, id string, cfg runtime.ExecConfig) (int, error) {
	ctx, done, err := r.enter(ctx, "exec", id)
	if err != nil {
		return 0, err
	}
	code, err := r.exec(ctx, id, cfg)
	return code, done(err)
}

func (r *Runtime) exec(ctx context.Context, id string, cfg runtime.ExecConfig) (int, error) {
	if len(cfg.Command) == 0 {
		return 0, errors.New("no command to run")
	}
	st, err := r.status(ctx, id)
	if err != nil {
		return 0, err
	}
	if st.State != lifecycle.Running {
		return 0, runtime.ErrNotRunning
	}
	code, err := r.execIn(ctx, id, cfg)
	if err == nil || ctx.Err() != nil {
		return code, err
	}
	// A container that ended meanwhile is the reason for all sorts of errors.
	if _, st, terr := r.task(ctx, id); gone(terr) == nil && (terr != nil || st.Status == client.Stopped) {
		err = fmt.Errorf("%w any more: %w", runtime.ErrNotRunning, err)
	}
	return 0, err
}

func (r *Runtime) execIn(ctx context.Context, id string, cfg runtime.ExecConfig) (int, error) {
	task, _, err := r.task(ctx, id)
	if err != nil {
		return 0, err
	}
	spec, err := task.Spec(ctx)
	if err != nil {
		return 0, err
	}
	what := *spec.Process
	what.Args, what.Terminal = cfg.Command, false
	in := &input{Reader: cfg.Stdin, started: make(chan struct{})}
	p, err := r.makeProcess(ctx, task, id, &what, cfg, in)
	if err != nil {
		return 0, err
	}
	actx, cancel := afterwards(ctx)
	defer cancel()
	ended, err := p.Wait(context.WithoutCancel(ctx))
	if err == nil {
		err = p.Start(ctx)
	}
	in.process = p
	close(in.started)
	if err != nil {
		_, derr := p.Delete(actx, client.WithProcessKill)
		return 0, errors.Join(err, gone(derr))
	}
	var es client.ExitStatus
	select {
	case es = <-ended:
	case <-ctx.Done():
		if err := p.Kill(actx, syscall.SIGKILL); gone(err) != nil {
			return 0, err
		}
		es = <-ended
	}
	// Delete closes the pipes first, read to their end or not (client 2.4.2).
	drained := time.AfterFunc(execPatience, p.IO().Cancel)
	p.IO().Wait()
	drained.Stop()
	_, err = p.Delete(actx)
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case es.Error() != nil:
		return 0, es.Error()
	}
	return int(es.ExitCode()), gone(err)
}

// makeProcess makes a process in a container, which does not run yet.
func (r *Runtime) makeProcess(ctx context.Context, task client.Task, id string, what *specs.Process, cfg runtime.ExecConfig, in *input) (client.Process, error) {
	// The shim of containerd 1.6 wants both outputs where there is any stream.
	stdout, stderr := cfg.Stdout, cfg.Stderr
	if stdout == nil {
		stdout = io.Discard
	}
	if stderr == nil {
		stderr = io.Discard
	}
	// They may be the same.
	var mu sync.Mutex
	stdout, stderr = &guarded{w: stdout, mu: &mu}, &guarded{w: stderr, mu: &mu}
	streams := cio.WithStreams(in, stdout, stderr)
	if cfg.Stdin == nil {
		streams = cio.WithStreams(nil, stdout, stderr)
	}
	creator := cio.NewCreator(streams, cio.WithFIFODir(r.path(id, "io")))
	return task.Exec(ctx, "exec-"+strings.ToLower(rand.Text()), what, creator)
}

// input is the standard input of a process. The shim keeps its end of the pipe
// open until it is told that the input is over.
type input struct {
	io.Reader
	started chan struct{}
	process client.Process
}

// Read reads, and closes the process's input at the end.
func (in *input) Read(buf []byte) (int, error) {
	n, err := in.Reader.Read(buf)
	if err != nil {
		<-in.started
		ctx, cancel := context.WithTimeout(context.Background(), undoPatience)
		defer cancel()
		// An error means that the process has ended.
		_ = in.process.CloseIO(ctx, client.WithStdinCloser)
	}
	return n, err
}

// guarded writes while nobody else does who shares its lock.
type guarded struct {
	w  io.Writer
	mu *sync.Mutex
}

// Write writes.
func (g *guarded) Write(data []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.w.Write(data)
}
