package mdns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// lostTime is how long what was heard on a link is still believed after the link
// is gone, in case that it comes back: RFC 6762 section 10.3.
const lostTime = 5 * time.Second

// follow takes in which links there are now, and which addresses they have.
func (e *engine) follow(now time.Time, links []int) {
	e.links = slices.Clone(links)
	for l := range e.linkAddrs {
		if !slices.Contains(links, l) {
			e.lost(now, l)
		}
	}
	for _, l := range links {
		addrs := slices.Clone(e.addrs(l))
		before, known := e.linkAddrs[l]
		e.linkAddrs[l] = addrs
		switch {
		case !known:
			e.cameUp(now, l)
		case !slices.Equal(before, addrs):
			e.moved(now, l, before)
		}
	}
	e.localAt = time.Time{} // to be asked for again
	addrs := e.ownAddrs()
	for _, a := range e.own {
		a.svc.Addrs = slices.Clone(addrs)
		e.hub.Set(a.svc)
	}
}

// cameUp begins to announce and browse on a link: RFC 6762 section 8 wants
// probes before. Others may have seen the same link come up at the same time.
func (e *engine) cameUp(now time.Time, link int) {
	e.log.Debug("mDNS interface in use", "interface", e.zone(link), "addrs", e.linkAddrs[link])
	at := now.Add(rand.N(maxProbeDelay))
	for _, a := range e.own {
		a.on[link] = &stage{at: at, up: true}
	}
	if !e.askAt.IsZero() {
		e.askSoon(now)
	}
}

// lost ends everything on a link but the knowledge of it, which ends soon.
func (e *engine) lost(now time.Time, link int) {
	e.log.Debug("mDNS interface no longer in use", "link", link)
	for _, a := range e.own {
		delete(a.on, link)
	}
	delete(e.linkAddrs, link)
	delete(e.addrsAgain, link)
	delete(e.sentAt, link)
	delete(e.heard, link)
	e.pending = slices.DeleteFunc(e.pending, func(p reply) bool { return p.link == link })
	e.cache.lost(now, link)
}

// moved announces changed addresses at once, and once more: RFC 6762 section
// 8.4. Those that are gone are said to be, since the others replace none of
// another family.
func (e *engine) moved(now time.Time, link int, before []netip.Addr) {
	e.log.Debug("mDNS addresses changed", "interface", e.zone(link), "from", before, "to", e.linkAddrs[link])
	if !e.isKnown(link) {
		return // the probes are still to come
	}
	gone := slices.DeleteFunc(before, func(a netip.Addr) bool { return slices.Contains(e.linkAddrs[link], a) })
	records := append(e.hostRecords(link), over(e.addrRecords(gone))...)
	e.multicast(now, link, []group{{answers: records}})
	e.elsewhere(now, link)
	e.addrsAgain[link] = now.Add(time.Second)
}

// elsewhere announces the addresses of the other links, too, because those of
// one were announced. Two links may be on one network, where the cache-flush bit
// of the addresses of one ends all others that were not announced within a
// second: RFC 6762 section 10.2.
func (e *engine) elsewhere(now time.Time, link int) {
	for _, l := range e.links {
		records := e.hostRecords(l)
		if l == link || !e.isKnown(l) || len(records) == 0 {
			continue
		}
		if at, ok := e.sentAt[l][records[0].key()]; ok && now.Sub(at) < goodbyeDelay/2 {
			continue
		}
		e.multicast(now, l, []group{{answers: records}})
	}
}

// isKnown reports whether others know anything of this process on a link.
func (e *engine) isKnown(link int) bool {
	for _, a := range e.own {
		if a.on[link].known() {
			return true
		}
	}
	return false
}

// moveAgain sends the second announcement of changed addresses.
func (e *engine) moveAgain(now time.Time) {
	for l, at := range e.addrsAgain {
		if now.Before(at) {
			continue
		}
		delete(e.addrsAgain, l)
		if e.isKnown(l) {
			e.multicast(now, l, []group{{answers: e.hostRecords(l)}})
			e.elsewhere(now, l)
		}
	}
}

// lost makes everything that was heard on a link expire soon.
func (c *cache) lost(now time.Time, link int) {
	soon := now.Add(lostTime)
	end := func(l *life) {
		if l.alive(now) && soon.Before(l.expires) {
			l.expires, l.asked = soon, refreshes
		}
	}
	for _, h := range c.hosts {
		for _, l := range h.links[link] {
			end(l)
		}
	}
	for _, i := range c.instances {
		if v := i.links[link]; v != nil {
			end(&v.ptr)
			end(&v.srv)
			end(&v.txt)
		}
	}
	c.next = earliest(c.next, soon)
}
