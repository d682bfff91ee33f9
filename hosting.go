package budgie

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/internal/restore"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
)

// HostPolicy is what a machine runs for services of its flock that have fewer
// replicas than their replicas.min: see [Hosting]. The zero value is images only.
type HostPolicy struct {
	// AllowProcess lets it run commands of this machine, as its user, that other
	// nodes of the flock name, as [AllowProcess] does for a join.
	AllowProcess bool
	// Patience is how long a replica may be gone, or its node not answer, before it
	// is replaced; 12 s where it is 0 or less. A node that falls silent is noticed
	// after 6 s, and its time begins then.
	Patience time.Duration
}

// Hosting makes the machine a host while it supervises: it runs replicas of services
// of the flock that have fewer than their replicas.min, as [Client.Join] would,
// detached. Without it nothing runs here because others want it.
//
// Each host decides for itself, and those that see the same agree on who acts. A
// replica that was restored so ends again, and is removed, once the service has
// enough others: when they have served for two and a half times the patience, or
// within seconds where there are more than replicas.max. Of those that were
// restored, the ones that would be asked last go first. A service of which a person
// stopped the replica here is left alone as long as its record is there.
//
// It makes [Client.Supervise] stay, as [Resident] does, and needs discovery.
func Hosting(p HostPolicy) SuperviseOption {
	return func(c *superviseConfig) { c.host, c.resident = &p, true }
}

// host restores replicas on this machine, and ends those again that are too many.
// Without a policy it does only the latter.
type host struct {
	c       *Client
	policy  *HostPolicy
	node    string
	tracker *restore.Tracker
	// poked holds a value when there is something to look at.
	poked chan struct{}
	wg    sync.WaitGroup

	mu sync.Mutex
	// seen are the nodes of the flock that answer, and what they say.
	seen map[string]peer.Told
	// joining are the services of which it is about to have a replica, and leaving
	// those whose replica is about to end.
	joining, leaving map[string]bool
	// failed are the services of which it could not have a replica.
	failed map[string]failedJoin
	// unable are the services of which it says that it cannot have a replica.
	unable []string
	// announcedIn is in which flock it is announced, as counted by the client; less
	// than 0 while it is not.
	announcedIn int64
	// heard are the nodes that the tracker counts as answering.
	heard map[string]bool
}

// failedJoin is a join that failed: how many times in a row, and until when it is
// not tried again.
type failedJoin struct {
	times int
	until time.Time
	// quiet is true where nobody has to know: others may have done it meanwhile.
	quiet bool
}

// The timing of a host.
const (
	// hostLook is how often it looks when nothing seems to happen.
	hostLook = time.Second
	// hostJoin bounds one join, with all that it fetches.
	hostJoin = 30 * time.Minute
	// hostRetry is how long a service is left alone after a join of it failed, at
	// first; it doubles with each further failure, up to hostMaxRetry.
	hostRetry    = 10 * time.Second
	hostMaxRetry = 15 * time.Minute
	// mostHostJoins is how many joins are under way at a time.
	mostHostJoins = 4
	// mostUnable is how many services others are told of; peers take no more.
	mostUnable = 128
)

// startHost starts a host, and returns what ends it. Where policy is nil it only ends
// replicas that are too many.
func (c *Client) startHost(ctx context.Context, policy *HostPolicy) (stop func(), err error) {
	f, err := c.openFlock()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	events, err := c.browse(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	var patience time.Duration
	if policy != nil {
		patience = policy.Patience
	}
	h := &host{
		c: c, policy: policy, node: f.NodeID(), tracker: restore.NewTracker(f.NodeID(), patience, time.Now()),
		poked: make(chan struct{}, 1), announcedIn: -1, heard: make(map[string]bool),
		joining: make(map[string]bool), leaving: make(map[string]bool), failed: make(map[string]failedJoin),
	}
	r := c.newRoster(0, func(string) {})
	r.heard = func() { h.see(r.nodes()) }
	h.wg.Go(func() { r.run(ctx, events) })
	h.wg.Go(func() { h.run(ctx) })
	if policy != nil {
		c.host.Store(h)
		c.hostNews.tell()
	}
	return func() {
		if c.host.CompareAndSwap(h, nil) {
			c.hostNews.tell()
		}
		cancel()
		h.wg.Wait()
		h.withdraw()
	}, nil
}

// see takes which nodes answer, and what they say.
func (h *host) see(seen map[string]peer.Told) {
	h.mu.Lock()
	h.seen = seen
	h.mu.Unlock()
	h.poke()
}

func (h *host) poke() {
	select {
	case h.poked <- struct{}{}:
	default:
	}
}

// run looks and acts until ctx ends.
func (h *host) run(ctx context.Context) {
	ticker := time.NewTicker(hostLook)
	defer ticker.Stop()
	for complaint := ""; ; {
		err := h.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			complaint = ""
		case err.Error() != complaint:
			complaint = err.Error()
			h.c.log.Error("cannot find out whether services of the flock have enough replicas; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-h.poked:
		}
	}
}

// look brings the tracker up to date and does what is to be done.
func (h *host) look(ctx context.Context) error {
	if err := h.announce(ctx); err != nil {
		return err
	}
	recs, err := h.c.store.List(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	h.follow(now)
	h.setUnable(now, recs)
	h.tracker.Tell(now, h.node, h.own(recs))
	for _, d := range h.tracker.Decide(now) {
		switch d.Action {
		case restore.Join:
			h.join(ctx, d.Service)
		case restore.StepBack:
			h.stepBack(ctx, d)
		}
	}
	return nil
}

// follow tells the tracker what the others say.
func (h *host) follow(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.heard {
		if _, answers := h.seen[name]; !answers {
			delete(h.heard, name)
			h.tracker.Lose(now, name)
		}
	}
	for name, told := range h.seen {
		if name == h.node {
			continue
		}
		h.heard[name] = true
		var said restore.Told
		if t := told.Hosting; t != nil {
			said.Host = &restore.Host{Commands: t.Commands, Joining: t.Joining, Unable: t.Unable}
		}
		for _, c := range told.Containers {
			said.Replicas = append(said.Replicas, restore.Instance{
				ID: c.ID, Service: c.ServiceID, Command: c.Image == "", Restored: c.Restored, Joined: c.Yields && !c.Joining, Created: c.CreatedAt,
				Serving: c.Ready && c.Health != lifecycle.Unhealthy && !c.Joining, Min: c.MinReplicas, Max: c.MaxReplicas,
			})
		}
		h.tracker.Tell(now, name, said)
	}
}

// own is what the tracker is told of this machine: of all its containers, whoever
// keeps them.
func (h *host) own(recs []lifecycle.Container) (told restore.Told) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.policy != nil {
		told.Host = &restore.Host{Commands: h.policy.AllowProcess, Joining: slices.Collect(maps.Keys(h.joining)), Unable: slices.Clone(h.unable)}
	}
	for _, rec := range recs {
		if rec.Finished() || rec.Desired != lifecycle.WantRunning || h.leaving[rec.ID] {
			continue
		}
		keeps, stays := h.c.keeperOf(rec.ID) != nil, rec.Joining == nil
		told.Replicas = append(told.Replicas, restore.Instance{
			ID: rec.ID, Service: rec.ServiceID, Command: rec.Spec.Image.DockerImage == "", Restored: rec.Restored && keeps,
			Joined: rec.Yields() && keeps && stays, Created: rec.CreatedAt,
			Serving: rec.Ready && rec.Health != lifecycle.Unhealthy && stays, Min: rec.Spec.Replicas.Min, Max: rec.Spec.Replicas.Max,
		})
	}
	return told
}

// setUnable finds out of which services this machine cannot have a replica, or shall
// not, and tells the others what is new of that.
func (h *host) setUnable(now time.Time, recs []lifecycle.Container) {
	stopped := make(map[string]bool)
	for _, rec := range recs {
		withdrawn := rec.Joining != nil && rec.Joining.Withdrawn
		if rec.Desired == lifecycle.WantStopped && !withdrawn && rec.Reason != programDied {
			stopped[rec.ServiceID] = true // by a person
		}
	}
	missed := h.tracker.Missed(now)
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.failed, func(s string, f failedJoin) bool { return now.After(f.until.Add(hostMaxRetry)) })
	var unable []string
	for _, s := range missed {
		f, failed := h.failed[s]
		if (stopped[s] || failed && !f.quiet && now.Before(f.until)) && len(unable) < mostUnable {
			unable = append(unable, s)
		}
	}
	if !slices.Equal(unable, h.unable) {
		h.unable = unable
		h.c.hostNews.tell()
	}
}

// join begins to join a service.
func (h *host) join(ctx context.Context, service string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.joining[service] || len(h.joining) >= mostHostJoins || time.Now().Before(h.failed[service].until) {
		return
	}
	h.joining[service] = true
	h.c.hostNews.tell()
	h.wg.Go(func() {
		err := h.restore(ctx, service)
		h.mu.Lock()
		delete(h.joining, service)
		h.fail(service, err)
		h.mu.Unlock()
		h.c.hostNews.tell()
		h.poke()
	})
}

// restore joins a service.
func (h *host) restore(ctx context.Context, service string) error {
	log := h.c.log.With("service", service[:min(12, len(service))])
	log.Info("the service has fewer replicas than its replicas.min: restoring one here")
	ctx, cancel := context.WithTimeout(ctx, hostJoin)
	defer cancel()
	opts := []RunOption{Detached(), func(c *runConfig) { c.restored = true }}
	if h.policy.AllowProcess {
		opts = append(opts, AllowProcess())
	}
	rec, err := h.c.Join(ctx, service, opts...)
	switch {
	case err == nil:
		log.Info("restored a replica", "container", rec.ShortID(), "name", rec.Name)
	case ctx.Err() == nil:
		log.Warn("cannot restore a replica", "error", err)
	}
	return err
}

// fail notes what became of a join. The caller holds the lock.
func (h *host) fail(service string, err error) {
	if err == nil {
		delete(h.failed, service)
		return
	}
	f := h.failed[service]
	f.quiet = errors.Is(err, ErrReplicas) || errors.Is(err, ErrJoined) || errors.Is(err, ErrNotFound)
	if f.quiet {
		f.until = time.Now().Add(2 * hostLook)
	} else {
		f.until = time.Now().Add(min(hostRetry<<min(f.times, 8), hostMaxRetry))
		f.times++
	}
	h.failed[service] = f
}

// hosting returns what others are told, nil where this client is no host.
func (c *Client) hosting() *peer.Hosting {
	h := c.host.Load()
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return &peer.Hosting{Commands: h.policy.AllowProcess, Joining: slices.Sorted(maps.Keys(h.joining)), Unable: slices.Clone(h.unable)}
}

// announce makes the others find this host, again where it is in another flock.
func (h *host) announce(ctx context.Context) error {
	in := h.c.flockChanges.Load()
	if h.policy == nil || h.announcedIn == in {
		return nil
	}
	node, flock, err := h.c.whoami()
	if err != nil {
		return err
	}
	port, err := h.c.endpoint(ctx)
	if err != nil {
		return err
	}
	d, err := h.c.disc()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	if err := d.Announce(ctx, hostService(node, flock, port)); err != nil {
		return err
	}
	h.announcedIn = in
	return nil
}

// withdraw takes the announcement back.
func (h *host) withdraw() {
	if h.announcedIn < 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), announceTimeout)
	defer cancel()
	d, err := h.c.disc()
	if err == nil {
		err = d.Withdraw(ctx, hostService(h.node, "", 0).ID)
	}
	if err != nil && !errors.Is(err, discovery.ErrClosed) {
		h.c.log.Warn("cannot take back that this machine is a host", "error", err)
	}
}

// hostService is the announcement of a host.
func hostService(node, flock string, port int) discovery.Service {
	sum := sha256.Sum256([]byte("budgie host\x00" + node))
	id := hex.EncodeToString(sum[:])
	return discovery.Service{ID: id, ServiceID: id, Name: "budgie-host", Node: node, Flock: flock, PeerPort: port, Host: true}
}

// isReplica reports whether an announcement is one of a replica, and not of a host.
func isReplica(s discovery.Service) bool { return !s.Host }

// news tells those that listen that there are some. The zero value is ready.
type news struct {
	mu        sync.Mutex
	listeners map[chan struct{}]bool
}

func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.listeners {
		select {
		case l <- struct{}{}:
		default: // it has some to come
		}
	}
}

// listen returns a channel that gets a value after news, until forget is called.
func (n *news) listen() (l chan struct{}, forget func()) {
	l = make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners == nil {
		n.listeners = make(map[chan struct{}]bool)
	}
	n.listeners[l] = true
	return l, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.listeners, l)
	}
}
