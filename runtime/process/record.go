//go:build linux || darwin

package process

import (
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
)

// identity names a process for ever: a process id alone is given again.
type identity struct {
	PID int `json:"pid"`
	// Start is when it started, in the operating system's own unit.
	Start uint64 `json:"start"`
	// Boot names the boot of the machine in which it was started.
	Boot string `json:"boot"`
}

// alive reports whether the process runs; one that ended and was not yet
// waited for does not.
func (i identity) alive() bool {
	p, err := identify(i.PID)
	return err == nil && p.identity == i && !p.ended
}

// owner is who supervises a container.
type owner struct {
	Process  identity `json:"process"`
	Instance string   `json:"instance"`
}

// record is status.json. The zero value is that of a container that was never
// started.
type record struct {
	// Process is the first process, from before it runs the command until its
	// end was recorded.
	Process *identity `json:"process,omitempty"`
	// Owner is who takes its output and will record its end.
	Owner     *owner            `json:"owner,omitempty"`
	Addresses []runtime.Address `json:"addresses,omitempty"`
	StartedAt time.Time         `json:"started_at,omitzero"`
	Exit      *lifecycle.Exit   `json:"exit,omitempty"`
}

func (c record) status(id string) runtime.Status {
	st := runtime.Status{ID: id, State: lifecycle.Created, StartedAt: c.StartedAt}
	switch {
	case c.Process != nil:
		st.State, st.PID, st.Addresses = lifecycle.Running, c.Process.PID, c.Addresses
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

// loadConfig reads what to run.
func (r *Runtime) loadConfig(id string) (runtime.Config, error) {
	var cfg runtime.Config
	if runtime.CheckID(id) != nil {
		return cfg, runtime.ErrNotFound
	}
	data, err := os.ReadFile(r.path(id, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return cfg, runtime.ErrNotFound
	}
	if err != nil {
		return cfg, err
	}
	if err := json.Unmarshal(data, &cfg); err != nil {
		return cfg, fmt.Errorf("%s is damaged (%w): remove the container and create it again", r.path(id, "config.json"), err)
	}
	return cfg, nil
}

// load reads what was last recorded. A damaged record is taken for the end of
// a run that nobody saw: whatever still runs of it is found by its environment
// before the next start.
func (r *Runtime) load(id string) (record, error) {
	if runtime.CheckID(id) != nil {
		return record{}, runtime.ErrNotFound
	}
	data, err := os.ReadFile(r.path(id, "status.json"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(r.path(id, "config.json")); err != nil {
			return record{}, runtime.ErrNotFound
		}
		return record{}, nil
	}
	if err != nil {
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

// supervised reports whether somebody will record the end of a run.
func (r *Runtime) supervised(id string, c record) bool {
	switch {
	case c.Owner == nil:
		return false
	case *c.Owner == r.self:
		return r.current(id) != nil
	}
	return c.Owner.Process.alive()
}

// observe returns the status of a container, whoever supervises it. An end
// that its living supervisor has not recorded yet has not happened yet, so that
// nobody sees a container stopped without the code that will be known.
func (r *Runtime) observe(id string) (runtime.Status, record, error) {
	c, err := r.load(id)
	for {
		if err != nil {
			return runtime.Status{}, c, err
		}
		if c.Process == nil || c.Process.alive() || r.supervised(id, c) {
			return c.status(id), c, nil
		}
		// Both are dead, but the supervisor may have recorded the end between
		// the reading and that.
		again, err := r.load(id)
		if err == nil && reflect.DeepEqual(again, c) {
			return c.ended(unknownExit()).status(id), c, nil
		}
		c = again
		if err != nil {
			return runtime.Status{}, c, err
		}
	}
}
