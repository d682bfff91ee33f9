package mdns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Short names for the types in use.
const (
	typePTR  = dnsmessage.TypePTR
	typeSRV  = dnsmessage.TypeSRV
	typeTXT  = dnsmessage.TypeTXT
	typeA    = dnsmessage.TypeA
	typeAAAA = dnsmessage.TypeAAAA
)

// maxPending bounds the replies that wait for their time.
const maxPending = 1024

// reply is an answer to a query that waits for its time.
type reply struct {
	due     time.Time
	link    int
	from    netip.AddrPort
	records []record
	// probed: the query is a probe, whose sender does not wait for long.
	probed bool
}

// gap is the time that must be between two multicast packets with a record: RFC
// 6762 section 6, which makes it shorter for who defends a name.
func (p reply) gap() time.Duration {
	if p.probed {
		return probeGap
	}
	return time.Second
}

// instanceRecords are the records of an announcement but for the addresses. The
// PTR record is shared with others and has no cache-flush bit: RFC 6762 section
// 10.2.
func (e *engine) instanceRecords(a *announcement) []record {
	ttl := seconds(e.ttl)
	return []record{
		{name: serviceName, typ: typePTR, ttl: ttl, target: a.instance},
		{name: a.instance, typ: typeSRV, ttl: ttl, flush: true, target: e.host, port: uint16(a.svc.PeerPort)},
		{name: a.instance, typ: typeTXT, ttl: ttl, flush: true, txt: a.txt},
	}
}

// hostRecords are the addresses of this process on a link, as they are now.
func (e *engine) hostRecords(link int) []record { return e.addrRecords(e.addrs(link)) }

func (e *engine) addrRecords(addrs []netip.Addr) []record {
	var list []record
	for _, addr := range addrs {
		r := record{name: e.host, typ: typeA, ttl: seconds(e.ttl), flush: true, addr: addr.WithZone("")}
		if addr.Is6() {
			r.typ = typeAAAA
		}
		list = append(list, r)
	}
	return list
}

// matching returns the own records that answer a question on a link, and
// whether others may answer it too.
func (e *engine) matching(q question, link int) (records []record, shared bool) {
	wants := func(r record) bool { return q.typ == typeANY || q.typ == r.typ }
	var types []dnsmessage.Type
	switch {
	case q.name == typesName && len(e.own) > 0:
		records = []record{{name: typesName, typ: typePTR, ttl: seconds(e.ttl), target: serviceName}}
		shared = true
	case q.name == serviceName:
		for _, a := range e.own {
			if a.on[link].established() {
				records = append(records, e.instanceRecords(a)[0])
			}
		}
		shared = true
	case q.name == e.host && len(e.own) > 0:
		records = e.hostRecords(link)
		types = typesOf(records)
	default:
		if a := e.named[q.name]; a != nil && a.on[link].established() {
			records = e.instanceRecords(a)[1:]
			types = typesOf(records)
		}
	}
	records = slices.DeleteFunc(records, func(r record) bool { return !wants(r) })
	if len(records) == 0 && len(types) > 0 {
		records = []record{e.denial(q.name, types)}
	}
	return records, shared
}

// typesOf returns the types of records in ascending order, each once.
func typesOf(records []record) []dnsmessage.Type {
	var types []dnsmessage.Type
	for _, r := range records {
		types = append(types, r.typ)
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// denial says that a name of ours has no other types than these, so that whoever
// asks for one need not wait: RFC 6762 section 6.1.
func (e *engine) denial(name string, types []dnsmessage.Type) record {
	return record{name: name, typ: typeNSEC, ttl: seconds(e.ttl), flush: true, types: types}
}

// answer prepares the reply to a query: RFC 6762 section 6.
func (e *engine) answer(now time.Time, link int, from netip.AddrPort, query packet) {
	if len(query.questions) == 0 {
		e.suppress(link, from, query.answers)
		return
	}
	if from.Port() != mdnsPort {
		e.answerLegacy(link, from, query)
		return
	}
	var records []record
	anyShared := false
	for _, q := range query.questions {
		found, shared := e.matching(q, link)
		found = withoutKnown(found, query.answers)
		records = append(records, found...)
		anyShared = anyShared || shared && len(found) > 0
	}
	if len(records) == 0 {
		return
	}
	if query.unicast && len(query.proposed) == 0 && e.sentLately(now, link, records) {
		e.answerUnicast(now, link, from, records)
		return
	}
	if len(e.pending) >= maxPending {
		e.stats.Limited++
		return
	}
	due := now
	switch {
	case query.truncated:
		// Section 7.2: more known answers are on their way.
		due = now.Add(400*time.Millisecond + rand.N(100*time.Millisecond))
	case anyShared:
		due = now.Add(20*time.Millisecond + rand.N(100*time.Millisecond))
	}
	e.pending = append(e.pending, reply{due, link, from, records, len(query.proposed) > 0})
}

// sentLately reports whether everybody has heard the records within a quarter of
// their life, so that one who asks for a unicast answer gets one. Otherwise the
// occasion is used to tell all: RFC 6762 section 5.4.
func (e *engine) sentLately(now time.Time, link int, records []record) bool {
	return !slices.ContainsFunc(records, func(r record) bool {
		at, ok := e.sentAt[link][r.key()]
		return !ok || now.Sub(at) > e.ttl/4
	})
}

// answerUnicast replies at once to whom alone it concerns.
func (e *engine) answerUnicast(now time.Time, link int, to netip.AddrPort, records []record) {
	packets, err := packResponses(e.groups(now, link, records), e.room(link))
	if err != nil {
		e.log.Warn("mDNS answer cannot be packed", "err", err)
		return
	}
	for _, data := range packets {
		e.out = append(e.out, outgoing{link: link, to: to, data: data})
		e.stats.Sent++
	}
}

// withoutKnown drops the records that the asker knows, with at least half of
// their life before them: RFC 6762 section 7.1.
func withoutKnown(records, known []record) []record {
	return slices.DeleteFunc(records, func(r record) bool {
		return slices.ContainsFunc(known, func(k record) bool {
			return k.ttl >= r.ttl/2 && k.name == r.name && k.typ == r.typ && k.key() == r.key()
		})
	})
}

// suppress takes known answers that follow a truncated query.
func (e *engine) suppress(link int, from netip.AddrPort, known []record) {
	for i, p := range e.pending {
		if p.link == link && p.from == from {
			e.pending[i].records = withoutKnown(p.records, known)
		}
	}
}

// answerLegacy replies at once to a resolver that does not speak multicast DNS
// whole, as it expects of a DNS server: by unicast, with its id and question, in
// one packet, and with TTLs that do not go stale unseen. RFC 6762 section 6.7.
func (e *engine) answerLegacy(link int, from netip.AddrPort, query packet) {
	msg := packet{id: query.id, response: true, questions: query.questions[:min(len(query.questions), questionsPerPacket)]}
	var records, more []record
	for _, q := range msg.questions {
		found, _ := e.matching(q, link)
		records = append(records, found...)
	}
	for _, r := range records {
		more = append(more, e.additional(r, link)...)
	}
	// In plain DNS it means something else that a type is denied.
	records = slices.DeleteFunc(records, func(r record) bool { return r.typ == typeNSEC })
	more = slices.DeleteFunc(more, func(r record) bool { return r.typ == typeNSEC })
	if len(records) == 0 {
		return
	}
	for _, r := range append(records, more...) {
		r.ttl, r.flush = min(r.ttl, legacyTTL), false
		next := msg
		next.answers = append(slices.Clip(msg.answers), r)
		if data, err := next.pack(); err != nil || len(data) > e.room(link) {
			msg.truncated = true
			break
		}
		msg = next
	}
	data, err := msg.pack()
	if err != nil {
		e.stats.Invalid++
		return
	}
	e.out = append(e.out, outgoing{link: link, to: from, data: data})
	e.stats.Sent++
}

// additional returns what whoever gets r will ask for next: RFC 6763 section 12.
func (e *engine) additional(r record, link int) []record {
	switch {
	case r.typ == typePTR && r.name == serviceName:
		if a := e.named[r.target]; a != nil {
			return append(e.instanceRecords(a)[1:], e.hostRecords(link)...)
		}
	case r.typ == typeSRV:
		return e.hostRecords(link)
	case r.name == e.host && (r.typ == typeA || r.typ == typeAAAA):
		// RFC 6762 section 6.2: the other family, or that there is none.
		all := e.hostRecords(link)
		if types := typesOf(all); len(types) == 1 {
			return []record{e.denial(e.host, types)}
		}
		return slices.DeleteFunc(all, func(o record) bool { return o.typ == r.typ })
	}
	return nil
}

// reply sends the replies whose time has come, in as few packets as hold them.
// What was sent within the last second waits: RFC 6762 section 6 allows a record
// once a second.
func (e *engine) reply(now time.Time) {
	ready := make(map[int][]record)
	var later []reply
	for _, p := range e.pending {
		if now.Before(p.due) {
			later = append(later, p)
			continue
		}
		wait := reply{from: p.from, link: p.link, probed: p.probed}
		for _, r := range p.records {
			if at, ok := e.sentAt[p.link][r.key()]; ok && now.Before(at.Add(p.gap())) {
				wait.due = earliest(wait.due, at.Add(p.gap()))
				wait.records = append(wait.records, r)
				continue
			}
			ready[p.link] = append(ready[p.link], r)
		}
		if len(wait.records) > 0 && e.stillOwn(wait.records) {
			later = append(later, wait)
		}
	}
	e.pending = later
	for link, records := range ready {
		e.multicast(now, link, e.groups(now, link, records))
	}
}

// groups returns records, each once, with their additional records.
func (e *engine) groups(now time.Time, link int, records []record) []group {
	seen := make(map[string]bool)
	var unique []record
	for _, r := range records {
		if k := r.key(); !seen[k] && e.stillOwn([]record{r}) {
			seen[k] = true
			unique = append(unique, r)
		}
	}
	var groups []group
	for _, r := range unique {
		g := group{answers: []record{r}}
		for _, o := range e.additional(r, link) {
			k := o.key()
			at, sent := e.sentAt[link][k]
			if !seen[k] && !(sent && now.Before(at.Add(time.Second))) {
				seen[k] = true
				g.others = append(g.others, o)
			}
		}
		groups = append(groups, g)
	}
	return groups
}

// stillOwn reports whether a record that was true when a query came is so now.
func (e *engine) stillOwn(records []record) bool {
	return slices.ContainsFunc(records, func(r record) bool {
		if r.name == typesName || r.name == e.host {
			return len(e.own) > 0
		}
		name := r.name
		if r.typ == typePTR {
			name = r.target
		}
		a := e.named[name]
		return a != nil && r.typ == typeNSEC || a != nil && slices.ContainsFunc(e.instanceRecords(a), func(o record) bool { return o.typ == r.typ && o.key() == r.key() })
	})
}
