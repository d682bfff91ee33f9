package mdns

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

const (
	// probes is how many probes are sent for a name, probeGap the time between
	// them and after the last: RFC 6762 section 8.1.
	probes   = 3
	probeGap = 250 * time.Millisecond
	// maxProbeDelay bounds the time before the first probe on a link that came
	// up. The RFC has 250 ms; there are few Budgies, and their names are unlike.
	maxProbeDelay = 50 * time.Millisecond
	// announcements is how many announcements follow, after one second, two, four
	// and so on: section 8.3. On a link that came up it is announcementsUp, since
	// switches may take half a minute before they pass anything on.
	announcements   = 2
	announcementsUp = 6
	// deferTime is how long the loser of two simultaneous probes waits: section
	// 8.2.
	deferTime = time.Second
	// maxConflicts is how many conflicts within conflictTime are taken for bad
	// luck; then every further try waits for conflictWait (section 8.1), until
	// there was no conflict for slowTime.
	maxConflicts = 15
	conflictTime = 10 * time.Second
	conflictWait = 5 * time.Second
	slowTime     = time.Minute
	// probeLife is how long what a probe proposes is believed: until the
	// announcement, and a little longer for the case that it is late.
	probeLife = 2 * time.Second
)

// stage is how far an announcement has come on a link. A nil stage is that of a
// link that is not in use.
type stage struct {
	// step counts the packets that were sent: probes, then announcements.
	step int
	// at is when the next one is due; zero for never.
	at time.Time
	// up: the link has come up.
	up bool
}

// sent counts a packet that was sent.
func (s *stage) sent(now time.Time) {
	s.step++
	last := probes + announcements
	if s.up {
		last = probes + announcementsUp
	}
	switch {
	case s.step <= probes:
		s.at = now.Add(probeGap)
	case s.step < last:
		s.at = now.Add(time.Second << (s.step - probes - 1))
	default:
		s.at, s.up = time.Time{}, false
	}
}

// known is true if others may know of it.
func (s *stage) known() bool { return s != nil && s.step > 0 }

// established is true if the name is ours.
func (s *stage) established() bool { return s != nil && s.step > probes }

// again makes an established name be announced anew. If it is not, that is what
// happens anyway.
func (s *stage) again(now time.Time) {
	if s.established() {
		*s = stage{step: probes, at: now, up: s.up}
	}
}

// advance sends the probes and announcements whose time has come, those of one
// link in as few packets as hold them.
func (e *engine) advance(now time.Time) {
	e.moveAgain(now)
	var done []int
	for _, l := range e.links {
		var probing, announcing []*announcement
		for _, a := range e.own {
			s := a.on[l]
			if s == nil || s.at.IsZero() || now.Before(s.at) {
				continue
			}
			if s.step < probes {
				probing = append(probing, a)
			} else {
				announcing = append(announcing, a)
			}
			s.sent(now)
		}
		byName := func(a, b *announcement) int { return cmp.Compare(a.instance, b.instance) }
		slices.SortFunc(probing, byName)
		slices.SortFunc(announcing, byName)
		e.probe(now, l, probing)
		var groups []group
		for _, a := range announcing {
			groups = append(groups, group{answers: e.instanceRecords(a)})
		}
		if len(groups) > 0 {
			e.multicast(now, l, append(groups, group{answers: e.hostRecords(l)}))
			done = append(done, l)
		}
	}
	for _, l := range done {
		e.elsewhere(now, l)
	}
}

// probe asks whether somebody uses the names of announcements, and says what
// for: RFC 6762 section 8.1. The answers are to come by multicast, since unicast
// ones would go to another program of this machine.
func (e *engine) probe(now time.Time, link int, list []*announcement) {
	var done [][]byte
	var last packet
	var raw []byte
	for _, a := range list {
		for try := 0; ; try++ {
			next := packet{questions: slices.Clone(last.questions), proposed: slices.Clone(last.proposed)}
			if len(next.questions) == 0 {
				next.questions = []question{{e.host, typeANY}}
				next.proposed = e.hostRecords(link)
			}
			next.questions = append(next.questions, question{a.instance, typeANY})
			next.proposed = append(next.proposed, unflushed(e.instanceRecords(a)[1:])...)
			data, err := next.pack()
			if err != nil {
				e.log.Warn("mDNS probe cannot be packed", "instance", a.instance, "err", err)
				break
			}
			if len(data) > e.room(link) && try == 0 && raw != nil {
				done, last, raw = append(done, raw), packet{}, nil
				continue
			}
			last, raw = next, data
			break
		}
	}
	if raw != nil {
		done = append(done, raw)
	}
	for _, data := range done {
		e.send(now, link, data)
	}
}

// unflushed takes the cache-flush bit away, which proposed records do not have.
func unflushed(records []record) []record {
	for i := range records {
		records[i].flush = false
	}
	return records
}

// probed takes in what a probe proposes. It returns true for our own probes,
// which come back from another interface on the same network.
func (e *engine) probed(now time.Time, link int, source netip.Addr, pkt packet) (own bool) {
	if slices.ContainsFunc(pkt.proposed, func(r record) bool { return r.name == e.host || r.target == e.host }) &&
		e.isLocal(now, source, link) {
		return true
	}
	tried := make(map[*announcement]bool)
	for _, r := range pkt.proposed {
		a := e.named[r.name]
		if a == nil || tried[a] || a.on[link] == nil || a.on[link].established() || e.isLocal(now, source, link) {
			continue
		}
		tried[a] = true
		theirs := slices.DeleteFunc(slices.Clone(pkt.proposed), func(o record) bool { return o.name != r.name })
		if compareRecords(unflushed(e.instanceRecords(a)[1:]), theirs) < 0 {
			// The other one is first; if it goes through with it, we shall hear.
			e.stats.Conflicts++
			*a.on[link] = stage{at: now.Add(deferTime)}
		}
	}
	e.learnProposed(now, link, source, pkt.proposed)
	return false
}

// learnProposed believes what a probe proposes, for a short time and where
// nothing else is known, as the beginning of an announcement. The RFC does not
// say so; but an announcement is a hint, no more, and with it a service is there
// for other Budgies the moment that it begins, not three quarters of a second
// later.
func (e *engine) learnProposed(now time.Time, link int, source netip.Addr, proposed []record) {
	var list []record
	for _, r := range proposed {
		r.flush, r.ttl = false, min(r.ttl, seconds(probeLife))
		switch {
		case r.ttl == 0 && r.typ == typeSRV:
			e.cache.retract(r, link, now)
			continue
		case r.ttl == 0 || r.typ == typePTR || e.named[r.name] != nil || e.cache.knows(r, link, now):
			continue
		case r.typ == typeSRV:
			list = append(list, record{name: serviceName, typ: typePTR, ttl: r.ttl, target: r.name})
		}
		list = append(list, r)
	}
	if len(list) > 0 {
		e.learn(now, link, source, packet{response: true, answers: list})
	}
}

// retract ends what a probe proposed, because the same host takes it back.
func (c *cache) retract(r record, link int, now time.Time) {
	if i := c.instances[r.name]; i != nil {
		if v := i.links[link]; v != nil && v.target == r.target && v.srv.ttl <= probeLife {
			v.ptr.leave(now)
			v.srv.leave(now)
			v.txt.leave(now)
			c.next = earliest(c.next, now.Add(goodbyeDelay))
		}
	}
}

// knows reports whether something is known of the kind of what a probe proposes,
// other probes apart.
func (c *cache) knows(r record, link int, now time.Time) bool {
	if r.typ == typeA || r.typ == typeAAAA {
		h := c.hosts[r.name]
		if h == nil {
			return false
		}
		for addr, l := range h.links[link] {
			if addr.WithZone("") == r.addr && l.alive(now) && l.ttl > probeLife {
				return true
			}
		}
		return false
	}
	i := c.instances[r.name]
	if i == nil {
		return false
	}
	for _, v := range i.links {
		if v.srv.alive(now) && v.srv.ttl > probeLife {
			return true
		}
	}
	return false
}

// contested is called when somebody else speaks about an own instance. A
// goodbye is contradicted, once a second at most (RFC 6762 section 10.1 leaves a
// second for that). Whoever uses the name for another host takes it, unless we
// have it, when both have to show again that they do: section 9.
//
// Processes of one machine do not fight. They do that only if they announce the
// same replica, as for a moment when one takes over from another.
func (e *engine) contested(now time.Time, link int, a *announcement, r record, source netip.Addr) {
	s := a.on[link]
	switch {
	case r.ttl == 0:
		if s.established() && s.at.IsZero() {
			*s = stage{step: probes + announcements - 1, at: now}
			if at, ok := e.sentAt[link][e.instanceRecords(a)[0].key()]; ok && at.Add(time.Second).After(now) {
				s.at = at.Add(time.Second)
			}
		}
		return
	case r.typ != typeSRV || r.target == e.host:
		return
	}
	e.stats.Conflicts++
	if e.isLocal(now, source, link) {
		e.twin(now, a, source)
		return
	}
	e.conflicts = append(e.conflicts, now)
	e.conflicts = e.conflicts[max(0, len(e.conflicts)-maxConflicts):]
	switch {
	case s == nil:
	case s.established():
		*s = stage{at: e.retryAt(now)}
	default:
		e.rename(now, link, a, source)
	}
}

// twinPatience is how long two processes of a machine may announce the same replica
// until that is reported: for a while they do when one takes over from another.
const twinPatience = 30 * time.Second

// twin notes that another process of this machine announces the same replica.
func (e *engine) twin(now time.Time, a *announcement, source netip.Addr) {
	if now.Sub(a.heard) > 2*e.ttl {
		a.twinned, a.told = now, false
	}
	a.heard = now
	if !a.told && now.Sub(a.twinned) > twinPatience {
		a.told = true
		e.log.Warn("another process of this machine announces the same replica", "instance", a.instance, "from", source)
	}
}

// retryAt is when to probe after a conflict.
func (e *engine) retryAt(now time.Time) time.Time {
	if len(e.conflicts) >= maxConflicts && now.Sub(e.conflicts[0]) < conflictTime || now.Before(e.slowUntil) {
		e.slowUntil = now.Add(slowTime)
		return now.Add(conflictWait)
	}
	return now
}

// rename gives an instance another name, because its own belongs to somebody
// else on a link. The name of the container, which is in the TXT record, stays.
func (e *engine) rename(now time.Time, link int, a *announcement, source netip.Addr) {
	old := a.instance
	delete(a.on, link) // no goodbye there: the name is the other's
	e.goodbye(now, a)
	delete(e.named, old)
	for a.nth++; e.named[otherName(a.svc, a.nth)] != nil; a.nth++ {
	}
	a.instance = otherName(a.svc, a.nth)
	e.named[a.instance] = a
	for _, l := range e.links {
		a.on[l] = &stage{at: e.retryAt(now)}
	}
	e.stats.Renames++
	e.log.Warn("the name of an instance is another host's; it is announced under a new one",
		"instance", old, "now", a.instance, "from", source)
	// What the other one announces was not listened to so far.
	if !e.askAt.IsZero() {
		e.askSoon(now)
	}
}

// compareRecords compares two sets of records of one name as RFC 6762 section
// 8.2.1 does: those of simultaneous probes whose set is later win.
func compareRecords(a, b []record) int {
	sorted := func(list []record) [][]byte {
		var raw [][]byte
		for _, r := range list {
			raw = append(raw, append(binary.BigEndian.AppendUint16(nil, uint16(r.typ)), r.rdata()...))
		}
		slices.SortFunc(raw, bytes.Compare)
		return raw
	}
	return slices.CompareFunc(sorted(a), sorted(b), bytes.Compare)
}
