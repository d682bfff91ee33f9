//go:build linux || darwin

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/internal/hostdir"
	"github.com/budgiehq/budgie/internal/logfile"
	"github.com/budgiehq/budgie/internal/logpipe"
	"github.com/budgiehq/budgie/runtime"
	"golang.org/x/sys/unix"
)

// Start starts a container on freshly chosen ports.
func (r *Runtime) Start(ctx context.Context, id string) (runtime.Status, error) {
	ctx, done, err := r.enter(ctx)
	if err != nil {
		return runtime.Status{}, opError("start", id, err)
	}
	defer done()
	st, err := r.start(ctx, id)
	return st, opError("start", id, err)
}

func (r *Runtime) start(ctx context.Context, id string) (runtime.Status, error) {
	unlock, err := r.locks.Lock(ctx, id)
	if err != nil {
		return runtime.Status{}, err
	}
	defer unlock()
	if r.current(id) != nil {
		return runtime.Status{}, runtime.ErrRunning
	}
	st, before, err := r.observe(id)
	if err != nil {
		return st, err
	}
	if st.PID != 0 {
		return runtime.Status{}, runtime.ErrRunning
	}
	cfg, err := r.loadConfig(id)
	if err != nil {
		return runtime.Status{}, err
	}
	// What a run that nobody saw the end of left behind would hold its ports
	// and write into its volumes.
	if before.Process != nil {
		if _, err := r.bury(ctx, id, before, nil); err != nil {
			return runtime.Status{}, err
		}
		if before, err = r.load(id); err != nil {
			return runtime.Status{}, err
		}
	} else if err := killAll(ctx, id, nil, nil); err != nil {
		return runtime.Status{}, err
	}
	n, err := r.launch(ctx, cfg, before)
	if err != nil {
		return runtime.Status{}, err
	}
	return n.status(), nil
}

// launch is a start in this order: the process waits at its gate, its identity
// is recorded, the gate is opened. A supervisor that dies before the last step
// closes the gate, and the process ends without having run the command.
func (r *Runtime) launch(ctx context.Context, cfg runtime.Config, before record) (_ *run, err error) {
	n := &run{rt: r, id: cfg.ID, done: make(chan struct{})}
	addrs, err := r.ports.Choose(cfg.Spec.Ports)
	if err != nil {
		return nil, err
	}
	cmd, err := r.prepare(cfg, addrs)
	if err != nil {
		return nil, err
	}
	streams, err := logpipe.Make(r.path(cfg.ID, "io"))
	if err != nil {
		return nil, err
	}
	defer streams.CloseChild()
	defer func() {
		if err != nil {
			streams.Close()
		}
	}()
	if n.log, err = logfile.OpenWriter(r.path(cfg.ID, "log"), r.logLimit()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			n.log.Close()
		}
	}()
	gate, err := n.spawn(cmd, streams)
	if err != nil {
		return nil, err
	}
	defer gate.Close()
	n.record = record{Process: &n.handle.identity, Owner: &r.self, Addresses: addrs, StartedAt: time.Now()}
	if err = r.save(cfg.ID, n.record); err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		_, err = gate.WriteString("go\n")
	}
	if err != nil {
		gate.Close()
		_ = n.signal(unix.SIGKILL)
		n.reap()
		return nil, errors.Join(err, r.save(cfg.ID, before))
	}
	n.pumps = r.pipes.Pump(streams, n.sink())
	r.watch(n)
	return n, nil
}

// command is what a start is about to run.
type command struct {
	argv []string
	env  []string
	dir  string
}

// prepare finds out what to run, and where.
func (r *Runtime) prepare(cfg runtime.Config, addrs []runtime.Address) (command, error) {
	root := r.path(cfg.ID, "root")
	for _, v := range cfg.Spec.Volumes {
		if err := hostdir.CheckSource(v); err != nil {
			return command{}, err
		}
	}
	if err := linkVolumes(root, cfg.Spec.Volumes); err != nil {
		return command{}, err
	}
	dir, err := makeWorkdir(root, cfg.Spec)
	if err != nil {
		return command{}, err
	}
	env := environment(cfg, root, addrs)
	file, err := lookCommand(cfg.Spec.Image.Command[0], getEnv(env, "PATH"), dir)
	if err != nil {
		return command{}, err
	}
	return command{argv: append([]string{file}, cfg.Spec.Image.Command[1:]...), env: env, dir: dir}, nil
}

// spawn starts the shell that waits at the gate, and returns the gate.
func (n *run) spawn(cmd command, streams *logpipe.Streams) (_ *os.File, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	defer func() {
		if err != nil {
			ours.Close()
		}
	}()
	script, env := gateScript(cmd.env)
	// A session of its own is also a group of its own, and keeps the terminal's
	// signals away.
	n.proc, err = os.StartProcess("/bin/sh", append([]string{"budgie", "-c", script, "budgie"}, cmd.argv...), &os.ProcAttr{
		Dir:   cmd.dir,
		Env:   env,
		Files: []*os.File{null, streams.Child[0], streams.Child[1], theirs},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start the shell that starts the command: %w", err)
	}
	info, err := identify(n.proc.Pid)
	if err == nil {
		n.handle, err = openHandle(info.identity)
	}
	if err != nil {
		ours.Close() // so that it ends
		_, _ = n.proc.Wait()
		return nil, fmt.Errorf("take hold of the new process: %w", err)
	}
	return ours, nil
}
