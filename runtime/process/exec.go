//go:build linux || darwin

package process

import (
	"context"
	"errors"
	"os/exec"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"golang.org/x/sys/unix"
)

// Exec runs a command with the container's environment and working directory,
// in a process group of its own. It is killed when ctx ends and when the
// container does.
func (r *Runtime) Exec(ctx context.Context, id string, cfg runtime.ExecConfig) (int, error) {
	ctx, done, err := r.enter(ctx)
	if err != nil {
		return 0, opError("exec", id, err)
	}
	defer done()
	code, err := r.exec(ctx, id, cfg)
	return code, opError("exec", id, err)
}

func (r *Runtime) exec(ctx context.Context, id string, cfg runtime.ExecConfig) (int, error) {
	if len(cfg.Command) == 0 {
		return 0, errors.New("no command to run")
	}
	st, c, err := r.observe(id)
	if err != nil {
		return 0, err
	}
	if st.State != lifecycle.Running {
		return 0, runtime.ErrNotRunning
	}
	h, err := openHandle(*c.Process)
	if errors.Is(err, errGone) {
		return 0, runtime.ErrNotRunning
	}
	if err != nil {
		return 0, err
	}
	defer h.close()
	conf, err := r.loadConfig(id)
	if err != nil {
		return 0, err
	}
	conf.Spec.Image.Command = cfg.Command
	what, err := r.prepare(conf, st.Addresses)
	if err != nil {
		return 0, err
	}
	// The command's context ends with the container, too.
	ectx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if h.wait(ectx) == nil {
			cancel()
		}
	}()
	code, err := runCommand(ectx, what, cfg)
	cancel()
	<-watched
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if errors.Is(err, context.Canceled) {
		err = runtime.ErrNotRunning // the container ended before the command began
	}
	return code, err
}

// execPatience is how long the output of a command is waited for after its end,
// where something that it started still holds it.
const execPatience = 2 * time.Second

func runCommand(ctx context.Context, what command, cfg runtime.ExecConfig) (int, error) {
	cmd := exec.CommandContext(ctx, what.argv[0], what.argv[1:]...)
	cmd.Args[0] = cfg.Command[0]
	cmd.Env, cmd.Dir = what.env, what.dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = cfg.Stdin, cfg.Stdout, cfg.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Called before the process is waited for, so that the group is its own.
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = execPatience
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return 0, err
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return exitCode(status), nil
}
