package budgie

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/discovery/mdns"
	"github.com/budgiehq/budgie/internal/ownership"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/runtime/process"
	"github.com/budgiehq/budgie/store/file"
	"github.com/budgiehq/budgie/trust"
)

// Client runs containers, looks after those that it runs, and finds those of
// others. Make one with [New]; close it with [Client.Close]. All methods may be
// called concurrently.
type Client struct {
	cfg      config
	log      *slog.Logger
	store    Store
	runtimes []Runtime
	balancer Balancer
	// disc makes or returns the discoverer, at the first need: a client that
	// only lists containers opens no sockets.
	disc func() (Discoverer, error)
	// given is what the nodes tell whose addresses the client was given; nil
	// before the discoverer, and without such addresses.
	given atomic.Pointer[toldByPeers]
	// flock is this machine's membership, nil before the first need.
	flockMu sync.Mutex
	flock   *trust.Flock
	// flockWatch follows what other nodes run, for all containers.
	flockWatch flockWatch
	// following starts that announcements follow the flock, and flockChanges
	// counts how often they were to.
	following    sync.Once
	flockChanges atomic.Int64
	// endpointPort is where other nodes of the flock can ask, 0 before that is
	// needed.
	endpointMu   sync.Mutex
	endpointPort int

	// life ends with Close; everything in the background hangs on it.
	life  context.Context
	end   context.CancelFunc
	wg    sync.WaitGroup
	owner string
	// activating is held by whoever makes the client an owner of containers,
	// and owning and reaped say how far that has come.
	activating     chan struct{}
	owning, reaped bool
	// outputs are the goroutines that call OnLog functions. They are the user's
	// code, and Close does not wait for them after a Kill.
	outputs sync.WaitGroup
	// killed is closed by Kill.
	killed chan struct{}

	// meters count the traffic of published ports.
	meters meters
	// hand is what another process can take over, and what was taken.
	hand handOver

	mu      sync.Mutex
	closed  bool
	keepers map[string]*keeper
	// findingRoom has the replicas for which it is being found out whether their
	// services have room for them.
	findingRoom map[string]bool
	// removed are containers that removed themselves.
	removed removedRecords
	// minding is true while it is looked whether replicas are too many.
	minding bool
	// supervising is true while Supervise keeps detached containers, and standing
	// while another process may take them over.
	supervising, standing bool
	// closers are what New and the lazy defaults opened, in order.
	closers []func() error

	// host is this client as a host, nil where it is none, and hostNews are told
	// when what it says as one changes.
	host     atomic.Pointer[host]
	hostNews news

	// supervisorPoked holds a value when Supervise should look again.
	supervisorPoked chan struct{}
}

// New returns a Client. Without options it works on Linux and macOS as any
// user: process runtime, mDNS, file store, and the built-in balancer. It
// returns an error where the data directory cannot be used.
func New(opts ...Option) (*Client, error) {
	c := &Client{
		cfg:             environment(),
		keepers:         make(map[string]*keeper),
		findingRoom:     make(map[string]bool),
		owner:           "client-" + newID()[:16],
		supervisorPoked: make(chan struct{}, 1),
		activating:      make(chan struct{}, 1),
		killed:          make(chan struct{}),
		hand:            newHandOver(),
	}
	for _, o := range opts {
		o(&c.cfg)
	}
	if _, err := netip.ParseAddr(c.cfg.bind); c.cfg.bind != "" && err != nil {
		return nil, fmt.Errorf("bind address %q (BUDGIE_BIND or WithBindAddress) is not an IP address: write one of this machine's, such as 127.0.0.1, or none for all", c.cfg.bind)
	}
	if err := c.cfg.checkToken(); err != nil {
		return nil, err
	}
	if err := c.cfg.syncRateErr; err != nil {
		return nil, err
	}
	peers, err := parsePeers(c.cfg.peers)
	if err != nil {
		return nil, err
	}
	c.cfg.peers = peers
	if c.cfg.dataDir == "" {
		if c.cfg.dataDir = DefaultDataDir(); c.cfg.dataDir == "" {
			return nil, errors.New("there is no home directory to keep the data directory in: set BUDGIE_DATA_DIR")
		}
	}
	dir, err := filepath.Abs(c.cfg.dataDir)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", c.cfg.dataDir, err)
	}
	c.cfg.dataDir = dir
	c.log = c.cfg.log
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.life, c.end = context.WithCancel(context.Background())
	if err := c.openDefaults(); err != nil {
		c.end()
		return nil, errors.Join(err, c.closeDefaults())
	}
	return c, nil
}

// openDefaults fills in what no option set.
func (c *Client) openDefaults() error {
	c.store, c.runtimes, c.balancer = c.cfg.store, c.cfg.runtimes, c.cfg.balancer
	if c.store == nil {
		s, err := file.Open(c.cfg.dataDir)
		if err != nil {
			return err
		}
		c.store = s
		c.closers = append(c.closers, s.Close)
	}
	if len(c.runtimes) == 0 {
		r, err := process.New(filepath.Join(c.cfg.dataDir, "process"), process.WithLogger(c.log))
		if err != nil {
			return err
		}
		c.runtimes = []Runtime{r}
		c.closers = append(c.closers, r.Close)
	}
	if c.balancer == nil {
		c.balancer = balance.New(balance.WithLogger(c.log))
	}
	if c.cfg.syncer == nil {
		c.cfg.syncer = replica.New(c.syncOptions()...)
	}
	c.disc = sync.OnceValues(c.openDiscoverer)
	return nil
}

// syncOptions are those of the built-in volume sync.
func (c *Client) syncOptions() []replica.Option {
	opts := []replica.Option{replica.WithLogger(c.log), replica.Remember(replica.DefaultKeepAge, replica.DefaultKeepSize), replica.WithRateLimit(c.cfg.syncRate)}
	// In another user's directory root writes nothing that can be lived without.
	if foreign, err := ownership.Foreign(c.cfg.dataDir); err == nil && !foreign {
		opts = append(opts, replica.RememberSources(filepath.Join(c.cfg.dataDir, "sources")))
	}
	return opts
}

// openDiscoverer returns the client's discoverer, nil where there is none.
func (c *Client) openDiscoverer() (Discoverer, error) {
	d, err := c.networkDiscoverer()
	if len(c.cfg.peers) == 0 {
		return d, err
	}
	given := c.fixedPeers()
	if err != nil {
		c.log.Warn("only the given peers are found, and only by their addresses", "error", err)
	}
	if err != nil || d == nil {
		return given, c.closeLater(given.Close)
	}
	return &union{d, given}, c.closeLater(given.Close)
}

// networkDiscoverer returns what finds others without knowing where they are,
// nil where nothing is to.
func (c *Client) networkDiscoverer() (Discoverer, error) {
	if c.cfg.noDiscovery {
		return nil, nil
	}
	if c.cfg.discoverer != nil {
		return c.cfg.discoverer, nil
	}
	d, err := mdns.New(mdns.WithInterfaces(c.cfg.interfaces...), mdns.WithLogger(c.log))
	if err != nil {
		return nil, fmt.Errorf("open mDNS: %w", err)
	}
	return d, c.closeLater(d.Close)
}

// closeLater makes closing something part of Close, or closes it where the client
// is closed already.
func (c *Client) closeLater(closer func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.Join(ErrClosed, closer())
	}
	c.closers = append(c.closers, closer)
	return nil
}

// DataDir returns the absolute path of the client's data directory.
func (c *Client) DataDir() string { return c.cfg.dataDir }

// Close stops the containers that this client runs, each with its stop signal
// and grace, waits for their end, and until the functions given to [OnLog] have
// had their output. Detached containers run on; where this client was their
// supervisor, they wait for the next one. Close can be called again, but not
// from within an OnLog function.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		c.wg.Wait()
		return nil
	}
	c.closed = true
	c.mu.Unlock()

	c.stopAsking()
	own := c.keepersThat(false)
	for _, k := range own {
		k.endWith("the program that ran it closed its client")
	}
	for _, k := range own {
		<-k.over
	}
	c.awaitOutputs()
	for _, k := range own {
		<-k.done
	}
	c.hand.draining.Wait()
	c.end()
	c.wg.Wait()
	c.hand.draining.Wait() // of what this client still supervised
	return c.closeDefaults()
}

// awaitOutputs returns when all output is with the OnLog functions, or the
// client is killed.
func (c *Client) awaitOutputs() {
	done := make(chan struct{})
	go func() {
		c.outputs.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-c.killed:
	}
}

// Kill ends the containers that this client runs, those that it supervises
// excepted, at once and without grace, and cuts short what Close or an ended context waits
// for. It does not wait itself: Close does.
func (c *Client) Kill() {
	c.mu.Lock()
	if !isClosed(c.killed) {
		close(c.killed)
	}
	c.mu.Unlock()
	for _, k := range c.keepersThat(false) {
		k.kill("the program that ran it killed it")
	}
}

// keepersThat returns the keepers of containers that this client keeps as the
// supervisor, or of its own: those that it runs, and detached ones that it
// stops because nobody supervises.
func (c *Client) keepersThat(supervise bool) []*keeper {
	c.mu.Lock()
	defer c.mu.Unlock()
	var keepers []*keeper
	for _, k := range c.keepers {
		if k.supervised == supervise {
			keepers = append(keepers, k)
		}
	}
	return keepers
}

// open returns an error if the client is closed.
func (c *Client) open() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	return nil
}

// spawn runs f in the background, and Close waits for it. It reports false,
// and does not run f, where the client is closed.
func (c *Client) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

// closeDefaults closes what New opened, the last first.
func (c *Client) closeDefaults() error {
	var errs []error
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	c.closers = nil
	return errors.Join(errs...)
}

// newID returns 64 random hexadecimal characters.
func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// removedRecords are the last records of containers that removed themselves,
// for whoever still waits for them.
type removedRecords []lifecycle.Container

// mostRemoved bounds how many are kept.
const mostRemoved = 256

func (r *removedRecords) add(rec lifecycle.Container) {
	if *r = append(*r, rec); len(*r) > mostRemoved {
		*r = (*r)[1:]
	}
}

func (r removedRecords) find(ref string) (lifecycle.Container, bool) {
	for i := len(r) - 1; i >= 0; i-- {
		if r[i].ID == ref || r[i].Name == ref {
			return r[i], true
		}
	}
	return lifecycle.Container{}, false
}
