package budgie

import (
	"context"
	"io"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/runtime"
)

// Runtime creates and runs containers. The optional abilities are
// [runtime.Logger], [runtime.Execer], [runtime.Puller], [runtime.Statser],
// [runtime.Inspector], [runtime.Preparer] and [runtime.Releaser].
//
// All methods may be called concurrently, also for the same container. Those
// that change a container exclude each other per container and are called by
// one process at a time, the container's owner; Status, List, Wait and the
// optional abilities work in any process that can open the runtime's data.
// The end of ctx ends a call early with ctx's error; what the call had begun
// is finished or undone by the next one. runtimetest.Run is the conformance
// suite.
type Runtime interface {
	// Name is the word by which users choose this runtime. It is constant.
	Name() string
	// Supports returns nil if the runtime can run spec, or an error that says
	// why not and what to do. It is used to choose among runtimes, and does
	// not look whether what spec names exists.
	Supports(ctx context.Context, spec bunfile.Spec) error
	// Create prepares a container without starting it. It returns
	// runtime.ErrExists for a known id. On any error nothing is left.
	Create(ctx context.Context, cfg runtime.Config) error
	// Start starts a created container, or a stopped one anew, and returns its
	// status with its addresses, which may change from start to start. It
	// returns runtime.ErrNotFound for an unknown id and runtime.ErrRunning for
	// a running container. The container outlives ctx.
	Start(ctx context.Context, id string) (runtime.Status, error)
	// Adopt takes over a container that an earlier process started and
	// returns its status. Adopting one's own container changes nothing. Unknown
	// ids give runtime.ErrNotFound.
	Adopt(ctx context.Context, id string) (runtime.Status, error)
	// Stop asks a container to end by its stop signal, kills it when grace is
	// over, and returns after its end and that of all its processes. Grace 0
	// kills at once. Stopping a container that does not run does nothing;
	// unknown ids give runtime.ErrNotFound.
	Stop(ctx context.Context, id string, grace time.Duration) error
	// Remove deletes all that is left of a container, its logs included. A
	// running one gives runtime.ErrRunning, an unknown one runtime.ErrNotFound.
	Remove(ctx context.Context, id string) error
	// Status returns what is seen of a container now, runtime.ErrNotFound for
	// an unknown id.
	Status(ctx context.Context, id string) (runtime.Status, error)
	// List returns the status of all containers, sorted by id.
	List(ctx context.Context) ([]runtime.Status, error)
	// Wait blocks until the container does not run and returns its status then,
	// at once if it does not run now. Unknown ids give runtime.ErrNotFound.
	Wait(ctx context.Context, id string) (runtime.Status, error)
	// Close frees what this value holds. Containers go on running. Calls under
	// way end with an error. Close can be called again.
	Close() error
}

// Discoverer announces services on a network and browses for those of others.
// All methods may be called concurrently. discoverytest.Run is the conformance
// suite.
type Discoverer interface {
	// Announce makes svc known until Withdraw or Close, and returns when the
	// announcement is on its way. Announcing an ID again replaces what was
	// announced. It returns discovery.ErrInvalid for a service that cannot be
	// announced and discovery.ErrClosed after Close.
	Announce(ctx context.Context, svc discovery.Service) error
	// Withdraw takes an announcement back and tells the network. Withdrawing
	// what is not announced does nothing.
	Withdraw(ctx context.Context, id string) error
	// Browse sends an event for every service that is there, own ones
	// included, and then for every change, until ctx ends, when it closes the
	// channel. Per ID the events are Added, any number of Updated, Removed. A
	// slow receiver delays its own events and nothing else; it always sees the
	// last state. It returns discovery.ErrClosed after Close, which also closes
	// open channels.
	Browse(ctx context.Context) (<-chan discovery.Event, error)
	// Close withdraws all announcements and frees what the value holds. It can
	// be called again.
	Close() error
}

// Syncer copies volumes from their owner to replicas. The two ends of a copy
// talk over a connection that the caller made and trusts. All methods may be
// called concurrently. replicatest.Run is the conformance suite.
type Syncer interface {
	// Send serves the directory dir to the Receive or Follow at the other end of
	// conn and returns when that has verified its copy, or wants no more. It never
	// changes dir.
	Send(ctx context.Context, conn io.ReadWriter, dir string) (replica.Report, error)
	// Receive makes the directory dir, which it creates if needed, equal to
	// the sender's and verifies it. What the user or the file system that
	// receives cannot keep, owners for one, is left out, which both reports say. A
	// Receive that fails leaves every file either as it was or as the sender has
	// it; the next one goes on from there. What opts has is called by one goroutine
	// at a time, before Receive returns.
	Receive(ctx context.Context, conn io.ReadWriter, dir string, opts replica.ReceiveOptions) (replica.Report, error)
	// Follow does the same, and then takes over every change at the source until
	// ctx or conn ends. It returns why it ended, never nil. What opts has is
	// called by one goroutine at a time, before Follow returns.
	Follow(ctx context.Context, conn io.ReadWriter, dir string, opts replica.FollowOptions) error
}

// Balancer opens frontends, which spread traffic over backends. Listen may be
// called concurrently. balancetest.Run is the conformance suite.
type Balancer interface {
	// Listen starts serving on cfg.Listener or cfg.PacketConn, with no backends
	// at first. The frontend lives until its Shutdown, whatever happens to ctx,
	// which only bounds the call. It returns balance.ErrInvalid for a
	// configuration that it cannot serve, and then leaves the socket open.
	Listen(ctx context.Context, cfg balance.Config) (balance.Frontend, error)
}

// Store keeps the record of every container: what is wanted of it and what was
// last seen. It is where the programs that share a data directory meet. All
// methods may be called concurrently, from several processes where the store
// is shared. After Close they return store.ErrClosed. storetest.Run is the
// conformance suite.
type Store interface {
	// Get returns the record of an id, store.ErrNotFound without one.
	Get(ctx context.Context, id string) (lifecycle.Container, error)
	// List returns all records, oldest first, those of the same time by id.
	List(ctx context.Context) ([]lifecycle.Container, error)
	// Put writes a record if the stored one still has its Revision, and
	// returns it as stored, with the new Revision. Revision 0 creates, and
	// gives store.ErrExists where the id or the name is taken; any other
	// Revision gives store.ErrConflict where the stored one is different, and
	// store.ErrNotFound where there is none. When Put returns nil the record
	// survives a crash of the machine, if the store is one that survives.
	Put(ctx context.Context, c lifecycle.Container) (lifecycle.Container, error)
	// Delete removes the record of an id under the same condition as Put.
	Delete(ctx context.Context, id string, revision uint64) error
	// Watch sends a value at once and after every change, by whichever
	// process, until ctx ends, when it closes the channel. Changes in quick
	// succession may share a value; the last one is never missed.
	Watch(ctx context.Context) (<-chan struct{}, error)
	// Acquire takes an owner name for this process until release is called or
	// the process dies. It does not wait: store.ErrOwned means that another
	// holds it. Owner names are made of letters, digits and hyphens.
	Acquire(ctx context.Context, owner string) (release func() error, err error)
	// Alive reports whether some process holds an owner name.
	Alive(ctx context.Context, owner string) (bool, error)
	// Close frees what the value holds, owner names included, and closes the
	// channels of Watch. It can be called again.
	Close() error
}
