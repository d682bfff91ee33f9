package budgie

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

// Option changes how [New] makes a Client.
type Option func(*config)

// config is what the options fill in. A nil field means the default.
type config struct {
	dataDir     string
	bind        string
	runtimes    []Runtime
	discoverer  Discoverer
	noDiscovery bool
	// handOver and takeOver say that another process may take this one's place, and
	// that this one takes another's; upgrade starts a successor, nil where there is no
	// way.
	handOver, takeOver bool
	upgrade            func(context.Context) (string, error)
	interfaces         []string
	peers              []string
	syncer             Syncer
	balancer           Balancer
	store              Store
	observers          []balance.Observer
	log                *slog.Logger
	supervisorCmd      []string
	token              trust.Token
	// tokenOrigin says what gave the client its token, "" where that is the
	// data directory.
	tokenOrigin string
	tokenErr    error
	// syncRate is in bytes per second, 0 for no limit, and syncRateErr why what the
	// environment says is none.
	syncRate    int64
	syncRateErr error
}

// WithDataDir sets the directory that holds the state, the containers' logs
// and the node's identity. Programs that use the same directory see the same
// containers. The default is that of [DefaultDataDir].
func WithDataDir(dir string) Option { return func(c *config) { c.dataDir = dir } }

// WithBindAddress sets the host address that published ports are bound to:
// "127.0.0.1" keeps them on this machine. An empty string binds them to all of
// the machine's addresses. The default is what BUDGIE_BIND says.
func WithBindAddress(addr string) Option { return func(c *config) { c.bind = addr } }

// WithRuntime adds a runtime. It may be given several times: a container runs
// on the first runtime that supports it. Without it there is the process
// runtime in the data directory. The client does not close runtimes given to it.
func WithRuntime(r Runtime) Option { return func(c *config) { c.runtimes = append(c.runtimes, r) } }

// WithDiscoverer replaces mDNS on the machine's network interfaces. The client
// does not close it.
func WithDiscoverer(d Discoverer) Option { return func(c *config) { c.discoverer = d } }

// WithInterfaces limits the default mDNS discoverer to the named network
// interfaces; "lo" keeps announcements on this machine. Without names it uses
// all but container bridges. The default is what BUDGIE_INTERFACES lists,
// separated by commas.
func WithInterfaces(names ...string) Option { return func(c *config) { c.interfaces = names } }

// WithPeers names nodes of the flock by their address, host or host:port, for
// networks on which multicast does not work: what they run is found besides what
// is announced. The port is that of the node's endpoint, 18733 where it says
// nothing. It may be given several times. Nodes that are to find each other each
// need the other's address. The default is what BUDGIE_PEERS lists, separated by
// commas.
func WithPeers(addrs ...string) Option {
	return func(c *config) { c.peers = append(c.peers, addrs...) }
}

// WithLoopback keeps everything on this machine: published ports are bound to
// 127.0.0.1, and the default discoverer uses the loopback interface only.
func WithLoopback() Option {
	return func(c *config) {
		c.bind = "127.0.0.1"
		c.interfaces = nil
		ifaces, _ := net.Interfaces() // without any, mDNS says so when it is needed
		for _, i := range ifaces {
			if i.Flags&net.FlagLoopback != 0 {
				c.interfaces = append(c.interfaces, i.Name)
			}
		}
	}
}

// WithoutDiscovery neither announces nor finds anything.
func WithoutDiscovery() Option { return func(c *config) { c.noDiscovery = true } }

// WithSyncer replaces the built-in volume sync, by which [Client.Join] gets the
// volumes of a service, and other nodes get those of this client's containers.
// Both sides need the same.
func WithSyncer(s Syncer) Option { return func(c *config) { c.syncer = s } }

// WithSyncRate bounds what the built-in volume sync sends and what it receives, all
// volumes together, to so many bytes per second each: see [replica.WithRateLimit]. 0
// is no limit. The default is what BUDGIE_SYNC_RATE says, such as 10MiB.
func WithSyncRate(bytesPerSecond int64) Option {
	return func(c *config) { c.syncRate, c.syncRateErr = bytesPerSecond, nil }
}

// WithBalancer replaces the built-in balancer.
func WithBalancer(b Balancer) Option { return func(c *config) { c.balancer = b } }

// WithObserver has somebody told of the traffic of all published ports, and of those
// that [Client.Balance] serves. It may be given several times. Package
// balance/balanceprom makes metrics for Prometheus of it, balance/accesslog a log.
func WithObserver(o balance.Observer) Option {
	return func(c *config) { c.observers = append(c.observers, o) }
}

// WithStore replaces the file store in the data directory. The client does not
// close it.
func WithStore(s Store) Option { return func(c *config) { c.store = s } }

// WithLogger sets where the client reports what nobody waits for. The default
// is silent.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// WithToken makes the client a member of a token's flock, whatever the data
// directory says. The token cannot be changed by this client then. Without it
// the token is the one that BUDGIE_TOKEN holds, else the one in the data
// directory.
func WithToken(t trust.Token) Option {
	return func(c *config) { c.token, c.tokenOrigin, c.tokenErr = t, "WithToken", nil }
}

// WithSupervisorCommand tells the client how to start a supervisor for the
// data directory, in a process of its own, when a detached container needs one
// and none is alive: a program that calls [Client.Supervise], and its
// arguments. It is started with BUDGIE_DATA_DIR set to the data directory, and
// with BUDGIE_TOKEN where the client was given a token.
func WithSupervisorCommand(name string, args ...string) Option {
	return func(c *config) { c.supervisorCmd = append([]string{name}, args...) }
}

// environment returns the configuration before any option.
func environment() config {
	c := config{bind: os.Getenv("BUDGIE_BIND")}
	c.tokenOfEnvironment()
	c.interfaces = listOf("BUDGIE_INTERFACES")
	c.peers = listOf("BUDGIE_PEERS")
	if text := os.Getenv("BUDGIE_SYNC_RATE"); text != "" {
		c.syncRate, c.syncRateErr = parseRate(text)
	}
	return c
}

// parseRate reads a number of bytes per second.
func parseRate(text string) (int64, error) {
	rate, err := bunfile.ParseSize(text)
	if err == nil && rate < 0 {
		err = errors.New("it is negative")
	}
	if err != nil {
		return 0, fmt.Errorf("BUDGIE_SYNC_RATE is no number of bytes per second, such as 10MiB: %w", err)
	}
	return int64(rate), nil
}

// listOf returns the words of an environment variable, which are separated by
// commas.
func listOf(variable string) []string {
	var words []string
	for word := range strings.SplitSeq(os.Getenv(variable), ",") {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	return words
}

// DefaultDataDir returns the directory that BUDGIE_DATA_DIR names, else
// /var/lib/budgie for root, else the user's state directory as in the XDG base
// directory specification: $XDG_STATE_HOME/budgie or ~/.local/state/budgie. It
// is empty for a user without a home directory.
func DefaultDataDir() string {
	if dir := os.Getenv("BUDGIE_DATA_DIR"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/budgie"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "budgie")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		u, err := user.Current()
		if err != nil || !filepath.IsAbs(u.HomeDir) {
			return ""
		}
		home = u.HomeDir
	}
	return filepath.Join(home, ".local", "state", "budgie")
}

// DefaultReadyTimeout is how long [Client.Run] waits for a container to become
// ready, beyond the start period of its health check.
const DefaultReadyTimeout = time.Minute

// RunOption changes one [Client.Run].
type RunOption func(*runConfig)

type runConfig struct {
	detached     bool
	autoRemove   bool
	runtime      string
	readyTimeout time.Duration
	onLog        func(lifecycle.Container, runtime.LogEntry)
	onPull       func(name string, p runtime.PullProgress)
	name         string
	allowProcess bool
	onJoin       func(JoinPlan)
	onSeed       func(name string, p SeedProgress)
	fullCheck    bool
	onRestart    func(lifecycle.Container)
	weight       *int // nil for the specification's
	// restored marks a replica that a host joins since others are missing.
	restored bool
	// join is what the container is a replica of; nil for the first of a
	// service.
	join *joining
}

// Detached makes the container outlive the program: the data directory's
// supervisor looks after it, and the context of Run governs the waiting only.
func Detached() RunOption { return func(c *runConfig) { c.detached = true } }

// AutoRemove removes the container, with its logs, when it is done.
func AutoRemove() RunOption { return func(c *runConfig) { c.autoRemove = true } }

// Weight is the share of the traffic of the container, in proportion to the weights of
// the other replicas, for the algorithm [bunfile.Weighted]: 1 to [bunfile.MaxWeight]. It
// takes the place of the specification's balance.weight here; replicas that others join
// have theirs from the specification. Run and Join refuse other numbers.
func Weight(n int) RunOption { return func(c *runConfig) { c.weight = &n } }

// Named names the container, instead of its specification.
func Named(name string) RunOption { return func(c *runConfig) { c.name = name } }

// AllowProcess lets [Client.Join] run a command of this machine, as its user,
// that another node of the flock names. Without it only images are joined.
func AllowProcess() RunOption { return func(c *runConfig) { c.allowProcess = true } }

// OnJoin calls f with what a [Client.Join] is about to do, once the specification
// is there and before anything else is fetched. The join waits for f.
func OnJoin(f func(JoinPlan)) RunOption { return func(c *runConfig) { c.onJoin = f } }

// OnSeed calls f with what happens while a [Client.Join] copies the volumes of
// the service for the container with that name. Calls follow each other, and the
// copy waits for f.
func OnSeed(f func(name string, p SeedProgress)) RunOption {
	return func(c *runConfig) { c.onSeed = f }
}

// FullCheck has a [Client.Join] read every file of the service's volumes again, at the
// node that gives them and in what this machine has of them, whatever their times say.
// What differs comes anew: see [replica.Report].Mended at SeedDone.
func FullCheck() RunOption { return func(c *runConfig) { c.fullCheck = true } }

// OnRuntime chooses the runtime by its name instead of by what the
// specification needs. An empty name or "auto" means the latter.
func OnRuntime(name string) RunOption { return func(c *runConfig) { c.runtime = name } }

// ReadyWithin sets how long Run waits for the container to become ready before
// it stops it and fails.
func ReadyWithin(d time.Duration) RunOption { return func(c *runConfig) { c.readyTimeout = d } }

// OnLog calls f with each line that the container writes, from its start to its
// end and across restarts, in order. Close and the end of the container wait for
// f. Containers of the same RunAll call f concurrently. It has no effect on a
// detached container: use [Client.Logs].
func OnLog(f func(lifecycle.Container, runtime.LogEntry)) RunOption {
	return func(c *runConfig) { c.onLog = f }
}

// OnRestart calls f each time that a [Detached] container ends before it is ready,
// with its record, where it is started again: EndReason says why it ended, and
// RestartAt when it starts. Calls for one container follow each other, and Run waits
// for f; those of the same RunAll may be concurrent. What other containers do
// is in the client's log.
func OnRestart(f func(lifecycle.Container)) RunOption {
	return func(c *runConfig) { c.onRestart = f }
}

// OnPull calls f with what happens while the image of the container with that
// name is made ready, where its runtime is a [runtime.Puller]. Calls for one
// container follow each other; those of the same RunAll may be concurrent. The
// pull waits for f.
func OnPull(f func(name string, p runtime.PullProgress)) RunOption {
	return func(c *runConfig) { c.onPull = f }
}

func newRunConfig(spec bunfile.Spec, opts []RunOption) runConfig {
	rc := runConfig{readyTimeout: DefaultReadyTimeout}
	if spec.Healthcheck != nil {
		rc.readyTimeout += spec.Healthcheck.StartPeriod.Std()
	}
	for _, o := range opts {
		o(&rc)
	}
	return rc
}

func (rc runConfig) checkWeight() error {
	if rc.weight == nil || *rc.weight >= 1 && *rc.weight <= bunfile.MaxWeight {
		return nil
	}
	return fmt.Errorf("weight %d: want 1 to %d", *rc.weight, bunfile.MaxWeight)
}
