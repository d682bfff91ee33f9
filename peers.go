package budgie

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/discovery/static"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/trust"
)

// parsePeers checks addresses of peers, host or host:port, and returns them with
// their ports.
func parsePeers(list []string) ([]string, error) {
	var peers []string
	for _, text := range list {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			host, port = text, strconv.Itoa(peer.DefaultPort)
			if inner, bracketed := strings.CutPrefix(text, "["); bracketed {
				host = strings.TrimSuffix(inner, "]")
			}
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || !isHost(host) || net.JoinHostPort(host, port) != text && strings.ContainsAny(text, "[]") && text != "["+host+"]" {
			return nil, fmt.Errorf("peer %.80q (BUDGIE_PEERS, -peer or WithPeers): write host or host:port, such as 192.168.1.20:%d, or [fe80::1%%eth0]:%d", text, peer.DefaultPort, peer.DefaultPort)
		}
		peers = append(peers, net.JoinHostPort(host, port))
	}
	return peers, nil
}

// hostName is a name that the DNS may know (RFC 1123 section 2.1). Underscores are
// not in it but in use.
var hostName = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$`)

// isHost reports whether text is an address without port, or may be a name.
func isHost(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil || len(text) <= 253 && hostName.MatchString(text)
}

// fixedPeers returns a discoverer that knows what the nodes at the client's given
// addresses run, as they themselves tell it once they have proved to be in the
// flock.
func (c *Client) fixedPeers() *static.Discoverer {
	d := static.New()
	told := &toldByPeers{to: d, by: make(map[string][]discovery.Service), problems: make(map[string]error)}
	for _, addr := range c.cfg.peers {
		told.problems[addr] = nil
	}
	c.given.Store(told)
	for _, addr := range c.cfg.peers {
		c.spawn(func() { c.followPeer(addr, told) })
	}
	return d
}

// toldByPeers is what the nodes at the given addresses run.
type toldByPeers struct {
	to *static.Discoverer

	mu sync.Mutex
	by map[string][]discovery.Service // by address as given
	// problems are why those do not answer that do not, nil while that is open.
	problems map[string]error
}

// PeerProblem says that nothing is known of the node at an address that the client
// was given, by [WithPeers] or BUDGIE_PEERS.
type PeerProblem struct {
	// Addr is the host:port.
	Addr string
	// Err is why; nil where it has neither answered nor failed so far.
	Err error
}

// String says so in words.
func (p PeerProblem) String() string {
	if p.Err == nil {
		return fmt.Sprintf("the peer %s has not answered so far", p.Addr)
	}
	return fmt.Sprintf("the peer %s does not answer: %v", p.Addr, p.Err)
}

// PeerProblems returns which of the nodes whose addresses the client was given do
// not answer, in the order of the addresses. They are asked from the first use of
// discovery on: before that there are no problems.
func (c *Client) PeerProblems() []PeerProblem {
	t := c.given.Load()
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var problems []PeerProblem
	for _, addr := range c.cfg.peers {
		err, silent := t.problems[addr]
		if silent && !slices.ContainsFunc(problems, func(p PeerProblem) bool { return p.Addr == addr }) {
			problems = append(problems, PeerProblem{addr, err})
		}
	}
	return problems
}

// withPeerProblems adds to an error which of the given nodes do not answer.
func (c *Client) withPeerProblems(err error) error {
	var words []string
	for _, p := range c.PeerProblems() {
		words = append(words, p.String())
	}
	if len(words) == 0 {
		return err
	}
	return fmt.Errorf("%w; %s", err, someOf(words))
}

// fail notes why the node at an address says nothing.
func (t *toldByPeers) fail(addr string, err error) {
	t.set(addr, nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.problems[addr] = err
}

func (t *toldByPeers) set(addr string, services []discovery.Service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.by[addr] = services
	delete(t.problems, addr)
	var all []discovery.Service
	for _, s := range t.by {
		all = append(all, s...)
	}
	t.to.Set(all...)
}

// followPeer watches the node at an address until the client ends.
func (c *Client) followPeer(addr string, told *toldByPeers) {
	retry := rosterRetry
	complaint := ""
	for c.life.Err() == nil {
		began := time.Now()
		err := c.watchPeer(addr, func(services []discovery.Service) {
			retry, complaint = rosterRetry, ""
			told.set(addr, services)
		})
		if sentAway(err, began) {
			continue
		}
		told.fail(addr, err)
		if text := err.Error(); text != complaint && c.life.Err() == nil {
			c.log.Warn("a peer does not answer; trying again", "peer", addr, "error", err)
			complaint = text
		}
		wait(c.life, retry)
		retry = min(2*retry, rosterMaxRetry)
	}
}

// watchPeer calls tell with what the node at an address runs, until it falls
// silent.
func (c *Client) watchPeer(addr string, tell func([]discovery.Service)) error {
	f, err := c.openFlock()
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.life, proveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return err
	}
	var addrs []netip.AddrPort
	for _, ip := range ips {
		n, _ := strconv.Atoi(port) // parsePeers has looked
		addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), uint16(n)))
	}
	client := peer.NewClient(f, "", addrs)
	defer client.Close()
	for told, err := range client.WatchNode(c.life) {
		if err != nil {
			return err
		}
		g, err := f.Current()
		if err != nil {
			return err
		}
		services := make([]discovery.Service, 0, len(told.Containers)+1)
		for _, one := range told.Containers {
			services = append(services, serviceOf(one, g, client.Addr()))
		}
		if told.Hosting != nil {
			s := hostService(client.Node(), g.FlockID(), int(client.Addr().Port()))
			s.Addrs = []netip.Addr{client.Addr().Addr()}
			services = append(services, s)
		}
		tell(services)
	}
	return errors.New("it ended the conversation")
}

// serviceOf returns what a container's node, whose endpoint is at addr, could
// announce of it.
func serviceOf(c peer.Container, g *trust.Generation, addr netip.AddrPort) discovery.Service {
	return discovery.Service{
		ID: c.ID, ServiceID: c.ServiceID, Name: c.Name, Image: c.Image, Node: c.Node, Flock: g.FlockID(),
		Ports: portsOf(c.Endpoints), Addrs: []netip.Addr{addr.Addr()}, PeerPort: int(addr.Port()),
	}
}

// union is what the network announces, and what given peers tell: of one
// replica, what its node itself tells counts.
type union struct {
	Discoverer
	given *static.Discoverer
}

// Browse merges the two.
func (u *union) Browse(ctx context.Context) (<-chan discovery.Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	given, err := u.given.Browse(ctx)
	var announced <-chan discovery.Event
	if err == nil {
		announced, err = u.Discoverer.Browse(ctx)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	hub := discovery.NewHub()
	out, err := hub.Subscribe(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	go func() {
		defer cancel()
		defer hub.Close()
		merge(hub, given, announced)
	}()
	return out, nil
}

// merge follows two channels of events until both are closed, of which the
// first counts more.
func merge(hub *discovery.Hub, channels ...<-chan discovery.Event) {
	known := make([]map[string]discovery.Service, len(channels))
	for i := range known {
		known[i] = make(map[string]discovery.Service)
	}
	take := func(i int, e discovery.Event, open bool) {
		id := e.Service.ID
		switch {
		case !open:
			channels[i] = nil
			return
		case e.Type == discovery.Removed:
			delete(known[i], id)
		default:
			known[i][id] = e.Service
		}
		at := slices.IndexFunc(known, func(m map[string]discovery.Service) bool { _, ok := m[id]; return ok })
		if at < 0 {
			hub.Delete(id)
			return
		}
		hub.Set(known[at][id])
	}
	for channels[0] != nil || channels[1] != nil {
		select {
		case e, open := <-channels[0]:
			take(0, e, open)
		case e, open := <-channels[1]:
			take(1, e, open)
		}
	}
}

// Close closes both.
func (u *union) Close() error { return errors.Join(u.given.Close(), u.Discoverer.Close()) }
