package budgie

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

// member is an endpoint of another node that has proved to be in the flock.
type member struct {
	node       string
	client     *peer.Client
	containers []peer.Container
	// announced are the replicas whose announcements lead to it.
	announced []string
}

func (m *member) close() { _ = m.client.Close() } // nothing is under way

// replica returns what the member says that it runs of a service: one replica, as
// no node runs two, and one that serves if there is one.
func (m *member) replica(service string) (replica peer.Container, ok bool) {
	for _, c := range m.containers {
		if c.ServiceID == service && (!ok || c.Ready && !replica.Ready) {
			replica, ok = c, true
		}
	}
	return replica, ok
}

// whileAlive returns a context that ends when the member has fallen silent, and
// what ends it otherwise. On a connection where one side may have much to do before
// it says something, silence says nothing; the member's signs of life come over
// another one. quiet is how long nothing was heard on the first.
func (m *member) whileAlive(ctx context.Context, quiet func() time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for silent := 0; ctx.Err() == nil; {
			for _, err := range m.client.Watch(ctx) {
				switch {
				case err == nil, !errors.Is(err, peer.ErrSilent) && !errors.Is(err, ErrUnreachable), quiet() < lifeRetry:
					silent = 0 // it may be busy, or refuse more, and lives
				default:
					silent++
				}
				if silent == 2 { // one connection may be cut by chance
					cancel(fmt.Errorf("%w: it gave no sign of life meanwhile", peer.ErrSilent))
				}
			}
			wait(ctx, lifeRetry)
		}
	})
	return ctx, func() {
		cancel(nil)
		wg.Wait()
	}
}

// lifeRetry is after what time a member is asked again for signs of life.
const lifeRetry = time.Second

// spec returns the specification of a container, read as strictly as anything
// from another machine.
func (m *member) spec(ctx context.Context, id string) (bunfile.Spec, error) {
	text, err := m.client.Spec(ctx, id)
	if err != nil {
		return bunfile.Spec{}, err
	}
	specs, err := bunfile.ParseUntrusted(id[:min(12, len(id))]+".bun", text)
	if err != nil {
		return bunfile.Spec{}, err
	}
	if len(specs) != 1 {
		return bunfile.Spec{}, fmt.Errorf("it holds %d containers, not one", len(specs))
	}
	spec := specs[0].WithDefaults()
	spec.EnvFile = "" // no file of this machine is read because another one says so
	return spec, nil
}

// image returns the root of an image that the node has: the one of a digest,
// where that is known, else the one of the name.
func (m *member) image(ctx context.Context, name, digest string) (runtime.Descriptor, error) {
	if digest == "" {
		return m.client.Image(ctx, name)
	}
	return m.client.Image(ctx, atDigest(name, digest))
}

// atDigest returns the reference of an image by its digest.
func atDigest(name, digest string) string {
	name, _, _ = strings.Cut(name, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	return name + "@" + digest
}

// findMembers finds the nodes of this machine's flock that announce what ref
// means, or may have what it needs, and returns those that prove it. unproved
// says why others did not, nil where there are none.
func (c *Client) findMembers(ctx context.Context, ref string) (members []*member, unproved, err error) {
	f, flock, err := c.membership()
	if err != nil {
		return nil, nil, err
	}
	all, err := c.hear(ctx, joinFind, func(s discovery.Service) bool {
		return s.Node != f.NodeID() && s.Flock == flock && mayMean(s, ref) // others may have the same name
	})
	if err != nil {
		return nil, nil, err
	}
	hints, err := chooseHints(all, ref, flock, f.NodeID())
	if err != nil {
		return nil, nil, err
	}
	members, errs := prove(ctx, f, hints)
	if _, err := meant(members, ref); errors.Is(err, ErrNotFound) && ctx.Err() == nil {
		members = append(members, c.askOthers(ctx, f, flock, ref, hints)...)
	}
	if ctx.Err() != nil {
		for _, m := range members {
			m.close()
		}
		return nil, nil, context.Cause(ctx)
	}
	return members, whyUnproved(errs), nil
}

// askOthers asks the nodes of the flock that are announced and were not asked,
// after none of those that were asked proved to run what ref means: what was heard
// first may be out of date, or a lie, and hide what others run. Those whose
// announcements fit are asked first.
func (c *Client) askOthers(ctx context.Context, f *trust.Flock, flock, ref string, asked []discovery.Service) []*member {
	known := make(map[string]bool)
	for _, s := range asked {
		known[whereabouts(s)] = true
	}
	other := func(s discovery.Service) bool {
		return askable(s, flock, f.NodeID()) && !known[whereabouts(s)]
	}
	all, err := c.hear(ctx, joinConfirm, func(s discovery.Service) bool { return other(s) && mayMean(s, ref) })
	if err != nil {
		return nil // of those that were asked there is more to say
	}
	rest := slices.DeleteFunc(all, func(s discovery.Service) bool { return !other(s) })
	slices.SortStableFunc(rest, func(a, b discovery.Service) int {
		switch fits := mayMean(a, ref); {
		case fits == mayMean(b, ref):
			return 0
		case fits:
			return -1
		}
		return 1
	})
	var hints []discovery.Service
	for _, s := range rest {
		if !known[whereabouts(s)] && len(hints) < mostOthers {
			known[whereabouts(s)] = true
			hints = append(hints, s)
		}
	}
	members, _ := prove(ctx, f, hints)
	return members
}

// membership returns this machine's membership, and the id of its flock.
func (c *Client) membership() (f *trust.Flock, flock string, err error) {
	if f, err = c.openFlock(); err != nil {
		return nil, "", err
	}
	g, err := f.Current()
	if err != nil {
		return nil, "", err
	}
	return f, g.FlockID(), nil
}

// whyUnproved says why no node proved that it runs what is announced.
func whyUnproved(errs []error) error {
	switch strange := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return errors.Is(err, ErrUnreachable) }); {
	case len(strange) > 0:
		return fmt.Errorf("%w: it is announced, but nobody who announces it proves to be in the flock: %w", ErrNotTrusted, someErrors(strange))
	case len(errs) > 0:
		return fmt.Errorf("it is announced, but its node does not answer: it may have died a moment ago, or a firewall may close its TCP port: %w", someErrors(errs))
	}
	return nil
}

// askable reports whether an announcement says that it is of another node of a flock than
// self, and where to ask whether that is so.
func askable(s discovery.Service, flock, self string) bool {
	return s.Flock == flock && s.Node != self && s.PeerPort != 0 && len(s.Addrs) > 0
}

// mayMean reports whether a reference may mean an announced service.
func mayMean(s discovery.Service, ref string) bool {
	ref = strings.ToLower(ref)
	return strings.ToLower(s.Name) == ref || strings.HasPrefix(s.ID, ref) || strings.HasPrefix(s.ServiceID, ref)
}

// hear listens for so long, or until something is announced that is wanted and a
// little longer, so that others who announce it are heard too. It returns all that
// is announced.
func (c *Client) hear(ctx context.Context, long time.Duration, wanted func(discovery.Service) bool) ([]discovery.Service, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := c.Discover(ctx)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(long)
	defer timer.Stop()
	heard := make(map[string]discovery.Service)
	settling := false
	for {
		select {
		case <-timer.C:
			return sorted(heard), nil
		case e, open := <-events:
			switch {
			case !open:
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				return nil, ErrClosed
			case e.Type == discovery.Removed:
				delete(heard, e.Service.ID)
			default:
				heard[e.Service.ID] = e.Service
				if !settling && wanted(e.Service) {
					settling = true
					timer.Reset(joinSettle)
				}
			}
		}
	}
}

func sorted(services map[string]discovery.Service) []discovery.Service {
	list := make([]discovery.Service, 0, len(services))
	for _, s := range services {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b discovery.Service) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// chooseHints returns the announcements of other nodes of the flock that are
// worth asking: those that ref may mean, and those of the same services and
// images. What the announcements say is only a reason to ask.
func chooseHints(all []discovery.Service, ref, flock, self string) ([]discovery.Service, error) {
	var hints []discovery.Service
	var elsewhere []string
	mute, own := 0, 0
	for _, s := range all {
		switch {
		case !mayMean(s, ref):
		case s.Flock != flock:
			if word := fmt.Sprintf("%s of flock %.12s", s.Name, orNone(s.Flock)); !slices.Contains(elsewhere, word) {
				elsewhere = append(elsewhere, word)
			}
		case s.Node == self:
			own++
		case s.PeerPort == 0 || len(s.Addrs) == 0:
			mute++
		default:
			hints = append(hints, s)
		}
	}
	switch {
	case len(hints) > 0:
	case own > 0:
		return nil, fmt.Errorf("%w: only this machine announces it", ErrJoined)
	case mute > 0:
		return nil, fmt.Errorf("%w: it is announced by a node without an endpoint: update Budgie there, and see its log", ErrNotTrusted)
	case len(elsewhere) > 0:
		return nil, fmt.Errorf("%w: it is announced by another flock (%s), and this machine is in flock %.12s: give both the same token (budgie token set)",
			ErrNotTrusted, someOf(elsewhere), flock)
	default:
		return nil, fmt.Errorf("%w: nothing that is announced on the network has this name or id: \"budgie chirp\" lists what is, which is not what is starting still, or unhealthy", ErrNotFound)
	}
	for _, s := range all {
		related := func(h discovery.Service) bool {
			return h.ServiceID == s.ServiceID || h.Image != "" && h.Image == s.Image
		}
		if askable(s, flock, self) && !mayMean(s, ref) && slices.ContainsFunc(hints, related) {
			hints = append(hints, s)
		}
	}
	return hints, nil
}

// mostNamed is how much of a kind an error names: what others announce and say has
// no end.
const mostNamed = 4

// someOf lists the first words, and how many more there are.
func someOf(words []string) string {
	if more := len(words) - mostNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:mostNamed], ", "), more)
	}
	return strings.Join(words, ", ")
}

// someErrors joins the first errors, and says how many more there are.
func someErrors(errs []error) error {
	if more := len(errs) - mostNamed; more > 0 {
		errs = append(slices.Clone(errs[:mostNamed]), fmt.Errorf("and so on, %d more", more))
	}
	return errors.Join(errs...)
}

func orNone(flock string) string {
	if flock == "" {
		return "(none)"
	}
	return flock
}

// proveTimeout bounds how long one node may take to prove who it is and to say
// what it runs, and mostProofs how many are asked at a time.
const (
	proveTimeout = 3 * time.Second
	mostProofs   = 16
)

// mostOthers is how many nodes are asked that do not announce what is looked for.
const mostOthers = 64

// prove connects to the endpoints of announcements and returns those that are
// who they are said to be, in the order of the announcements.
func prove(ctx context.Context, f *trust.Flock, hints []discovery.Service) ([]*member, []error) {
	var asked []discovery.Service
	seen := make(map[string]bool)
	for _, s := range hints {
		if key := whereabouts(s); !seen[key] {
			seen[key] = true
			asked = append(asked, s)
		}
	}
	members := make([]*member, len(asked))
	errs := make([]error, len(asked))
	slots := make(chan struct{}, mostProofs)
	var wg sync.WaitGroup
	for i, s := range asked {
		slots <- struct{}{}
		wg.Go(func() {
			members[i], errs[i] = proveOne(ctx, f, s)
			<-slots
		})
	}
	wg.Wait()
	for _, s := range hints {
		i := slices.IndexFunc(asked, func(a discovery.Service) bool { return whereabouts(a) == whereabouts(s) })
		if members[i] != nil && s.ID != "" {
			members[i].announced = append(members[i].announced, s.ID)
		}
	}
	return slices.DeleteFunc(members, func(m *member) bool { return m == nil }),
		slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// whereabouts is what an announcement says of whom to ask where.
func whereabouts(s discovery.Service) string { return fmt.Sprint(s.Node, s.PeerPort, s.Addrs) }

func proveOne(ctx context.Context, f *trust.Flock, s discovery.Service) (*member, error) {
	ctx, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	client := peer.NewClient(f, s.Node, peerAddrs(s))
	containers, err := client.Containers(ctx)
	if err != nil {
		_ = client.Close() // the error that counts is the other one
		return nil, fmt.Errorf("node %.12s: %w", s.Node, err)
	}
	return &member{node: s.Node, client: client, containers: containers}, nil
}

// peerAddrs returns where a service's node answers.
func peerAddrs(s discovery.Service) []netip.AddrPort {
	addrs := make([]netip.AddrPort, 0, len(s.Addrs))
	for _, a := range s.Addrs {
		addrs = append(addrs, netip.AddrPortFrom(a, uint16(s.PeerPort)))
	}
	return addrs
}
