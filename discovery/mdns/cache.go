package mdns

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/budgiehq/budgie/discovery"
	"golang.org/x/net/dns/dnsmessage"
)

// Limits of the cache, against those who announce without end.
const (
	// maxInstances is how many instances are remembered in all.
	maxInstances = 4096
	// maxPerSource is how many of them one address can bring in.
	maxPerSource = 1024
	// maxAddrs is how many addresses a host can have on one link.
	maxAddrs = 32
)

// cache remembers what was announced, by instance and by host, each per link
// (RFC 6762 section 14: the same name may mean something else elsewhere). It
// has no clock: callers say what time it is.
type cache struct {
	instances map[string]*instance
	hosts     map[string]*host
	// short finds the instances that end in a short id.
	short map[string]map[*instance]struct{}
	// sources counts the instances that an address brought in.
	sources map[netip.Addr]int
	// serial orders instances by their age.
	serial uint64
	// changed are the short ids about which something may have changed.
	changed map[string]struct{}
	// vanished is set when something expires without a goodbye, for the browsers to see.
	vanished bool
	// next is no later than the first time at which sweep has something to do;
	// zero while there is nothing.
	next time.Time
}

// instance is an announced service instance.
type instance struct {
	name, short string
	serial      uint64
	source      netip.Addr
	links       map[int]*view
}

// view is what an instance announces on a link. It is complete while all three
// of its records live.
type view struct {
	ptr, srv, txt life
	target        string
	port          uint16
	svc           discovery.Service
	// askAt is when to ask for what is missing, zero if nothing was seen to be
	// missing; tries is how often that was done.
	askAt time.Time
	tries int
}

// host has addresses, for as long as an instance points at it.
type host struct {
	users map[*instance]struct{}
	links map[int]map[netip.Addr]*life
}

func newCache() *cache {
	return &cache{
		instances: make(map[string]*instance),
		hosts:     make(map[string]*host),
		short:     make(map[string]map[*instance]struct{}),
		sources:   make(map[netip.Addr]int),
		changed:   make(map[string]struct{}),
	}
}

// arrival is where a record came from.
type arrival struct {
	now    time.Time
	link   int
	source netip.Addr
	jitter float64
}

// verdict says what became of a record.
type verdict int

const (
	// taken: the record was understood, whether or not it changed something.
	taken verdict = iota
	// foreign: the record is not about Budgie.
	foreign
	// invalid: the record pretends to be Budgie's and breaks a rule.
	invalid
	// full: there is no room for more.
	full
)

// apply takes a PTR, SRV or TXT record in.
func (c *cache) apply(r record, a arrival) verdict {
	name := r.name
	if r.typ == dnsmessage.TypePTR {
		if r.name != serviceName {
			return foreign
		}
		name = r.target
	}
	short, ok := shortIDOf(name)
	if !ok {
		if r.typ == dnsmessage.TypePTR {
			return invalid
		}
		return foreign
	}
	var svc discovery.Service
	if r.typ == dnsmessage.TypeTXT && r.ttl > 0 {
		var err error
		if svc, err = discovery.DecodeTXT(r.txt); err != nil || svc.ID[:shortID] != short {
			return invalid
		}
	}
	v, i := c.view(name, short, a, r.ttl > 0)
	if v == nil {
		if r.ttl == 0 {
			return taken
		}
		return full
	}
	c.changed[short] = struct{}{}
	// If parts are missing after this packet, they are asked for.
	c.next = earliest(c.next, a.now.Add(resolveDelay))
	switch r.typ {
	case dnsmessage.TypePTR:
		c.renew(&v.ptr, r, a)
	case dnsmessage.TypeTXT:
		if c.renew(&v.txt, r, a) {
			v.svc = svc
		}
	case dnsmessage.TypeSRV:
		if c.renew(&v.srv, r, a) {
			v.port = r.port
			c.point(i, v, r.target)
		}
	}
	return taken
}

// renew begins a record's life anew, or ends it after a goodbye, when it
// returns false.
func (c *cache) renew(l *life, r record, a arrival) bool {
	if r.ttl == 0 {
		l.leave(a.now)
	} else {
		*l = newLife(a.now, r.ttl, a.jitter)
	}
	c.next = earliest(c.next, l.next(true))
	return r.ttl > 0
}

// view returns the view of an instance on a link, nil if there is none and it
// is not to be made or there is no room.
func (c *cache) view(name, short string, a arrival, create bool) (*view, *instance) {
	i := c.instances[name]
	if i == nil {
		if !create || len(c.instances) >= maxInstances || c.sources[a.source] >= maxPerSource {
			return nil, nil
		}
		c.serial++
		i = &instance{name: name, short: short, serial: c.serial, source: a.source, links: make(map[int]*view)}
		c.instances[name] = i
		c.sources[a.source]++
		if c.short[short] == nil {
			c.short[short] = make(map[*instance]struct{})
		}
		c.short[short][i] = struct{}{}
	}
	v := i.links[a.link]
	if v == nil && create {
		v = &view{}
		i.links[a.link] = v
	}
	return v, i
}

// point makes a view point at a host.
func (c *cache) point(i *instance, v *view, target string) {
	old := v.target
	v.target = target
	if target != "" {
		if c.hosts[target] == nil {
			c.hosts[target] = &host{users: make(map[*instance]struct{}), links: make(map[int]map[netip.Addr]*life)}
		}
		c.hosts[target].users[i] = struct{}{}
	}
	if old == "" || old == target {
		return
	}
	for _, other := range i.links {
		if other.target == old {
			return
		}
	}
	h := c.hosts[old]
	delete(h.users, i)
	if len(h.users) == 0 {
		delete(c.hosts, old)
	}
}

// flush makes the addresses of a host on a link leave that are older than a
// second, because a record with the cache-flush bit replaces them: RFC 6762
// section 10.2. The addresses of one packet are applied after it.
func (c *cache) flush(name string, is4 bool, a arrival) {
	h := c.hosts[name]
	if h == nil {
		return
	}
	for addr, l := range h.links[a.link] {
		if addr.Is4() == is4 && a.now.Sub(l.created) > goodbyeDelay {
			l.leave(a.now)
			c.next = earliest(c.next, l.expires)
		}
	}
}

// applyAddr takes an address in, with its zone, of a host that an instance
// points at.
func (c *cache) applyAddr(name string, addr netip.Addr, ttl uint32, a arrival) verdict {
	h := c.hosts[name]
	if h == nil {
		return foreign
	}
	addrs := h.links[a.link]
	if addrs == nil {
		addrs = make(map[netip.Addr]*life)
		h.links[a.link] = addrs
	}
	l := addrs[addr]
	switch {
	case l == nil && ttl == 0:
		return taken
	case l == nil && len(addrs) >= maxAddrs:
		return full
	case l == nil:
		l = &life{}
		addrs[addr] = l
	}
	if !l.alive(a.now) {
		for i := range h.users {
			c.changed[i.short] = struct{}{}
		}
	}
	c.renew(l, record{ttl: ttl}, a)
	return taken
}

// services returns the services whose id begins with a short id, by id.
func (c *cache) services(short string, now time.Time) map[string]discovery.Service {
	found := make(map[string]discovery.Service)
	best := make(map[string]*instance)
	for i := range c.short[short] {
		svc, ok := c.resolve(i, now)
		if !ok {
			continue
		}
		// Two instances with one id: the older one, so that a newcomer cannot
		// take over, unless it is leaving, as after a change of name.
		if old := best[svc.ID]; old == nil || i.before(old) {
			best[svc.ID], found[svc.ID] = i, svc
		}
	}
	return found
}

func (i *instance) before(o *instance) bool {
	if a, b := i.leaving(), o.leaving(); a != b {
		return b
	}
	return i.serial < o.serial
}

func (i *instance) leaving() bool {
	for _, v := range i.links {
		if !v.ptr.leaving() {
			return false
		}
	}
	return true
}

// resolve returns the service of an instance if it is complete on some link:
// the newest text of those links, and the addresses of all of them.
func (c *cache) resolve(i *instance, now time.Time) (discovery.Service, bool) {
	var svc discovery.Service
	var newest time.Time
	var addrs []netip.Addr
	for link, v := range i.links {
		if !v.ptr.alive(now) || !v.srv.alive(now) || !v.txt.alive(now) {
			continue
		}
		reachable := false
		for addr, l := range c.hosts[v.target].links[link] {
			if !l.alive(now) {
				continue
			}
			reachable = true
			if !slices.Contains(addrs, addr) {
				addrs = append(addrs, addr)
			}
		}
		if reachable && v.txt.created.After(newest) {
			newest = v.txt.created
			svc = v.svc
			svc.PeerPort = int(v.port)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	svc.Addrs = addrs
	return svc, len(addrs) > 0
}

// missing returns the questions for what an instance lacks on a link.
func (c *cache) missing(i *instance, link int, v *view, now time.Time) []question {
	if !v.srv.alive(now) || !v.txt.alive(now) {
		return []question{{i.name, typeANY}}
	}
	for _, l := range c.hosts[v.target].links[link] {
		if l.alive(now) {
			return nil
		}
	}
	return []question{{v.target, typeANY}}
}

// tells reports whether an instance need not be told again on a link: RFC 6762
// section 7.1. One that is not complete is worth telling, since the rest comes
// along.
func (c *cache) tells(name string, link int, now time.Time) bool {
	i := c.instances[name]
	if i == nil {
		return false
	}
	v := i.links[link]
	return v != nil && v.ptr.fresh(now) && len(c.missing(i, link, v, now)) == 0
}

// known returns the PTR records of a link that need not be told again, with
// what is left of their TTL.
func (c *cache) known(link int, now time.Time) []record {
	var list []record
	for _, i := range c.instances {
		if c.tells(i.name, link, now) {
			list = append(list, record{
				name: serviceName, typ: dnsmessage.TypePTR, target: i.name, ttl: seconds(i.links[link].ptr.expires.Sub(now)),
			})
		}
	}
	slices.SortFunc(list, func(a, b record) int { return cmp.Compare(a.target, b.target) })
	return list
}

// takeChanged returns the short ids about which something may have changed
// since the last call.
func (c *cache) takeChanged() map[string]struct{} {
	changed := c.changed
	if len(changed) > 0 {
		c.changed = make(map[string]struct{})
	}
	return changed
}
