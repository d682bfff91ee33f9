package mdns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/budgiehq/budgie/discovery"
)

// Discoverer announces and browses by multicast DNS. Make one with [New]; it
// holds sockets and goroutines until [Discoverer.Close]. All methods may be
// called concurrently.
type Discoverer struct {
	log *slog.Logger
	net transport
	hub *discovery.Hub
	// calls are functions for the goroutine that owns the engine.
	calls chan func(e *engine, now time.Time)
	// packets are what the readers received.
	packets chan inbound
	// quit ends the engine's goroutine.
	quit chan struct{}
	// ran is closed when it has ended, after which nobody uses net.
	ran chan struct{}
	wg  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	// inCall counts those who use calls.
	inCall sync.WaitGroup
	stats  Stats
}

// Stats counts packets and records since New.
type Stats struct {
	// Received is the number of packets that arrived.
	Received uint64
	// Own is the number of received packets that were one's own.
	Own uint64
	// Sent is the number of packets that were sent.
	Sent uint64
	// SendErrors is the number of packets that could not be sent.
	SendErrors uint64
	// Foreign is the number of records about other things than Budgie, or that
	// cannot be read.
	Foreign uint64
	// Invalid is the number of packets and records that break a rule, those
	// included by which others claim an address of this machine.
	Invalid uint64
	// Limited is the number of packets, records and questions that were ignored
	// because there were too many.
	Limited uint64
	// Conflicts is the number of times that somebody else was seen to use the
	// name of an instance that this process announces or is about to announce.
	Conflicts uint64
	// Renames is the number of times that an instance got another name because
	// of that.
	Renames uint64
}

// inbound is a received packet.
type inbound struct {
	link int
	from netip.AddrPort
	// multicast is true for packets sent to the group.
	multicast bool
	data      []byte
}

// transport is what the engine needs of the world.
type transport interface {
	// changed has an element after the interfaces may have changed. What the
	// methods below say changes at the next look, which one goroutine at a time
	// calls, the one that calls send.
	changed() <-chan struct{}
	look()
	// links returns the indexes of the interfaces in use.
	links() []int
	// addrs returns the addresses of an interface, with zones.
	addrs(link int) []netip.Addr
	// local returns the present addresses of the machine, those of interfaces
	// that are not in use included, without zones.
	local() []netip.Addr
	// zone returns the name of an interface.
	zone(link int) string
	// copies returns how often a packet that is sent to the group on an
	// interface comes back from there.
	copies(link int) int
	// room returns the largest packet that an interface carries in one piece.
	room(link int) int
	// receive calls deliver for every packet that arrives, from several
	// goroutines, until close. The data is deliver's own.
	receive(deliver func(inbound))
	// send sends a packet. One goroutine at a time calls it.
	send(outgoing) error
	// close ends receive.
	close() error
}

// New returns a Discoverer on the interfaces that the options say. It returns
// an error that names the interface or the socket where multicast DNS cannot be
// used. That an interface is down or has no address, or that there is none at
// all yet, is no error: it is used when it comes up.
func New(opts ...Option) (*Discoverer, error) {
	cfg := config{log: slog.New(slog.DiscardHandler), ttl: DefaultTTL}
	for _, o := range opts {
		o(&cfg)
	}
	t, err := listen(cfg.interfaces, cfg.log)
	if err != nil {
		return nil, fmt.Errorf("mdns: %w", err)
	}
	return start(cfg, t), nil
}

// start returns a Discoverer on a transport, which it owns.
func start(cfg config, t transport) *Discoverer {
	e := newEngine(cfg)
	e.addrs, e.local, e.zone, e.copies, e.room = t.addrs, t.local, t.zone, t.copies, t.room
	d := &Discoverer{
		log: cfg.log, net: t, hub: e.hub,
		calls:   make(chan func(*engine, time.Time)),
		packets: make(chan inbound, 64),
		quit:    make(chan struct{}),
		ran:     make(chan struct{}),
	}
	e.follow(time.Now(), t.links())
	go func() {
		defer close(d.ran)
		d.run(e)
	}()
	d.wg.Go(func() {
		t.receive(func(in inbound) {
			select {
			case d.packets <- in:
			case <-d.quit:
			}
		})
	})
	return d
}

// run owns the engine.
func (d *Discoverer) run(e *engine) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		e.due(now)
		d.flush(e)
		var alarm <-chan time.Time
		if at := e.next(now); !at.IsZero() {
			timer.Reset(at.Sub(now))
			alarm = timer.C
		}
		select {
		case in := <-d.packets:
			e.receive(time.Now(), in.link, in.from, in.multicast, in.data)
		case call := <-d.calls:
			call(e, time.Now())
		case <-d.net.changed():
			d.net.look()
			e.follow(time.Now(), d.net.links())
		case <-alarm:
		case <-d.quit:
			return
		}
	}
}

// flush sends what the engine has to send, and takes its counts.
func (d *Discoverer) flush(e *engine) {
	for _, o := range e.take() {
		if err := d.net.send(o); err != nil {
			e.stats.SendErrors++
			d.log.Debug("mDNS packet not sent", "interface", d.net.zone(o.link), "err", err)
		}
	}
	d.mu.Lock()
	d.stats = e.stats
	d.mu.Unlock()
}

// call has the engine's goroutine do something, and returns when that is done.
func (d *Discoverer) call(ctx context.Context, do func(e *engine, now time.Time)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return discovery.ErrClosed
	}
	d.inCall.Add(1)
	d.mu.Unlock()
	defer d.inCall.Done()

	done := make(chan struct{})
	select {
	case d.calls <- func(e *engine, now time.Time) {
		do(e, now)
		d.flush(e)
		close(done)
	}:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Announce makes svc known on all interfaces, with the addresses of each, until
// Withdraw or Close: what svc.Addrs says is not used. It returns when the first
// probe was sent, which is enough for browsers of this package; announcements for
// all others follow after three quarters of a second, and a second later again.
// Announcing again what is announced sends nothing. It returns discovery.ErrInvalid for a
// service that cannot be announced, discovery.ErrClosed after Close, and ctx's
// error.
func (d *Discoverer) Announce(ctx context.Context, svc discovery.Service) error {
	txt, err := discovery.EncodeTXT(svc)
	if err != nil {
		return err
	}
	return d.call(ctx, func(e *engine, now time.Time) { e.announce(now, svc, txt) })
}

// Withdraw says goodbye for an announcement, whose browsers remove it a second
// later (RFC 6762 section 10.1). What is not announced needs no goodbye.
// It returns discovery.ErrClosed after Close, and ctx's error.
func (d *Discoverer) Withdraw(ctx context.Context, id string) error {
	return d.call(ctx, func(e *engine, now time.Time) { e.withdraw(now, id) })
}

// Browse sends an event for every service that is known and becomes known, and
// for every change, as the Discoverer interface of the root package says.
// Services of others appear when they have answered, those of other processes
// on this machine included; own ones at once.
func (d *Discoverer) Browse(ctx context.Context) (<-chan discovery.Event, error) {
	var events <-chan discovery.Event
	var err error
	if e := d.call(ctx, func(e *engine, now time.Time) {
		e.browse(now)
		events, err = d.hub.Subscribe(ctx)
	}); e != nil {
		return nil, e
	}
	return events, err
}

// Stats returns the counts so far.
func (d *Discoverer) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// Close says goodbye for all announcements, closes the browsers' channels and
// the sockets, and returns when all goroutines have ended. It can be called
// again.
func (d *Discoverer) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		<-d.ran
		d.wg.Wait()
		d.hub.Close()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	// Calls under way are served; new ones are not accepted.
	d.inCall.Wait()
	done := make(chan struct{})
	d.calls <- func(e *engine, now time.Time) {
		e.close(now)
		d.flush(e)
		close(done)
	}
	<-done
	close(d.quit)
	<-d.ran
	err := d.net.close()
	d.wg.Wait()
	d.hub.Close()
	if err != nil {
		return errors.Join(errors.New("mdns: closing the sockets"), err)
	}
	return nil
}
