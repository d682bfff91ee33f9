package mdns

import (
	"net/netip"
	"slices"
	"time"
)

// learn takes in what others announce.
func (e *engine) learn(now time.Time, link int, source netip.Addr, pkt packet) {
	a := arrival{now: now, link: link, source: source.WithZone(""), jitter: jitter()}
	records := slices.Concat(pkt.answers, pkt.others)
	for _, r := range records {
		if r.typ == typeA || r.typ == typeAAAA {
			continue
		}
		if own := e.ownOf(r); own != nil {
			e.contested(now, link, own, r, source)
			continue
		}
		e.count(e.cache.apply(r, a), r, source)
	}
	// Addresses after all SRV records, which say whose addresses matter; what
	// they replace goes before any of them comes.
	for _, r := range records {
		if r.flush && (r.typ == typeA || r.typ == typeAAAA) && r.name != e.host {
			e.cache.flush(r.name, r.typ == typeA, a)
		}
	}
	for _, r := range records {
		if r.typ != typeA && r.typ != typeAAAA || r.name == e.host {
			continue
		}
		addr, ok := e.usable(r.addr, link)
		if !ok {
			e.count(invalid, r, source)
			continue
		}
		if e.isLocal(now, addr, link) && !e.isLocal(now, source, link) {
			e.stats.Invalid++
			e.log.Debug("mDNS address ignored: it is this machine's, and another one claims it",
				"record", r.name, "addr", addr, "from", source)
			continue
		}
		e.count(e.cache.applyAddr(r.name, addr, r.ttl, a), r, source)
	}
}

// usable returns an announced address with the zone in which it is valid, and
// false if nobody can be there: loopback addresses, for one, are believed on
// loopback alone.
func (e *engine) usable(addr netip.Addr, link int) (netip.Addr, bool) {
	if addr.Is4In6() || addr.IsUnspecified() || addr.IsMulticast() {
		return addr, false
	}
	if addr.IsLoopback() {
		return addr, slices.ContainsFunc(e.addrs(link), netip.Addr.IsLoopback)
	}
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		return addr.WithZone(e.zone(link)), true
	}
	return addr, true
}

// isLocal reports whether an address is one of this machine's, loopback included.
// Processes of the machine may announce them; from anybody else they would point
// whoever believes it at ports of his own, which he trusts more than others.
// Link-local addresses mean something on their link only.
func (e *engine) isLocal(now time.Time, addr netip.Addr, link int) bool {
	if addr.IsLoopback() {
		return true
	}
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		return slices.Contains(e.addrs(link), addr.WithZone(e.zone(link)))
	}
	// Not for every record of a flood anew.
	if e.localAt.IsZero() || now.Sub(e.localAt) >= time.Second || now.Before(e.localAt) {
		e.localAddrs, e.localAt = e.local(), now
	}
	return slices.Contains(e.localAddrs, addr.WithZone(""))
}

// count counts what became of a record.
func (e *engine) count(v verdict, r record, source netip.Addr) {
	switch v {
	case foreign:
		e.stats.Foreign++
	case invalid:
		e.stats.Invalid++
		e.log.Debug("mDNS record ignored: it breaks a rule", "record", r.name, "type", r.typ.String(), "from", source)
	case full:
		e.stats.Limited++
		e.log.Debug("mDNS record ignored: too many are known", "record", r.name, "from", source)
	}
}

// ownOf returns the own announcement that a record is about, or nil.
func (e *engine) ownOf(r record) *announcement {
	if r.typ == typePTR {
		return e.named[r.target]
	}
	return e.named[r.name]
}

// publishChanged tells the browsers what changed in the cache: at once, unless
// it has just done so, since a flood of packets may change much at a time.
func (e *engine) publishChanged(now time.Time) {
	if len(e.cache.changed) == 0 || now.Before(e.publishedAt.Add(tick)) {
		return
	}
	e.publishedAt = now
	for short := range e.cache.takeChanged() {
		e.publish(now, short)
	}
}

// publish brings the hub up to date with the services of a short id. Own
// services are not touched: of them this process knows better.
func (e *engine) publish(now time.Time, short string) {
	services := e.cache.services(short, now)
	for _, id := range e.published[short] {
		if _, ok := services[id]; !ok && e.own[id] == nil {
			e.hub.Delete(id)
		}
	}
	delete(e.published, short)
	for id, svc := range services {
		if e.own[id] == nil {
			e.hub.Set(svc)
			e.published[short] = append(e.published[short], id)
		}
	}
}

// ask sends questions, those for services with the answers that are known, and
// as few packets as hold them.
func (e *engine) ask(now time.Time, ask asks) {
	for link, questions := range ask {
		var list []question
		var known []record
		for q := range questions {
			list = append(list, q)
			if q.name == serviceName {
				known = e.cache.known(link, now)
			}
		}
		for chunk := range slices.Chunk(list, questionsPerPacket) {
			var answers []record
			if slices.ContainsFunc(chunk, func(q question) bool { return q.name == serviceName }) {
				answers = known
			}
			packets, err := packQuery(chunk, answers, e.room(link))
			if err != nil {
				e.log.Debug("mDNS query cannot be packed", "err", err)
				continue
			}
			for _, data := range packets {
				e.send(now, link, data)
			}
		}
	}
}
