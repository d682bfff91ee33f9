//go:build linux || darwin

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// Exec runs a command with the container's environment and working directory,
// in a session of its own. It is killed, with all in its process group, when ctx
// ends and when the container does. Stdin and outputs that are an *os.File are
// the command's own. Workdir is below the container's root directory, as
// image.workdir is, and User can only be the one who runs this program.
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
	if len(cfg.Command) == 0 || cfg.Command[0] == "" {
		return 0, fmt.Errorf("%w: there is none", runtime.ErrCommand)
	}
	h, st, err := r.hold(id)
	if err != nil {
		return 0, err
	}
	defer h.close()
	what, err := r.prepareExec(id, cfg, st.Addresses)
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

// hold takes hold of the first process of a running container.
func (r *Runtime) hold(id string) (*handle, runtime.Status, error) {
	st, c, err := r.observe(id)
	if err != nil {
		return nil, st, err
	}
	if st.State != lifecycle.Running {
		return nil, st, runtime.ErrNotRunning
	}
	h, err := openHandle(*c.Process)
	if errors.Is(err, errGone) {
		err = runtime.ErrNotRunning
	}
	return h, st, err
}

// prepareExec finds out what to run, and where.
func (r *Runtime) prepareExec(id string, cfg runtime.ExecConfig, addrs []runtime.Address) (command, error) {
	conf, err := r.loadConfig(id)
	if err != nil {
		return command{}, err
	}
	if err := supportsUser(cfg.User); err != nil {
		return command{}, err
	}
	if cfg.Workdir != "" {
		dir := r.path(id, "root", filepath.FromSlash(cfg.Workdir))
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return command{}, fmt.Errorf("%w: the working directory %s is not there, which would be %s", runtime.ErrCommand, cfg.Workdir, dir)
		}
		conf.Spec.Image.Workdir = cfg.Workdir
	}
	conf.Spec.Image.Command = cfg.Command
	// What names the container is not the caller's to change.
	conf.Spec.Environment = append(conf.Spec.Environment, cfg.Env...)
	what, err := r.prepare(conf, addrs)
	if err != nil {
		return command{}, fmt.Errorf("%w: %w", runtime.ErrCommand, err)
	}
	if cfg.TTY != nil && getEnv(what.env, "TERM") == "" {
		what.env = setEnv(what.env, "TERM=xterm")
	}
	return what, nil
}
