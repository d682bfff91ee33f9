//go:build linux

package containerd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Exec runs a command with the container's environment, user and working
// directory, where cfg has none of its own. It is killed when ctx ends and when
// the container does; what it started itself goes with the container.
func (r *Runtime) Exec(ctx context.Context, id string, cfg runtime.ExecConfig) (int, error) {
	ctx, done, err := r.enter(ctx, "exec", id)
	if err != nil {
		return 0, err
	}
	code, err := r.exec(ctx, id, cfg)
	return code, done(explainShim(ctx, id, err))
}

func (r *Runtime) exec(ctx context.Context, id string, cfg runtime.ExecConfig) (int, error) {
	if len(cfg.Command) == 0 || cfg.Command[0] == "" {
		return 0, fmt.Errorf("%w: there is none", runtime.ErrCommand)
	}
	begun := sync.OnceFunc(openOrphans(r.path(id, "io")))
	defer begun()
	st, err := r.status(ctx, id)
	if err != nil {
		return 0, err
	}
	if st.State != lifecycle.Running {
		return 0, runtime.ErrNotRunning
	}
	code, err := r.execIn(ctx, id, cfg, begun)
	if err == nil || ctx.Err() != nil {
		return code, err
	}
	err = r.explainMemory(id, err)
	// A container that ended meanwhile is the reason for all sorts of errors. One
	// that is about to is said to run still.
	if _, st, terr := r.task(ctx, id); gone(terr) == nil && (terr != nil || st.Status == client.Stopped) || strings.Contains(err.Error(), "stopped container") {
		err = fmt.Errorf("%w any more: %w", runtime.ErrNotRunning, err)
	}
	return 0, err
}

// explainMemory says that a command did not come to run for lack of memory: runc's
// process in the container, which becomes it, was killed.
func (r *Runtime) explainMemory(id string, err error) error {
	if !strings.Contains(err.Error(), " init-p: ") { // the pipe to it, which could not be read, or not written
		return err
	}
	conf, cerr := r.loadConfig(id)
	limit := conf.Spec.Resources.MemoryLimit
	if cerr != nil || limit == 0 {
		return err
	}
	return fmt.Errorf("the %d bytes of the container's resources.memory_limit are used up; to start a command takes some MiB more: raise the limit (%w)", limit, err)
}

// execIn calls begun when the command runs.
func (r *Runtime) execIn(ctx context.Context, id string, cfg runtime.ExecConfig, begun func()) (int, error) {
	task, st, err := r.task(ctx, id)
	if err != nil {
		return 0, err
	}
	if st.Status == client.Unknown {
		return 0, errShimSilent
	}
	what, err := r.execSpec(ctx, task, id, cfg)
	if err != nil {
		return 0, err
	}
	// Its output may make the caller end ctx before Start returns. A call that is
	// broken off leaves open whether there is a process to kill; one that returns
	// does not, and takes a moment.
	sctx, cancel := afterwards(ctx)
	defer cancel()
	s := newExecStreams(ctx, cfg)
	p, err := task.Exec(sctx, "exec-"+strings.ToLower(rand.Text()), what, s.creator(r.path(id, "io")))
	if err != nil {
		close(s.ended)
		_ = s.lock.Close()
		return 0, err
	}
	ended, err := p.Wait(context.WithoutCancel(ctx))
	if err == nil {
		if err = p.Start(sctx); err != nil && ctx.Err() == nil && !errdefs.IsUnavailable(err) {
			err = fmt.Errorf("%w %q: %w", runtime.ErrCommand, cfg.Command[0], err)
		}
	}
	if err != nil {
		s.end()
		actx, cancel := afterwards(ctx)
		defer cancel()
		_, derr := p.Delete(actx, client.WithProcessKill)
		return 0, errors.Join(outOfSight(err), gone(derr))
	}
	begun()
	s.started(p)
	return finishExec(ctx, p, ended, s)
}

// outOfSight says of a command under which containerd went away what became of it.
func outOfSight(err error) error {
	if !errdefs.IsUnavailable(err) {
		return err
	}
	return fmt.Errorf("the command may run on in the container: %w", err)
}

// finishExec waits for the end of a process, which that of ctx brings about,
// and for its output.
func finishExec(ctx context.Context, p client.Process, ended <-chan client.ExitStatus, s *execStreams) (int, error) {
	var resizing sync.WaitGroup
	if s.cfg.TTY != nil {
		resizing.Go(func() { s.resize(ctx, s.cfg.TTY.Resizes) })
	}
	var es client.ExitStatus
	var kerr error
	select {
	case es = <-ended:
	case <-ctx.Done():
		actx, cancel := afterwards(ctx)
		if kerr = gone(p.Kill(actx, syscall.SIGKILL)); kerr == nil {
			es = <-ended
		}
		cancel()
	}
	drained := s.end()
	resizing.Wait()
	derr := deleteExec(ctx, p, drained)
	_ = s.pipes.Close() // a Delete that found nothing leaves them
	switch {
	case kerr != nil:
		return 0, errors.Join(context.Cause(ctx), kerr)
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	}
	if err := waitError(es); err != nil {
		return 0, outOfSight(err)
	}
	return int(es.ExitCode()), derr
}

// holdersPatience is how long the shim may wait for output, when a command has
// ended, where that was waited for already.
const holdersPatience = 200 * time.Millisecond

// deleteExec makes containerd forget a process that has ended. The shim of
// containerd 2 waits for ten seconds of its own for whoever holds the output, that
// of 1.6 for two, and no longer than the call has time. What it then does in spite
// of that, the second attempt finds done.
func deleteExec(ctx context.Context, p client.Process, drained bool) error {
	actx, cancel := afterwards(ctx)
	defer cancel()
	if !drained {
		short, cancel := context.WithTimeout(actx, holdersPatience)
		defer cancel()
		if _, err := p.Delete(short); gone(err) == nil {
			return nil
		}
	}
	_, err := p.Delete(actx)
	return gone(err)
}

// execSpec is the container's first process, with what cfg wants different.
func (r *Runtime) execSpec(ctx context.Context, task client.Task, id string, cfg runtime.ExecConfig) (*specs.Process, error) {
	conf, err := r.loadConfig(id)
	if err != nil {
		return nil, err
	}
	spec, err := task.Spec(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.User != "" {
		if err := r.execUser(ctx, id, cfg.User, spec); err != nil {
			return nil, fmt.Errorf("%w: %w", runtime.ErrCommand, err)
		}
	}
	p := *spec.Process
	p.Args = cfg.Command
	if cfg.Workdir != "" {
		p.Cwd = cfg.Workdir
	}
	p.Terminal, p.ConsoleSize = cfg.TTY != nil, nil
	if cfg.TTY != nil {
		p.Env = addEnv(p.Env, "TERM=xterm", false)
		p.ConsoleSize = &specs.Box{Height: uint(cfg.TTY.Size.Rows), Width: uint(cfg.TTY.Size.Columns)}
	}
	for _, kv := range cfg.Env {
		p.Env = addEnv(p.Env, kv, true)
	}
	// As the container sees its files, in words of ours.
	root := fmt.Sprintf("/proc/%d/root", task.Pid())
	if err := lookCommand(root, &p, conf.Spec); err != nil {
		// Nor is there any file once the first process has ended, of which
		// containerd may not know yet.
		if _, gone := os.Stat(root); gone != nil {
			return nil, fmt.Errorf("%w any more: %w", runtime.ErrNotRunning, gone)
		}
		return nil, fmt.Errorf("%w: %w", runtime.ErrCommand, err)
	}
	return &p, nil
}

// execUser looks a user up in a container's files.
func (r *Runtime) execUser(ctx context.Context, id, user string, spec *oci.Spec) error {
	c, err := r.client(ctx)
	if err != nil {
		return err
	}
	info, err := c.ContainerService().Get(ctx, id)
	if err != nil {
		return err
	}
	return withUser(user, "the user to run it as")(ctx, c, &info, spec)
}
