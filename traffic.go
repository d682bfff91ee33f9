package budgie

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/internal/recent"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/trust"
)

// ContainerTraffic is a replica with what comes in at the ports that its node
// publishes for it, wherever in the flock that is served.
type ContainerTraffic struct {
	// ID is the replica's, Name its name, and ServiceID the service's.
	ID, Name, ServiceID string
	// Node is the id of its node, empty where nobody could be asked, and Local is true
	// where that is this one.
	Node  string
	Local bool
	// State, Health and Ready are as the replica's record has them.
	State  lifecycle.State
	Health lifecycle.Health
	Ready  bool
	// VolumesTerm and Volumes say how its volumes are: see [lifecycle.Container].
	VolumesTerm uint64
	Volumes     []lifecycle.VolumeSync
	// Traffic is nil where nothing is known of it: the replica publishes no port, or
	// the process that supervises it does not answer. Its P50 and P99 are of the time
	// until an answer began.
	Traffic *peer.Traffic
}

// portMeter counts what comes in at the published ports of a container.
type portMeter struct {
	recent.Meter

	mu      sync.Mutex
	sources map[*balance.Source]bool
}

// Opened implements [balance.Observer].
func (m *portMeter) Opened(s *balance.Source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources[s] = true
}

// Closed implements [balance.Observer].
func (m *portMeter) Closed(s *balance.Source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sources, s)
}

// Changed implements [balance.Observer].
func (m *portMeter) Changed(*balance.Source, balance.BackendChange) {}

// Ended implements [balance.Observer].
func (m *portMeter) Ended(_ *balance.Source, e balance.Exchange) {
	failed := e.Status >= 500 || e.Cause != balance.CauseNone && e.Cause != balance.CauseClient && e.Cause != balance.CauseRequest
	m.Add(e.FirstByte, failed, e.Shed())
}

// traffic returns what was counted for a container.
func (m *portMeter) traffic(id string) peer.Traffic {
	r := m.Read()
	t := peer.Traffic{
		ID: id, Requests: r.Total.Requests, Failures: r.Total.Failures, Shed: r.Total.Shed,
		Rate: r.Rate, FailureRate: r.Failures, P50: r.P50, P99: r.P99,
	}
	m.mu.Lock()
	sources := make([]*balance.Source, 0, len(m.sources))
	for s := range m.sources {
		sources = append(sources, s)
	}
	m.mu.Unlock()
	for _, s := range sources {
		snap := s.Snapshot()
		t.Connections += snap.Connections
		for _, b := range snap.Backends {
			t.Active += b.Active
		}
	}
	return t
}

// meters are those of all containers with published ports, by id. All methods may be
// called concurrently.
type meters struct {
	mu sync.Mutex
	by map[string]*portMeter
}

// add returns a new meter for a container.
func (ms *meters) add(id string) *portMeter {
	m := &portMeter{sources: make(map[*balance.Source]bool)}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.by == nil {
		ms.by = make(map[string]*portMeter)
	}
	ms.by[id] = m
	return m
}

// remove forgets a container's meter, if it is still that one.
func (ms *meters) remove(id string, m *portMeter) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.by[id] == m {
		delete(ms.by, id)
	}
}

// traffic returns what all have counted, by id.
func (ms *meters) traffic() map[string]peer.Traffic {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	all := make(map[string]peer.Traffic, len(ms.by))
	for id, m := range ms.by {
		all[id] = m.traffic(id)
	}
	return all
}

// Traffic implements [peer.TrafficTeller].
func (n *node) Traffic(context.Context) ([]peer.Traffic, error) {
	var all []peer.Traffic
	for _, t := range n.c.meters.traffic() {
		all = append(all, t)
	}
	return all, nil
}

// WatchTraffic yields, after at most a second and then again and again at an interval
// (a second where every is 0 or less), this machine's containers that have not ended
// and the replicas on other nodes of the flock, with their traffic, sorted by name,
// service and node. Nodes are found by discovery, this machine's supervisor too, and
// prove over mutual TLS that they are of the flock; those that do not answer are left
// out. It ends with an error, that of ctx too.
func (c *Client) WatchTraffic(ctx context.Context, every time.Duration) iter.Seq2[[]ContainerTraffic, error] {
	return func(yield func([]ContainerTraffic, error) bool) {
		if every <= 0 {
			every = time.Second
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		w := &trafficWatch{c: c, hints: make(map[string]discovery.Service), asked: make(map[endpointKey]*trafficPeer)}
		defer w.close()
		if err := w.run(ctx, every, func(all []ContainerTraffic) bool { return yield(all, nil) }); err != nil {
			yield(nil, err)
		}
	}
}

// trafficWatch asks all nodes of the flock. One goroutine uses it.
type trafficWatch struct {
	c     *Client
	flock *trust.Flock
	hints map[string]discovery.Service // what is announced, by replica
	asked map[endpointKey]*trafficPeer
}

// trafficPeer is an endpoint that is asked.
type trafficPeer struct {
	client *peer.Client
	addrs  discovery.Service
	// again is when one that did not answer is asked again.
	again time.Time
}

func (w *trafficWatch) close() {
	for _, p := range w.asked {
		_ = p.client.Close() // nothing is under way
	}
}

// run yields until ctx ends, or yield returns false: then the error is nil.
func (w *trafficWatch) run(ctx context.Context, every time.Duration, yield func([]ContainerTraffic) bool) error {
	var events <-chan discovery.Event
	if !w.c.cfg.noDiscovery {
		var err error
		if w.flock, _, err = w.c.membership(); err != nil {
			return err
		}
		if events, err = w.c.Discover(ctx); err != nil {
			return err
		}
	}
	timer := time.NewTimer(min(every, statusFind))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case e, open := <-events:
			switch {
			case !open && ctx.Err() != nil:
				return context.Cause(ctx)
			case !open:
				return ErrClosed
			case e.Type == discovery.Removed:
				delete(w.hints, e.Service.ID)
			default:
				w.hints[e.Service.ID] = e.Service
			}
			continue
		case <-timer.C:
			timer.Reset(every)
		}
		all, err := w.look(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if !yield(all) {
			return nil
		}
	}
}

// look asks everybody once.
func (w *trafficWatch) look(ctx context.Context) ([]ContainerTraffic, error) {
	recs, err := w.c.List(ctx)
	if err != nil {
		return nil, err
	}
	by := make(map[string]ContainerTraffic)
	own := w.c.meters.traffic()
	for _, rec := range recs {
		if rec.Finished() {
			continue
		}
		one := ContainerTraffic{
			ID: rec.ID, Name: rec.Name, ServiceID: rec.ServiceID, Local: true, State: rec.State, Health: rec.Health, Ready: rec.Ready,
			VolumesTerm: rec.VolumesTerm(), Volumes: rec.Volumes,
		}
		if w.flock != nil {
			one.Node = w.flock.NodeID()
		}
		if t, ok := own[rec.ID]; ok {
			one.Traffic = &t
		}
		by[rec.ID] = one
	}
	for _, told := range w.ask(ctx) {
		one, known := by[told.ID]
		switch {
		case !known:
			by[told.ID] = told
		case one.Traffic == nil:
			one.Traffic = told.Traffic
			by[told.ID] = one
		}
	}
	all := make([]ContainerTraffic, 0, len(by))
	for _, one := range by {
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b ContainerTraffic) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ServiceID, b.ServiceID), cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// How long a node may take to tell of its traffic, and how long one that did not is
// left alone.
const (
	trafficTimeout = time.Second
	trafficRetry   = 5 * time.Second
)

// ask asks the endpoints that are announced, and returns what they tell.
func (w *trafficWatch) ask(ctx context.Context) []ContainerTraffic {
	w.follow()
	ctx, cancel := context.WithTimeout(ctx, trafficTimeout)
	defer cancel()
	var mu sync.Mutex
	var all []ContainerTraffic
	slots := make(chan struct{}, mostProofs)
	var wg sync.WaitGroup
	for key, p := range w.asked {
		if time.Now().Before(p.again) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			told, err := w.askOne(ctx, key, p.client)
			if err != nil {
				w.c.log.Debug("a node does not tell of its traffic", "node", key.node, "error", err)
				p.again = time.Now().Add(trafficRetry)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, told...)
		})
	}
	wg.Wait()
	return all
}

// follow makes the endpoints that are asked those that are announced.
func (w *trafficWatch) follow() {
	if w.flock == nil {
		return
	}
	g, err := w.flock.Current()
	if err != nil {
		return
	}
	wanted := make(map[endpointKey]discovery.Service)
	for _, s := range w.hints {
		if s.Flock == g.FlockID() && s.PeerPort != 0 && len(s.Addrs) > 0 {
			wanted[keyOf(s)] = s
		}
	}
	for key, p := range w.asked {
		if s, ok := wanted[key]; !ok || !slices.Equal(s.Addrs, p.addrs.Addrs) {
			_ = p.client.Close() // nothing is under way
			delete(w.asked, key)
		}
	}
	for key, s := range wanted {
		if w.asked[key] == nil {
			w.asked[key] = &trafficPeer{client: peer.NewClient(w.flock, s.Node, peerAddrs(s)), addrs: s}
		}
	}
}

// askOne asks one endpoint. A node of an older version tells of its containers alone.
func (w *trafficWatch) askOne(ctx context.Context, key endpointKey, client *peer.Client) ([]ContainerTraffic, error) {
	containers, err := client.Containers(ctx)
	if err != nil {
		return nil, err
	}
	traffic, err := client.Traffic(ctx)
	if err != nil && !errors.Is(err, peer.ErrNotFound) {
		return nil, err
	}
	var all []ContainerTraffic
	for _, told := range containers {
		one := ContainerTraffic{
			ID: told.ID, Name: told.Name, ServiceID: told.ServiceID, Node: key.node, Local: key.node == w.flock.NodeID(),
			State: told.State, Health: told.Health, Ready: told.Ready, VolumesTerm: told.VolumesTerm, Volumes: told.Volumes,
		}
		for _, t := range traffic {
			if t.ID == told.ID {
				one.Traffic = &t
			}
		}
		all = append(all, one)
	}
	return all, nil
}
