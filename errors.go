package budgie

import (
	"errors"
	"fmt"
	"strings"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/store"
	"github.com/budgiehq/budgie/trust"
)

// Errors that the methods of [Client] return, wrapped with what was done to
// what.
var (
	// ErrNotFound: no container has this id, id prefix or name.
	ErrNotFound = store.ErrNotFound
	// ErrExists: the name is taken by a container that is not stopped.
	ErrExists = store.ErrExists
	// ErrAmbiguous: an id prefix fits several containers.
	ErrAmbiguous = errors.New("ambiguous container id")
	// ErrNotReady: a container ended, or its time was over, before it served.
	// errors.As finds a *NotReadyError with the reason and the end of its log.
	ErrNotReady = errors.New("container did not become ready")
	// ErrRunning: the operation needs a container that is stopped.
	ErrRunning = errors.New("container is not stopped")
	// ErrNoRuntime: none of the client's runtimes can run the specification.
	ErrNoRuntime = errors.New("no runtime can run this")
	// ErrUnsupported: the container's runtime lacks the optional ability that
	// was asked for.
	ErrUnsupported = errors.New("not supported by this runtime")
	// ErrNoSupervisor: a detached container needs a supervisor, none is alive,
	// and the client was not told how to start one.
	ErrNoSupervisor = errors.New("no supervisor is alive")
	// ErrSupervised: another process supervises this data directory already.
	ErrSupervised = errors.New("another process supervises this data directory")
	// ErrReplaced: another process has taken this one's place.
	ErrReplaced = errors.New("another process has taken over")
	// ErrNotTrusted: another node does not prove to be in this machine's flock,
	// or this one not to be in its.
	ErrNotTrusted = trust.ErrNotTrusted
	// ErrUnreachable: the endpoint of another node does not answer.
	ErrUnreachable = peer.ErrUnreachable
	// ErrJoined: this machine runs a replica of the service that was to be joined.
	ErrJoined = errors.New("this machine runs it already")
	// ErrReplicas: the service has as many replicas as it may.
	ErrReplicas = errors.New("the service has all the replicas that it may have")
	// ErrNotAllowed: what another node wants to run here needs to be allowed by
	// this machine's user, or cannot be; or a volume has the data directory in it.
	ErrNotAllowed = errors.New("not allowed")
	// ErrOwner: a replica cannot be made the owner of its volumes, or is it
	// already.
	ErrOwner = errors.New("cannot become the owner of the volumes")
	// ErrNoOwner: of those who have a service's volumes only one answers that owned
	// them before another was made their owner.
	ErrNoOwner = errors.New("nobody has the volumes as their owner has them")
	// ErrNothingHeld: no copy of a volume on this machine waits for a person's consent.
	ErrNothingHeld = errors.New("no copy of a volume on this machine waits for consent")
	// ErrTokenFixed: the client was given its token, by WithToken or
	// BUDGIE_TOKEN, and cannot change it.
	ErrTokenFixed = trust.ErrFixed
	// ErrTokenUnusable: the file of the token, or of the node's key, is damaged,
	// gone, not a regular file, of another user, or open to others.
	ErrTokenUnusable = trust.ErrUnusable
	// ErrClosed: the client is closed.
	ErrClosed = errors.New("client is closed")
)

// NotReadyError says why a container did not become ready. It is an
// ErrNotReady.
type NotReadyError struct {
	// Container as last seen.
	Container lifecycle.Container
	// Reason in words.
	Reason string
	// Log is the end of the container's output, oldest line first.
	Log []string
	// Err is the error behind the reason, nil where there is none.
	Err error
}

// Error implements error. The text has several lines where there is a log.
func (e *NotReadyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "container %s (%s) did not become ready: %s", e.Container.Name, e.Container.ShortID(), e.Reason)
	if len(e.Log) > 0 {
		b.WriteString("\nthe last lines of its log:")
		for _, line := range e.Log {
			b.WriteString("\n  ")
			b.WriteString(line)
		}
	}
	return b.String()
}

// Is makes errors.Is(e, ErrNotReady) true.
func (e *NotReadyError) Is(target error) bool { return target == ErrNotReady }

// Unwrap returns the error behind the reason.
func (e *NotReadyError) Unwrap() error { return e.Err }
