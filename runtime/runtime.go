// Package runtime is the vocabulary that container runtimes share: what they
// are asked to run, what they report, and the errors by which they say what
// did not work. The runtimes themselves are in the packages below.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
)

// Errors that every runtime returns, wrapped with the operation and the
// container's id.
var (
	// ErrNotFound: the runtime has no container with this id.
	ErrNotFound = errors.New("container not found in the runtime")
	// ErrExists: Create was given an id that the runtime already has.
	ErrExists = errors.New("container exists already in the runtime")
	// ErrRunning: the operation needs a container that does not run.
	ErrRunning = errors.New("container is running")
	// ErrNotRunning: the operation needs a running container.
	ErrNotRunning = errors.New("container is not running")
	// ErrCommand: Exec was given a command that the container cannot run: there
	// is no such program, working directory or user. The text says which.
	ErrCommand = errors.New("cannot run the command")
	// ErrUnsupported: the runtime, or this operating system, cannot do what
	// was asked. The text says why.
	ErrUnsupported = errors.New("not supported")
	// ErrUnavailable: the runtime is the one for such a container, and what it
	// needs of the machine is not there. The text says what, and how to mend it.
	// It is an ErrUnsupported too.
	ErrUnavailable = errors.New("runtime is not available")
)

// Config is what a runtime needs to create a container.
type Config struct {
	// ID is the container's id, 64 hexadecimal characters.
	ID string
	// Spec is the validated specification with defaults filled in and paths
	// resolved.
	Spec bunfile.Spec
	// ImageDigest is what Pull returned for the container's image. Where the
	// image is still there, Create uses it without asking a registry, whatever
	// the pull policy. Empty means that the policy decides.
	ImageDigest string `json:",omitempty"`
}

// Address is where the node itself reaches a port of a running container.
type Address struct {
	// ContainerPort is the port as the specification names it.
	ContainerPort int `json:"container_port"`
	// Protocol of the port.
	Protocol bunfile.Protocol `json:"protocol"`
	// HostPort is a host:port that can be dialled from this node.
	HostPort string `json:"host_port"`
}

// Status is what a runtime sees of a container.
type Status struct {
	// ID is the container's id.
	ID string
	// State is Created, Running or Stopped.
	State lifecycle.State
	// PID is the first process while Running, 0 elsewhere.
	PID int
	// Addresses of the container's ports while Running.
	Addresses []Address
	// StartedAt is the last start; zero if there was none.
	StartedAt time.Time
	// Exit is the last end, nil while Running or never started.
	Exit *lifecycle.Exit
}

// LogStream says which output of a container a line came from.
type LogStream string

// The streams.
const (
	Stdout LogStream = "stdout"
	Stderr LogStream = "stderr"
)

// LogEntry is one line of a container's output.
type LogEntry struct {
	Time   time.Time
	Stream LogStream
	// Line is without its line feed.
	Line string
}

// CheckID returns an error unless id is 64 hexadecimal characters, lower case: such ids
// are safe in paths and unique on file systems that fold case.
func CheckID(id string) error {
	ok := len(id) == 64
	for _, c := range id {
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f')
	}
	if !ok {
		return fmt.Errorf("container id %q is not 64 lower-case hexadecimal characters", id)
	}
	return nil
}

// LogOptions selects log entries. The zero value means everything kept so far.
type LogOptions struct {
	// Follow goes on with new entries until the container's last entry has
	// been read after its end, or the context ends.
	Follow bool
	// Tail is how many entries from the end to begin with. 0 means all,
	// below 0 none.
	Tail int
}

// Logger is a runtime that keeps its containers' output.
type Logger interface {
	// Logs yields a container's log entries, oldest first. An error ends the
	// sequence; the end of ctx ends it without one. Logs may be called from
	// any process that can open the runtime's data, at any time between Create
	// and Remove. An entry that begins with "budgie: " tells of entries that are
	// missing: for lack of room, or since the reader was slower than old ones are
	// thrown away.
	Logs(ctx context.Context, id string, opts LogOptions) iter.Seq2[LogEntry, error]
}

// Releaser is a runtime whose containers one process at a time supervises, which can
// give that up for another.
type Releaser interface {
	// Release gives up the supervision of a container and leaves it running, if it
	// runs: another process can Adopt it, and so can this one. A container that is not
	// supervised here, or is not there, is no error.
	Release(ctx context.Context, id string) error
}

// Preparer is a runtime whose containers take something from the program that
// asks for them, which may not be the program that starts them.
type Preparer interface {
	// Prepare returns spec completed with what the calling program has. It is
	// called once, before anything of the container exists, and does not change
	// what spec refers to.
	Prepare(ctx context.Context, spec bunfile.Spec) (bunfile.Spec, error)
}
