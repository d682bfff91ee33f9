package balance

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// traffic is what differs between the modes of a frontend.
type traffic interface {
	// serve takes connections from the frontend's door until that is closed.
	serve(d *door)
	// left is told that members are gone: connections to them of which nobody has
	// a use are closed.
	left()
	// stop ends what serves, after the last connection has ended.
	stop()
}

// frontend is a listening socket with a pool of backends. Its goroutines are
// one that accepts, one per probed backend, what the traffic needs, and one
// that drains, and all have ended when done is closed.
type frontend struct {
	name    string
	log     *slog.Logger
	limits  limits
	pool    *pool
	keys    keySource
	check   *Check
	connect func(ctx context.Context, addr string) (net.Conn, error)
	probe   func(ctx context.Context, addr string) error
	door    *door
	traffic traffic
	witness *witness // nil if nobody observes

	ctx    context.Context // ends when what is under way is to be cut off
	cancel context.CancelFunc
	wg     sync.WaitGroup
	dials  *connSet // connections to backends

	// What clients suffer is logged now and then: they may come by the thousand.
	full, refused, failed throttle

	mu     sync.Mutex
	probes map[*member]context.CancelFunc
	closed bool
	done   chan struct{}
}

func newFrontend(p *Proxy, cfg Config, alg algorithm, check *Check) *frontend {
	log := p.log.With("service", cfg.Name)
	ctx, cancel := context.WithCancel(context.Background())
	f := &frontend{
		name:    cfg.Name,
		log:     log,
		limits:  p.limits.with(cfg.Limits),
		pool:    newPool(alg, check, log),
		keys:    newKeySource(cfg),
		check:   check,
		connect: connector(cfg),
		ctx:     ctx,
		cancel:  cancel,
		dials:   newConnSet(),
		probes:  map[*member]context.CancelFunc{},
		done:    make(chan struct{}),
	}
	f.pool.limits, f.pool.slow = f.limits.clients, cfg.SlowStart
	f.door = newDoor(cfg.Listener, cfg.Hold, f.limits, func(client netip.Addr) {
		if n, ok := f.full.next(time.Now()); ok {
			log.Warn("connection limit reached: connections were reset", "client", client.String(), "connections", n)
		}
	})
	if check != nil {
		f.probe = proberFor(cfg, *check, f.connect)
	}
	f.witness = newWitness(cfg, f.Addr, f.snapshot)
	f.pool.witness = f.witness
	return f
}

// snapshot is what observers may ask for.
func (f *frontend) snapshot() Snapshot {
	return Snapshot{
		Connections: f.door.conns.len(), Accepted: f.door.accepted.Load(), Refused: f.door.refused.Load(),
		Waiting: f.pool.waiting(), Backends: f.pool.status(),
	}
}

func (f *frontend) start() {
	f.wg.Go(func() { f.traffic.serve(f.door) })
}

func (f *frontend) Addr() net.Addr { return f.door.Addr() }

func (f *frontend) Status() []BackendStatus { return f.pool.status() }

func (f *frontend) Update(backends []Backend) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	added, removed := f.pool.update(backends)
	for _, m := range removed {
		m.gone.Store(true)
		m.idle.close()
		if stop := f.probes[m]; stop != nil {
			stop()
			delete(f.probes, m)
		}
	}
	if len(removed) > 0 {
		f.traffic.left()
	}
	if f.check == nil {
		return
	}
	for _, m := range added {
		ctx, stop := context.WithCancel(f.ctx)
		f.probes[m] = stop
		f.wg.Go(func() { watchHealth(ctx, f.pool, m, f.check.Interval, f.probe) })
	}
}

func (f *frontend) Shutdown(ctx context.Context) error {
	f.beginDrain((*door).drain)
	select {
	case <-f.done:
		return nil
	default:
	}
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
	}
	if n := f.door.conns.len(); n > 0 {
		f.log.Warn("connections cut off: they did not end in time", "connections", n)
	}
	f.door.shut()
	f.cancel()
	f.door.conns.closeAll(abortConn)
	f.dials.closeAll(abortConn)
	<-f.done
	return ctx.Err()
}

// Leave implements Leaver.
func (f *frontend) Leave() { f.beginDrain((*door).leave) }

// beginDrain stops probes and, by end, the acceptance of connections, once, and starts
// what waits for the end of the others.
func (f *frontend) beginDrain(end func(*door)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.closed = true
	for _, stop := range f.probes {
		stop()
	}
	clear(f.probes)
	end(f.door)
	go f.drain()
}

// drain ends the frontend after its last connection. Whoever called Shutdown
// waits for it.
func (f *frontend) drain() {
	defer close(f.done)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f.door.closeQuiet() {
		<-tick.C
	}
	f.cancel()
	f.traffic.stop()
	f.dials.closeAll(closeConn)
	f.wg.Wait()
	f.witness.closed()
}
