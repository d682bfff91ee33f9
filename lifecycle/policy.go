package lifecycle

import (
	"math"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// The timing of restarts.
const (
	// BackoffBase is the delay before the first restart.
	BackoffBase = 100 * time.Millisecond
	// BackoffMax is the longest delay before a restart.
	BackoffMax = time.Minute
	// StableAfter is how long a container must have run for its end not to
	// count as one more failure in a row.
	StableAfter = 10 * time.Second
)

// Backoff returns the delay before the restart that follows the given number
// of failures in a row, 1 or more: BackoffBase, doubled with each further
// failure, at most BackoffMax. jitter, from 0 to below 1, moves the delay by
// up to a quarter either way, so that containers that failed together do not
// start together.
func Backoff(failures int, jitter float64) time.Duration {
	d := float64(BackoffBase) * math.Pow(2, float64(max(failures, 1)-1))
	d = min(d, float64(BackoffMax)) * (0.75 + jitter/2)
	return time.Duration(min(d, float64(BackoffMax)))
}

// restarts reports whether the restart policy wants another start after the
// end that is in c.Exit.
func (c *Container) restarts() bool {
	p := c.Spec.RestartPolicy
	switch p.Name {
	case bunfile.RestartAlways, bunfile.RestartUnlessStopped:
		return true
	case bunfile.RestartOnFailure:
		failed := c.Exit == nil || c.Exit.Code != 0
		return failed && (p.MaximumRetryCount == 0 || c.Failures <= p.MaximumRetryCount)
	}
	return false
}

// RestartsWhenUnhealthy reports whether the restart policy answers failing
// health checks with a restart: every policy but "no" does.
func (c Container) RestartsWhenUnhealthy() bool {
	name := c.Spec.RestartPolicy.Name
	return name != "" && name != bunfile.RestartNo
}

// Action is what a supervisor has to do next for a container.
type Action int

// The actions.
const (
	// Nothing: what is seen is what is wanted, for now.
	Nothing Action = iota
	// Create in the runtime.
	Create
	// Start what was created.
	Start
	// Stop what runs, because that is wanted.
	Stop
	// Replace what runs, because it is unhealthy: stop it, so that the restart
	// policy starts it again.
	Replace
	// Settle a container that never started and is wanted stopped: mark it
	// stopped.
	Settle
	// Wait until the step's time, then ask again.
	Wait
	// Restart: mark it created again and start it.
	Restart
	// Done: nothing will ever happen again unless somebody wants it.
	Done
)

// String returns the action's name in lower case.
func (a Action) String() string {
	names := [...]string{"nothing", "create", "start", "stop", "replace", "settle", "wait", "restart", "done"}
	if a < 0 || int(a) >= len(names) {
		return "unknown"
	}
	return names[a]
}

// Step is an action and, for Wait, until when.
type Step struct {
	Do    Action
	Until time.Time
}

// Next compares what is wanted of c with what is seen at time now. It depends
// on nothing else, so a supervisor that lost everything but the record goes on
// where the one before it was.
func Next(c Container, now time.Time) Step {
	if c.Desired == WantStopped {
		return nextStopped(c)
	}
	switch c.State {
	case Creating:
		return Step{Do: Create}
	case Created:
		return Step{Do: Start}
	case Running:
		if c.Health == Unhealthy && c.RestartsWhenUnhealthy() {
			return Step{Do: Replace}
		}
		return Step{Do: Nothing}
	case Stopped:
		switch {
		case c.Finished():
			return Step{Do: Done}
		case now.Before(c.RestartAt):
			return Step{Do: Wait, Until: c.RestartAt}
		}
		return Step{Do: Restart}
	}
	return Step{Do: Nothing}
}

func nextStopped(c Container) Step {
	switch c.State {
	case Creating, Created:
		return Step{Do: Settle}
	case Running:
		return Step{Do: Stop}
	}
	return Step{Do: Done}
}

// Finished reports whether nothing will ever happen to the container again
// unless somebody wants it.
func (c Container) Finished() bool {
	return c.State == Stopped && (c.Desired == WantStopped || c.RestartAt.IsZero())
}
