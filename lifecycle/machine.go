package lifecycle

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrTransition is what every *TransitionError is.
var ErrTransition = errors.New("state transition not allowed")

// TransitionError says which transition was refused.
type TransitionError struct {
	// ID is the container's.
	ID string
	// From and To are the states; From is empty before Creating.
	From, To State
}

// Error implements error.
func (e *TransitionError) Error() string {
	from := e.From
	if from == "" {
		from = "nothing"
	}
	return fmt.Sprintf("container %.12s cannot go from %s to %s", e.ID, from, e.To)
}

// Is makes errors.Is(e, ErrTransition) true.
func (e *TransitionError) Is(target error) bool { return target == ErrTransition }

// next returns the states that may follow a state.
func (s State) next() []State {
	switch s {
	case "":
		return []State{Creating}
	case Creating:
		return []State{Created, Stopped}
	case Created:
		return []State{Running, Stopped}
	case Running:
		return []State{Stopped}
	case Stopped:
		return []State{Created}
	}
	return nil
}

// to moves c to a state or refuses, leaving c as it was.
func (c *Container) to(s State) error {
	if !slices.Contains(c.State.next(), s) {
		return &TransitionError{ID: c.ID, From: c.State, To: s}
	}
	c.State = s
	return nil
}

// MarkCreating enters the first state.
func (c *Container) MarkCreating(now time.Time) error {
	if err := c.to(Creating); err != nil {
		return err
	}
	c.CreatedAt = now
	return nil
}

// MarkCreated says that the runtime has the container, or that a stopped one
// is about to start again, which counts as a restart.
func (c *Container) MarkCreated() error {
	again := c.State == Stopped
	if err := c.to(Created); err != nil {
		return err
	}
	if again {
		c.Restarts++
		c.RestartAt = time.Time{}
	}
	return nil
}

// MarkRunning says that the container's process started.
func (c *Container) MarkRunning(pid int, now time.Time) error {
	if err := c.to(Running); err != nil {
		return err
	}
	c.PID = pid
	c.StartedAt = now
	c.Exit = nil
	if c.Desired == WantRunning {
		c.Reason = ""
	}
	c.Ready = false
	c.ProbeError = ""
	c.Health = HealthNone
	if c.Spec.Healthcheck != nil {
		c.Health = HealthStarting
	}
	return nil
}

// MarkStopped says that the running container ended. jitter, from 0 to below
// 1, spreads the restarts of many containers; see [Backoff]. Whether and when
// the container starts again is in RestartAt afterwards.
func (c *Container) MarkStopped(exit Exit, jitter float64) error {
	if c.State != Running {
		return &TransitionError{ID: c.ID, From: c.State, To: Stopped}
	}
	if exit.At.Sub(c.StartedAt) >= StableAfter {
		c.Failures = 0
	}
	c.State = Stopped
	c.Exit = &exit
	c.ended(exit.At, jitter)
	return nil
}

// MarkFailed says that the container did not come to run, and why; the reason
// may be empty where it was not wanted any more. A container that could not
// even be created does not start again: what it asks for has to change first.
func (c *Container) MarkFailed(now time.Time, reason string, jitter float64) error {
	created := c.State == Created
	if c.State == Running {
		return &TransitionError{ID: c.ID, From: c.State, To: Stopped}
	}
	if err := c.to(Stopped); err != nil {
		return err
	}
	c.Reason = reason
	c.Exit = nil
	c.ended(now, jitter)
	if !created {
		c.RestartAt = time.Time{}
	}
	return nil
}

// ended does what every end has in common.
func (c *Container) ended(now time.Time, jitter float64) {
	c.PID = 0
	c.Ready = false
	c.Health = HealthNone
	c.Failures++
	c.RestartAt = time.Time{}
	if c.Desired == WantRunning && c.restarts() {
		c.RestartAt = now.Add(Backoff(c.Failures, jitter))
	}
}
