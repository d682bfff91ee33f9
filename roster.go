package budgie

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/trust"
)

// A roster follows what is announced, and keeps a connection to every endpoint
// of the flock among it: what such a node says of its containers is the truth,
// and when it falls silent its replicas are gone, long before their
// announcements expire. One goroutine, run, owns everything in it.
type roster struct {
	// open returns this machine's membership. It is asked for when something of a
	// flock is announced.
	open func() (*trust.Flock, error)
	dial func(*trust.Flock, discovery.Service) rosterClient
	// delay is how long an endpoint is known before it is connected to, so that
	// who only lists what is announced makes no connections.
	delay time.Duration
	// own says that endpoints of this machine are followed too.
	own bool
	// changed is called with the id of a replica of which something is new.
	changed func(id string)
	// heard is called when nodes came, went or said something; nil for nobody.
	heard func()

	hints     map[string]discovery.Service // by replica
	endpoints map[endpointKey]*rosterEntry
	// left are the replicas whose announcement ended a short time ago.
	left    map[string]leftReplica
	reports chan report
	wg      sync.WaitGroup
}

// rosterClient is what a roster needs of a [peer.Client].
type rosterClient interface {
	WatchNode(ctx context.Context) iter.Seq2[peer.Told, error]
	Addr() netip.AddrPort
	Close() error
}

// endpointKey is what tells endpoints apart: one node may have several, each
// with containers of its own.
type endpointKey struct {
	node string
	port int
}

// leftReplica is where a replica was announced, and until when.
type leftReplica struct {
	at    endpointKey
	since time.Time
}

// rosterEntry is an endpoint of the flock.
type rosterEntry struct {
	ctx    context.Context
	cancel context.CancelFunc
	// ending ends the following of one that is announced no more; nil for others.
	ending *time.Timer
	// hint is an announcement that leads to it, the last one.
	hint discovery.Service
	// moved holds a value when hint has changed, for the watching goroutine.
	moved chan discovery.Service
	// dead says that it was tried, and does not answer.
	dead bool
	// containers are what it says that it runs, by id, and addr is where it
	// answered; nil and zero while it has not proved who it is.
	containers map[string]peer.Container
	addr       netip.AddrPort
	// hosting is what it says of being a host.
	hosting *peer.Hosting
	// turn is how often another process has taken over there.
	turn int
}

// report is what a watching goroutine found out.
type report struct {
	entry *rosterEntry
	told  peer.Told
	addr  netip.AddrPort
	err   error
	// another says that another process answers there since the last report.
	another bool
}

func newRoster(open func() (*trust.Flock, error), dial func(*trust.Flock, discovery.Service) rosterClient, delay time.Duration, changed func(id string)) *roster {
	return &roster{
		open: open, dial: dial, delay: delay, changed: changed,
		hints: make(map[string]discovery.Service), endpoints: make(map[endpointKey]*rosterEntry), left: make(map[string]leftReplica),
		reports: make(chan report),
	}
}

// run follows events until their channel is closed, as it is when ctx ends.
func (r *roster) run(ctx context.Context, events <-chan discovery.Event) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		r.wg.Wait()
	}()
	for {
		select {
		case e, open := <-events:
			if !open {
				return
			}
			r.take(ctx, e)
		case rep := <-r.reports:
			r.learn(rep)
		case <-ctx.Done():
			return
		}
		if r.heard != nil {
			r.heard()
		}
	}
}

// take takes an event of the discovery.
func (r *roster) take(ctx context.Context, e discovery.Event) {
	id := e.Service.ID
	old, known := r.hints[id]
	r.tidy()
	if e.Type == discovery.Removed {
		delete(r.hints, id)
	} else {
		r.hints[id] = e.Service
		r.watch(ctx, e.Service)
	}
	if known && (e.Type == discovery.Removed || keyOf(old) != keyOf(e.Service)) {
		r.left[id] = leftReplica{keyOf(old), time.Now()}
		r.unwatch(keyOf(old))
	}
	r.changed(id)
}

func keyOf(s discovery.Service) endpointKey { return endpointKey{s.Node, s.PeerPort} }

// watch begins to watch the endpoint of an announcement, if it is one of another
// node of the flock.
func (r *roster) watch(ctx context.Context, s discovery.Service) {
	if !r.isOurs(s) {
		return
	}
	key := keyOf(s)
	if entry := r.endpoints[key]; entry.lives() {
		if !slices.Equal(entry.hint.Addrs, s.Addrs) {
			entry.hint = s
			select {
			case <-entry.moved: // it was not seen, and is out of date
			default:
			}
			entry.moved <- s
		}
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	entry := &rosterEntry{ctx: ctx, cancel: cancel, hint: s, moved: make(chan discovery.Service, 1)}
	r.endpoints[key] = entry
	r.wg.Go(func() { r.follow(ctx, entry, s) })
}

// isOurs reports whether an announcement says that it is of a node of the flock,
// another one unless own is set, and where to ask whether that is so.
func (r *roster) isOurs(s discovery.Service) bool {
	if s.PeerPort == 0 || len(s.Addrs) == 0 || s.Flock == "" {
		return false
	}
	f, err := r.open()
	if err != nil || s.Node == f.NodeID() && !r.own {
		return false
	}
	g, err := f.Current()
	return err == nil && g.FlockID() == s.Flock
}

// lives makes an entry one that is announced, if it is still followed.
func (e *rosterEntry) lives() bool {
	if e == nil {
		return false
	}
	if e.ending != nil {
		e.ending.Stop()
		e.ending = nil
	}
	return e.ctx.Err() == nil
}

// lastLook is for how long an endpoint that had proved itself is followed when it is
// announced no more: long enough to see that it is silent. Its announcement may have
// ended because of that, and what is under way to its replicas waits in vain.
const lastLook = 10 * time.Second

// unwatch ends the watching of an endpoint that nothing leads to any more, at once or
// after a last look.
func (r *roster) unwatch(key endpointKey) {
	for _, s := range r.hints {
		if keyOf(s) == key {
			return
		}
	}
	switch entry := r.endpoints[key]; {
	case entry == nil:
	case entry.containers != nil && entry.ending == nil:
		entry.ending = time.AfterFunc(lastLook, entry.cancel)
	default:
		entry.cancel()
		delete(r.endpoints, key)
	}
}

// tidy forgets what had its last look.
func (r *roster) tidy() {
	maps.DeleteFunc(r.left, func(_ string, l leftReplica) bool { return time.Since(l.since) > lastLook })
	maps.DeleteFunc(r.endpoints, func(_ endpointKey, e *rosterEntry) bool { return e.ending != nil && e.ctx.Err() != nil })
}

// How long to wait before an endpoint that did not answer is tried again: at
// first and at most.
const (
	rosterRetry    = 500 * time.Millisecond
	rosterMaxRetry = 10 * time.Second
)

// follow watches an endpoint until ctx ends, and reports.
func (r *roster) follow(ctx context.Context, entry *rosterEntry, s discovery.Service) {
	wait(ctx, r.delay)
	f, err := r.open()
	if err != nil {
		return // the client ends
	}
	retry, another := rosterRetry, false
	for ctx.Err() == nil {
		answered, left, away := r.watchOnce(ctx, entry, r.dial(f, s), &s, another)
		if answered {
			retry, another = rosterRetry, false
		}
		another = another || away
		if left || away {
			continue
		}
		timer := time.NewTimer(retry)
		select {
		case s = <-entry.moved:
			retry = rosterRetry
		case <-timer.C:
			retry = min(2*retry, rosterMaxRetry)
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// watchOnce watches an endpoint over one connection and reports what it says,
// until that ends, which it reports, or until the endpoint has left the
// address of the connection, or sends away who watches, as one does that
// another process takes over from. Then there is nothing to wait for, and nothing
// to report before it was asked again. s follows the announcement meanwhile.
func (r *roster) watchOnce(ctx context.Context, entry *rosterEntry, client rosterClient, s *discovery.Service, another bool) (answered, left, away bool) {
	began := time.Now()
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for !left {
			select {
			case *s = <-entry.moved:
				if at := client.Addr().Addr(); at.IsValid() && !slices.Contains(s.Addrs, at) {
					left = true
					stop()
				}
			case <-watching.Done():
				return
			}
		}
	})
	for told, err := range client.WatchNode(watching) {
		if watching.Err() != nil {
			break
		}
		answered = answered || err == nil
		if away = sentAway(err, began); away {
			break
		}
		select {
		case r.reports <- report{entry, told, client.Addr(), err, another && err == nil}:
		case <-ctx.Done():
		}
		another = another && err != nil
	}
	stop()
	wg.Wait()
	_ = client.Close() // the reason was reported
	return answered, left, away
}

// sentAway reports whether a watch that began then ended with an error after which the
// endpoint is to be asked at once, as that of the process that took its place; not
// again and again, whatever is wrong with it.
func sentAway(err error, began time.Time) bool {
	return errors.Is(err, peer.ErrSentAway) && time.Since(began) >= rosterRetry
}

// learn takes what a watching goroutine found out.
func (r *roster) learn(rep report) {
	entry := rep.entry
	before := entry.containers
	if rep.err != nil {
		// Who answers and is not trusted is not dead, and is left to its
		// announcement.
		entry.dead = !errors.Is(rep.err, trust.ErrNotTrusted)
		entry.containers, entry.hosting = nil, nil
	} else {
		entry.dead, entry.addr = false, rep.addr
		if rep.another {
			entry.turn++
		}
		entry.hosting = rep.told.Hosting
		entry.containers = make(map[string]peer.Container, len(rep.told.Containers))
		for _, c := range rep.told.Containers {
			entry.containers[c.ID] = c
		}
	}
	for id, s := range r.hints {
		_, was := before[id]
		_, is := entry.containers[id]
		if was || is || r.endpoints[keyOf(s)] == entry {
			r.changed(id)
		}
	}
	for id, l := range r.left {
		if entry.dead && r.endpoints[l.at] == entry {
			r.changed(id)
		}
	}
	if entry.dead && entry.ending != nil {
		entry.cancel()
	}
}

// nodes returns what those nodes say that have proved to be in the flock, and
// answer, by their ids: on all of their endpoints.
func (r *roster) nodes() map[string]peer.Told {
	all := make(map[string]peer.Told)
	for key, entry := range r.endpoints {
		if entry.containers == nil || entry.ending != nil {
			continue
		}
		told := all[key.node]
		for _, c := range entry.containers {
			told.Containers = append(told.Containers, c)
		}
		if entry.hosting != nil {
			told.Hosting = entry.hosting
		}
		all[key.node] = told
	}
	return all
}

// seen returns an announced replica, unless its node is known not to answer.
func (r *roster) seen(id string) (discovery.Service, bool) {
	s, known := r.hints[id]
	if entry := r.endpoints[keyOf(s)]; !known || entry != nil && entry.dead {
		return discovery.Service{}, false
	}
	return s, true
}

// silent reports whether the node of a replica was heard of, and does not answer.
func (r *roster) silent(id string) bool {
	at := r.left[id].at
	if s, known := r.hints[id]; known {
		at = keyOf(s)
	}
	entry := r.endpoints[at]
	return entry != nil && entry.dead
}

// turn returns how often another process took over the endpoint of a replica.
func (r *roster) turn(id string) int {
	if entry := r.endpoints[keyOf(r.hints[id])]; entry != nil {
		return entry.turn
	}
	return 0
}

// proved returns what the node of a replica itself says of it, and the address
// at which it said so. ours is false where the announcement does not say that
// the node is of the flock.
func (r *roster) proved(id string) (c peer.Container, addr netip.AddrPort, ours, ok bool) {
	entry := r.endpoints[keyOf(r.hints[id])]
	if entry == nil {
		return peer.Container{}, netip.AddrPort{}, false, false
	}
	c, ok = entry.containers[id]
	return c, entry.addr, true, ok
}
