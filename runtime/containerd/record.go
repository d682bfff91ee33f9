//go:build linux

package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/budgiehq/budgie/internal/hostdir"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/gofrs/flock"
)

// record is status.json. The zero value is that of a container that was never
// started.
type record struct {
	// PID is the first process, from before it runs the command until its end
	// was recorded; 0 elsewhere.
	PID int `json:"pid,omitempty"`
	// Starting is set while containerd is asked for a task.
	Starting  bool              `json:"starting,omitempty"`
	Addresses []runtime.Address `json:"addresses,omitempty"`
	StartedAt time.Time         `json:"started_at,omitzero"`
	// Exit is the last end. With a PID it is an end whose traces are not all
	// removed yet.
	Exit *lifecycle.Exit `json:"exit,omitempty"`
}

func (c record) status(id string) runtime.Status {
	st := runtime.Status{ID: id, State: lifecycle.Created, StartedAt: c.StartedAt}
	switch {
	case c.PID != 0:
		st.State, st.PID, st.Addresses = lifecycle.Running, c.PID, c.Addresses
	case c.Exit != nil:
		exit := *c.Exit
		st.State, st.Exit = lifecycle.Stopped, &exit
	}
	return st
}

// ended returns the record after an end.
func (c record) ended(exit lifecycle.Exit) record {
	return record{StartedAt: c.StartedAt, Exit: &exit}
}

func unknownExit() lifecycle.Exit {
	return lifecycle.Exit{Code: lifecycle.UnknownExitCode, At: time.Now()}
}

func (r *Runtime) path(id string, elem ...string) string {
	return filepath.Join(append([]string{r.dir, id}, elem...)...)
}

// exists tells whether the runtime has a container.
func (r *Runtime) exists(id string) error {
	if runtime.CheckID(id) != nil {
		return runtime.ErrNotFound
	}
	_, err := os.Stat(r.path(id, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return runtime.ErrNotFound
	}
	return err
}

// loadConfig reads what to run.
func (r *Runtime) loadConfig(id string) (runtime.Config, error) {
	var cfg runtime.Config
	if err := r.exists(id); err != nil {
		return cfg, err
	}
	data, err := os.ReadFile(r.path(id, "config.json"))
	if err != nil {
		return cfg, err
	}
	if err := json.Unmarshal(data, &cfg); err != nil {
		return cfg, fmt.Errorf("%s is damaged (%w): remove the container and create it again", r.path(id, "config.json"), err)
	}
	return cfg, nil
}

// load reads what was last recorded. A damaged record is taken for the end of a
// run that nobody saw.
func (r *Runtime) load(id string) (record, error) {
	if err := r.exists(id); err != nil {
		return record{}, err
	}
	data, err := os.ReadFile(r.path(id, "status.json"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = runtime.ErrNotFound // removed meanwhile
		}
		return record{}, err
	}
	var c record
	if err := json.Unmarshal(data, &c); err != nil {
		r.log.Warn("a container's status file is damaged and ignored", "id", id, "error", err)
		exit := unknownExit()
		return record{Exit: &exit}, nil
	}
	return c, nil
}

func (r *Runtime) save(id string, c record) error {
	return hostdir.WriteJSON(r.path(id, "status.json"), c)
}

// lockPatience is how long a supervisor's lock is tried for.
const lockPatience = 500 * time.Millisecond

// supervise takes the lock that says who looks after a container. It dies with
// the process.
func (r *Runtime) supervise(id string) (*flock.Flock, error) {
	lock := flock.New(r.path(id, "supervisor"))
	// Whoever only asks holds it for a moment, too.
	ctx, cancel := context.WithTimeout(r.ctx, lockPatience)
	defer cancel()
	ok, err := lock.TryLockContext(ctx, time.Millisecond)
	if ok {
		return lock, nil
	}
	lock.Close()
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("another program supervises the container: end it first")
	}
	return nil, err
}

// supervised reports whether somebody looks after a container.
func (r *Runtime) supervised(id string) bool {
	lock := flock.New(r.path(id, "supervisor"), flock.SetFlag(os.O_RDWR))
	defer lock.Close()
	ok, err := lock.TryRLock()
	return err == nil && !ok
}

// task returns what containerd knows of a container's task: an error that is
// errdefs.IsNotFound if there is none.
func (r *Runtime) task(ctx context.Context, id string) (client.Task, client.Status, error) {
	c, err := r.client(ctx)
	if err != nil {
		return nil, client.Status{}, err
	}
	container, err := c.LoadContainer(ctx, id)
	if err != nil {
		return nil, client.Status{}, err
	}
	task, err := container.Task(ctx, nil)
	if err != nil {
		return nil, client.Status{}, err
	}
	st, err := task.Status(ctx)
	return task, st, err
}

// observe returns the status of a container, whoever supervises it. An end
// that its living supervisor has not recorded yet has not happened yet: its log
// is not complete.
func (r *Runtime) observe(ctx context.Context, id string) (runtime.Status, record, error) {
	c, err := r.load(id)
	for {
		if err != nil || c.PID == 0 {
			return c.status(id), c, err
		}
		_, st, terr := r.task(ctx, id)
		if terr != nil && !errdefs.IsNotFound(terr) {
			return runtime.Status{}, c, terr
		}
		if terr == nil && st.Status != client.Stopped && st.Status != client.Created || r.supervised(id) {
			return c.status(id), c, nil
		}
		again, err := r.load(id)
		if err == nil && reflect.DeepEqual(again, c) {
			return c.ended(r.exit(c, st, terr)).status(id), c, nil
		}
		if c = again; err != nil {
			return runtime.Status{}, c, err
		}
	}
}

// exit returns the end of a run of which containerd may still know.
func (r *Runtime) exit(c record, st client.Status, err error) lifecycle.Exit {
	switch {
	case c.Exit != nil:
		return *c.Exit
	case err == nil && st.Status == client.Stopped:
		return lifecycle.Exit{Code: int(st.ExitStatus), At: st.ExitTime}
	}
	return unknownExit()
}
