//go:build linux

package containerd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/freeport"
	"github.com/budgiehq/budgie/internal/hostdir"
	"github.com/budgiehq/budgie/internal/logfile"
	"github.com/budgiehq/budgie/internal/logpipe"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
)

// Start starts a container.
func (r *Runtime) Start(ctx context.Context, id string) (runtime.Status, error) {
	ctx, done, err := r.enter(ctx, "start", id)
	if err != nil {
		return runtime.Status{}, err
	}
	st, err := r.start(ctx, id)
	return st, done(err)
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
	st, before, err := r.observe(ctx, id)
	if err != nil {
		return runtime.Status{}, err
	}
	if st.PID != 0 {
		return runtime.Status{}, runtime.ErrRunning
	}
	cfg, err := r.loadConfig(id)
	if err != nil {
		return runtime.Status{}, err
	}
	if before.PID != 0 {
		if _, err := r.bury(ctx, id, before); err != nil {
			return runtime.Status{}, err
		}
		if before, err = r.load(id); err != nil {
			return runtime.Status{}, err
		}
	}
	// What a start that was killed half way left.
	if err := r.clear(ctx, id); err != nil {
		return runtime.Status{}, err
	}
	n, err := r.launch(ctx, cfg, before)
	if err != nil {
		return runtime.Status{}, err
	}
	return n.status(), nil
}

// clear ends what runs of a container that nobody knows about, and its network.
func (r *Runtime) clear(ctx context.Context, id string) error {
	c, err := r.load(id)
	if err != nil {
		return err
	}
	// A shim waits until somebody opens its pipes, and whoever was to may be
	// dead.
	pipes, err := logpipe.Open(r.path(id, "io"))
	if err != nil {
		return err
	}
	defer pipes.Close()
	// A shim whose task was never made may leave containerd without an answer.
	short, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	task, st, err := r.task(short, id)
	unanswered := c.Starting && short.Err() != nil && ctx.Err() == nil
	switch {
	case gone(err) != nil && !unanswered:
		return err
	case err == nil:
		r.step(ctx, "end the task")
		err = r.destroy(ctx, task, st.Status)
	case c.Starting || c.PID != 0:
		// Whoever asked for the task, or for its deletion, may have been cut off.
		r.step(ctx, "settle the task")
		err = r.settle(ctx, id)
	default:
		err = nil
	}
	if err == nil && (c.Starting || c.PID != 0) {
		err = r.emptyCgroup(ctx, id)
	}
	if err == nil && c.Starting {
		c.Starting = false
		r.step(ctx, "record that nothing starts")
		err = r.save(id, c)
	}
	if err != nil {
		return err
	}
	return r.disconnect(ctx, id)
}

// destroy kills a task and deletes it.
func (r *Runtime) destroy(ctx context.Context, task client.Task, state client.ProcessStatus) error {
	if state != client.Stopped {
		ctx, cancel := context.WithCancel(ctx) // ends the waiting
		defer cancel()
		ended, err := task.Wait(ctx)
		if err != nil {
			return err
		}
		if err := task.Kill(ctx, syscall.SIGKILL); gone(err) != nil {
			return err
		}
		late := time.NewTimer(r.endPatience)
		defer late.Stop()
		select {
		case es := <-ended:
			if err := gone(waitError(es)); err != nil {
				return fmt.Errorf("wait for the end of what was killed: %w", err)
			}
		case <-late.C:
			return r.stuck(ctx)
		}
	}
	_, err := task.Delete(ctx)
	return gone(err)
}

// launch is a start in this order: network namespace, task with its first
// process held back, and beside it the place on the bridge, record, first
// process. A program that dies on the way leaves what clear finds.
func (r *Runtime) launch(ctx context.Context, cfg runtime.Config, before record) (_ *run, err error) {
	if err = checkSources(cfg.Spec.Volumes); err != nil {
		return nil, err
	}
	n := &run{rt: r, id: cfg.ID, done: make(chan struct{})}
	if n.lock, err = r.supervise(cfg.ID); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			actx, cancel := afterwards(ctx)
			defer cancel()
			err = errors.Join(err, r.clear(actx, cfg.ID), n.lock.Close())
		}
	}()
	addrs, err := r.prepareNetwork(ctx, cfg)
	if err != nil {
		return nil, err
	}
	r.step(ctx, "make the pipes")
	streams, err := freshStreams(r.path(cfg.ID, "io"))
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
	starting := before
	starting.Starting = true
	r.step(ctx, "record the start")
	if err = r.save(cfg.ID, starting); err != nil {
		return nil, err
	}
	if n.task, addrs, err = r.taskInNetwork(ctx, cfg, addrs); err != nil {
		return nil, err
	}
	n.record = record{PID: int(n.task.Pid()), Addresses: addrs, StartedAt: time.Now()}
	r.step(ctx, "record the task")
	if err = r.save(cfg.ID, n.record); err == nil {
		r.step(ctx, "start the task")
		err = n.task.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the first process: %w", err), r.save(cfg.ID, starting))
	}
	n.pumps = r.pipes.Pump(streams, n.sink())
	r.watch(n)
	return n, nil
}

func checkSources(volumes []bunfile.Volume) error {
	for _, v := range volumes {
		if err := hostdir.CheckSource(v); err != nil {
			return err
		}
	}
	return nil
}

// taskInNetwork makes the task of a container and, at the same time, connects a
// container that has a network of its own: each takes about as long as all the
// rest of a start. If one fails, the other is waited for, so that clear finds
// all that there is.
func (r *Runtime) taskInNetwork(ctx context.Context, cfg runtime.Config, addrs []runtime.Address) (client.Task, []runtime.Address, error) {
	var attaching sync.WaitGroup
	var attachErr error
	task, err := r.newTask(ctx, cfg, addrs, func() {
		if bridged(cfg.Spec.Network) {
			attaching.Go(func() { addrs, attachErr = r.attach(ctx, cfg) })
		}
	})
	attaching.Wait()
	return task, addrs, errors.Join(attachErr, err)
}

// newTask makes the task of a container, with its output in the named pipes. It
// calls beside just before containerd is asked for it.
func (r *Runtime) newTask(ctx context.Context, cfg runtime.Config, addrs []runtime.Address, beside func()) (client.Task, error) {
	c, err := r.client(ctx)
	if err != nil {
		return nil, err
	}
	container, err := c.LoadContainer(ctx, cfg.ID)
	if errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("containerd does not have the container any more (%w): remove it and create it again", err)
	}
	if err != nil {
		return nil, err
	}
	if cfg.Spec.Network == bunfile.NetworkHost && len(addrs) > 0 {
		r.step(ctx, "set the ports")
		if err := setPorts(ctx, container, addrs); err != nil {
			return nil, err
		}
	}
	dir := r.path(cfg.ID, "io")
	pipes := func(string) (cio.IO, error) {
		return pipesOnly{cio.Config{Stdout: dir + "/" + string(runtime.Stdout), Stderr: dir + "/" + string(runtime.Stderr)}}, nil
	}
	r.step(ctx, "make the task")
	beside()
	task, err := container.NewTask(ctx, pipes)
	if err != nil && taskExists(err) {
		// Nobody knows of one: it is what a killed containerd left.
		r.step(ctx, "settle the task")
		if err = r.settle(ctx, cfg.ID); err == nil {
			task, err = container.NewTask(ctx, pipes)
		}
	}
	if errdefs.IsNotFound(err) {
		if _, serr := c.SnapshotService(snapshotter).Stat(ctx, cfg.ID); errdefs.IsNotFound(serr) {
			return nil, fmt.Errorf("containerd does not have the container's file system any more (%w): remove it and create it again", serr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create the first process: %w", err)
	}
	return task, nil
}

// setPorts tells a container in the host's network where to listen this time.
func setPorts(ctx context.Context, container client.Container, addrs []runtime.Address) error {
	spec, err := container.Spec(ctx)
	if err != nil {
		return err
	}
	for _, kv := range freeport.Environment(addrs) {
		spec.Process.Env = addEnv(spec.Process.Env, kv, true)
	}
	return container.Update(ctx, func(_ context.Context, _ *client.Client, c *containers.Container) error {
		c.Spec, err = typeurl.MarshalAny(spec)
		return err
	})
}

// pipesOnly names pipes that others read.
type pipesOnly struct{ config cio.Config }

func (p pipesOnly) Config() cio.Config { return p.config }
func (pipesOnly) Cancel()              {}
func (pipesOnly) Wait()                {}
func (pipesOnly) Close() error         { return nil }
