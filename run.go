package budgie

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/process"
	"github.com/budgiehq/budgie/store"
)

// Run starts a container and returns when it is ready: its health check
// passes; or, without one, all its TCP ports accept; or, without either, it ran
// for a moment or exited with status 0. A container that does not become
// ready is stopped, and the error is a *[NotReadyError] with the reason and the
// end of its log; it stays listed as stopped.
//
// The context governs the container, as that of exec.CommandContext does a
// process: when it ends, also after Run has returned, the container is stopped
// with its stop signal and grace. [Client.Close] does the same. A [Detached]
// container outlives both.
//
// The name must not be that of a container that is not stopped: [ErrExists]. A
// stopped container of the same name is removed first, with its logs.
func (c *Client) Run(ctx context.Context, spec bunfile.Spec, opts ...RunOption) (lifecycle.Container, error) {
	return c.run(ctx, spec, newRunConfig(spec, opts))
}

func (c *Client) run(ctx context.Context, spec bunfile.Spec, rc runConfig) (lifecycle.Container, error) {
	rec, err := c.prepare(ctx, spec, rc)
	if err != nil {
		return lifecycle.Container{}, err
	}
	if rc.detached {
		return c.runDetached(ctx, rec, rc)
	}
	return c.runAttached(ctx, rec, rc)
}

// RunFile runs all containers of a .bun file, as [Client.RunAll] does.
func (c *Client) RunFile(ctx context.Context, path string, opts ...RunOption) ([]lifecycle.Container, error) {
	specs, err := bunfile.Load(path)
	if err != nil {
		return nil, err
	}
	return c.RunAll(ctx, specs, opts...)
}

// RunAll runs containers side by side, each when those that it depends on are
// ready, and returns them in the order of [bunfile.StartOrder]. If one fails,
// those that have started are stopped again, the others do not start, and the
// error says which failed.
func (c *Client) RunAll(ctx context.Context, specs []bunfile.Spec, opts ...RunOption) ([]lifecycle.Container, error) {
	ordered, err := bunfile.StartOrder(specs)
	if err != nil {
		return nil, err
	}
	g := &startGroup{c: c, opts: opts, ready: make(map[string]chan struct{}), failed: make(chan struct{})}
	for _, spec := range ordered {
		g.ready[spec.Name] = make(chan struct{})
	}
	recs := make([]lifecycle.Container, len(ordered))
	errs := make([]error, len(ordered))
	var wg sync.WaitGroup
	for i, spec := range ordered {
		wg.Go(func() { recs[i], errs[i] = g.run(ctx, spec) })
	}
	wg.Wait()
	err = errors.Join(errs...)
	if err == nil {
		return recs, nil
	}
	undo := context.WithoutCancel(ctx)
	for i := len(recs) - 1; i >= 0; i-- {
		if recs[i].ID != "" {
			if stopErr := c.Stop(undo, recs[i].ID); !errors.Is(stopErr, ErrNotFound) {
				err = errors.Join(err, stopErr)
			}
		}
	}
	return nil, err
}

// startGroup is containers that start together, each after those that it
// depends on.
type startGroup struct {
	c    *Client
	opts []RunOption
	// ready has a channel per name, closed when that container is ready.
	ready map[string]chan struct{}
	// failed is closed when one of them failed: those that have not begun
	// to start then do not.
	failed chan struct{}
	once   sync.Once
}

// run runs a container when its dependencies are ready. It returns nothing at
// all where another one failed before that.
func (g *startGroup) run(ctx context.Context, spec bunfile.Spec) (lifecycle.Container, error) {
	for _, name := range spec.DependsOn {
		select {
		case <-g.ready[name]:
		case <-g.failed:
			return lifecycle.Container{}, nil
		}
	}
	rec, err := g.c.Run(ctx, spec, g.opts...)
	if err != nil {
		g.once.Do(func() { close(g.failed) })
		return lifecycle.Container{}, err
	}
	close(g.ready[spec.Name])
	return rec, nil
}

// prepare returns the record of a new container, not yet stored.
func (c *Client) prepare(ctx context.Context, spec bunfile.Spec, rc runConfig) (lifecycle.Container, error) {
	if err := c.open(); err != nil {
		return lifecycle.Container{}, err
	}
	if spec = spec.WithDefaults(); rc.name != "" {
		spec.Name = rc.name
	}
	if err := errors.Join(spec.Validate(), rc.checkWeight()); err != nil {
		return lifecycle.Container{}, err
	}
	rt, err := c.chooseRuntime(ctx, spec, rc.runtime)
	if err != nil {
		return lifecycle.Container{}, err
	}
	if p, ok := rt.(runtime.Preparer); ok {
		if spec, err = p.Prepare(ctx, spec); err != nil {
			return lifecycle.Container{}, err
		}
	}
	if err := c.checkVolumes(spec); err != nil {
		return lifecycle.Container{}, err
	}
	id := newID()
	service, digest := id, ""
	if rc.join != nil {
		service, rc.join.id = rc.join.plan.ServiceID, id
		digest, err = rc.join.fetch(ctx, c, rt, spec, rc)
	} else {
		digest, err = pullImage(ctx, rt, spec, rc)
	}
	if err != nil {
		return lifecycle.Container{}, fmt.Errorf("run container %s: %w", spec.Name, err)
	}
	rec := lifecycle.Container{
		ID: id, Name: spec.Name, ServiceID: service, Spec: spec, ImageDigest: digest, Runtime: rt.Name(), Owner: c.owner,
		Detached: rc.detached, Restored: rc.restored, AutoRemove: rc.autoRemove, Bind: c.cfg.bind, Desired: lifecycle.WantRunning,
	}
	if rc.weight != nil {
		rec.Weight = *rc.weight
	}
	if rc.join != nil {
		rec.Joining = rc.join.open()
		for _, v := range spec.Volumes { // else it would pass for their owner until it has found that
			rec.Volumes = append(rec.Volumes, lifecycle.VolumeSync{Target: v.Target, Phase: lifecycle.SyncStarting})
		}
	}
	if rec.Name == "" {
		rec.Name = rec.ShortID()
	}
	return rec, rec.MarkCreating(time.Now().UTC())
}

// pullImage makes the image of a specification ready, here and not where the
// container will be looked after: the credentials for its registry are those of
// whoever runs it, and so is the interest in how it goes on.
func pullImage(ctx context.Context, rt Runtime, spec bunfile.Spec, rc runConfig) (digest string, err error) {
	p, ok := rt.(runtime.Puller)
	if !ok || spec.Image.DockerImage == "" {
		return "", nil
	}
	return p.Pull(ctx, spec.Image, func(e runtime.PullProgress) {
		if rc.onPull != nil {
			rc.onPull(spec.Name, e)
		}
	})
}

// chooseRuntime returns the runtime of a name, or the first that supports spec.
func (c *Client) chooseRuntime(ctx context.Context, spec bunfile.Spec, name string) (Runtime, error) {
	if name != "" && name != "auto" {
		rt, err := c.runtimeNamed(name)
		if err != nil {
			return nil, err
		}
		if err := rt.Supports(ctx, spec); err != nil {
			return nil, fmt.Errorf("runtime %s cannot run %s: %w", name, spec.Name, noRuntime(err))
		}
		return rt, nil
	}
	var reasons []error
	for _, rt := range c.runtimes {
		err := rt.Supports(ctx, spec)
		if err == nil {
			return rt, nil
		}
		reasons = append(reasons, fmt.Errorf("runtime %s: %w", rt.Name(), err))
	}
	// The runtime that it is for says what to do; that others are not for it does
	// not help.
	if i := slices.IndexFunc(reasons, func(err error) bool { return errors.Is(err, runtime.ErrUnavailable) }); i >= 0 {
		reasons = reasons[i : i+1]
	}
	return nil, fmt.Errorf("cannot run %s: %w", spec.Name, noRuntime(errors.Join(reasons...)))
}

// noRuntime marks an error as an ErrNoRuntime without adding to its text, which
// says it all.
func noRuntime(err error) error { return &noRuntimeError{err} }

type noRuntimeError struct{ error }

func (e *noRuntimeError) Is(target error) bool { return target == ErrNoRuntime }
func (e *noRuntimeError) Unwrap() error        { return e.error }

func (c *Client) runtimeNamed(name string) (Runtime, error) {
	var names []string
	for _, rt := range c.runtimes {
		if rt.Name() == name {
			return rt, nil
		}
		names = append(names, rt.Name())
	}
	return nil, fmt.Errorf("%w: there is no runtime %q here, only %s", ErrNoRuntime, name, strings.Join(names, ", "))
}

// insert stores a new record. A finished container of the same name makes
// room.
func (c *Client) insert(ctx context.Context, rec lifecycle.Container) (lifecycle.Container, error) {
	for {
		stored, err := c.store.Put(ctx, rec)
		if err == nil {
			return stored, nil
		}
		taken, ok := errors.AsType[*store.ExistsError](err)
		if !ok {
			return lifecycle.Container{}, err
		}
		old, getErr := c.store.Get(ctx, taken.ID)
		switch {
		case errors.Is(getErr, store.ErrNotFound):
			continue
		case getErr != nil:
			return lifecycle.Container{}, getErr
		case !old.Finished():
			return lifecycle.Container{}, fmt.Errorf("%w: stop it, or choose another name", taken)
		}
		if err := c.removeRecord(ctx, old); err != nil && !errors.Is(err, store.ErrNotFound) {
			return lifecycle.Container{}, fmt.Errorf("replace the stopped container %s: %w", old.ShortID(), err)
		}
	}
}

// runAttached runs a container that this client looks after.
func (c *Client) runAttached(ctx context.Context, rec lifecycle.Container, rc runConfig) (lifecycle.Container, error) {
	if err := c.activate(ctx); err != nil {
		return lifecycle.Container{}, err
	}
	rec, err := c.insert(ctx, rec)
	if err != nil {
		return lifecycle.Container{}, err
	}
	k, err := c.keep(ctx, rec, false, rc.onLog)
	if err != nil {
		return lifecycle.Container{}, errors.Join(err, c.store.Delete(context.WithoutCancel(ctx), rec.ID, rec.Revision))
	}
	timer := time.NewTimer(rc.readyTimeout)
	defer timer.Stop()
	select {
	case <-k.ready:
		return k.record(), nil
	case <-k.done:
	case <-timer.C:
		k.endWith(notReadyWithin(rc.readyTimeout, k.record()))
		<-k.done
	}
	rec = k.record()
	switch {
	case jobDone(rec):
		return rec, nil
	case ctx.Err() != nil:
		return lifecycle.Container{}, fmt.Errorf("run container %s: %w", rec.Name, context.Cause(ctx))
	}
	tail, cause := k.last()
	return lifecycle.Container{}, &NotReadyError{Container: rec, Reason: rec.EndReason(), Log: tail, Err: cause}
}

// jobDone reports whether a container was a job, with nothing to serve, that
// did its work.
func jobDone(rec lifecycle.Container) bool {
	job := rec.Spec.Healthcheck == nil && !implied(rec.Spec)
	return job && rec.State == lifecycle.Stopped && rec.Desired == lifecycle.WantRunning &&
		rec.Exit != nil && rec.Exit.Code == 0
}

// notReadyWithin says why a container was given up, with what is known of why
// it did not serve.
func notReadyWithin(d time.Duration, rec lifecycle.Container) string {
	switch {
	case rec.Restarts > 0 && rec.Exit != nil:
		return fmt.Sprintf("within %s it was restarted %d times, and did not stay: %s", d, rec.Restarts, rec.EndReason())
	case rec.Restarts > 0:
		return fmt.Sprintf("within %s it was restarted %d times, and never served: see its log", d, rec.Restarts)
	case rec.ProbeError != "" && rec.Runtime == process.Name:
		return fmt.Sprintf("it ran, but did not serve within %s (last probe: %s): a process has to listen at the port in its environment variable PORT; see its log and its health check, or allow it more time", d, rec.ProbeError)
	case rec.ProbeError != "":
		return fmt.Sprintf("it ran, but did not serve within %s (last probe: %s): see its log and its health check, or allow it more time", d, rec.ProbeError)
	}
	return fmt.Sprintf("it ran, but did not serve within %s: see its log and its health check, or allow it more time", d)
}

// logTailLines is how much of a failed container's log its error shows.
const logTailLines = 10

// logTail returns the last lines of a container's log, as far as there is one.
func (c *Client) logTail(ctx context.Context, rec lifecycle.Container, n int) []string {
	rt, err := c.runtimeNamed(rec.Runtime)
	if err != nil {
		return nil
	}
	logger, ok := rt.(runtime.Logger)
	if !ok {
		return nil
	}
	var lines []string
	for entry, err := range logger.Logs(ctx, rec.ID, runtime.LogOptions{Tail: n}) {
		if err != nil {
			break
		}
		lines = append(lines, entry.Line)
	}
	return lines
}
