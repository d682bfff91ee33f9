package mdns

import (
	crand "crypto/rand"
	"encoding/hex"
	"hash/maphash"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/budgiehq/budgie/discovery"
)

// mdnsPort is the port of multicast DNS, and of everybody who speaks it whole:
// RFC 6762 section 6.
const mdnsPort = 5353

const (
	// tick is the grain of time in which the engine looks after its cache.
	tick = 50 * time.Millisecond
	// loopWindow is how long a sent packet is expected back from the kernel.
	loopWindow = 2 * time.Second
	// firstInterval and lastInterval bound the time between the queries of a
	// browser: RFC 6762 section 5.2.
	firstInterval = time.Second
	lastInterval  = time.Hour
	// heardShare is for what part of the next interval a query of somebody else stands
	// for an own one.
	heardShare = 8
	// questionsPerPacket keeps queries within one packet.
	questionsPerPacket = 8
)

// outgoing is a packet to send on a link, by multicast if to is not valid.
type outgoing struct {
	link int
	to   netip.AddrPort
	data []byte
}

// echo identifies a packet that multicast brings back to its sender.
type echo struct {
	sum  uint64
	link int
}

// engine is the protocol without sockets, goroutines and clock: packets and
// moments go in, packets and events come out. One goroutine at a time uses it.
type engine struct {
	log *slog.Logger
	hub *discovery.Hub
	ttl time.Duration
	// links are the indexes of the interfaces in use, and linkAddrs what their
	// addresses were said to be.
	links     []int
	linkAddrs map[int][]netip.Addr
	// addrsAgain is when changed addresses are announced a second time, by link.
	addrsAgain map[int]time.Time
	// addrs returns the addresses of a link, as they are now, with zones.
	addrs func(link int) []netip.Addr
	// local returns the addresses of this machine, on whichever interface, as
	// they are now, without zones.
	local func() []netip.Addr
	// zone returns the name of a link.
	zone func(link int) string
	// copies returns how often a multicast packet comes back from a link.
	copies func(link int) int
	// room returns how large a packet on a link should be at most.
	room func(link int) int

	cache *cache
	// published are the ids that the hub knows from the cache, by short id.
	published map[string][]string
	// publishedAt is when the hub was last brought up to date.
	publishedAt time.Time

	// host is the name of this process: several on one machine do not share
	// one, so that the goodbye of one does not take the addresses of another.
	host string
	// own and named are the own announcements by id and by instance name.
	own   map[string]*announcement
	named map[string]*announcement
	// sentAt is when a record was last sent by multicast, by link.
	sentAt  map[int]map[string]time.Time
	pending []reply
	// forgotAt is when that was last cleared of what is over.
	forgotAt time.Time

	// asking is the browsers' query: when the next one is due, and how long
	// after it the one after that.
	askAt    time.Time
	interval time.Duration
	// heard is when somebody else asked the same last, by link, since the last query.
	heard map[int]time.Time

	// conflicts are the times of the last conflicts over names.
	conflicts []time.Time
	// slowUntil is until when there are too many of them.
	slowUntil time.Time

	// localAddrs is what local returned at localAt.
	localAddrs []netip.Addr
	localAt    time.Time

	seed    maphash.Seed
	echoes  map[echo][]time.Time
	limiter limiter
	out     []outgoing
	stats   Stats
}

// announcement is an own service.
type announcement struct {
	svc discovery.Service
	// instance is the name of its instance, the nth that was tried.
	instance string
	nth      int
	txt      []string
	// on is how far it has come on each link.
	on map[int]*stage
	// twinned is since when another process of this machine announces it, and heard
	// when that was heard last; told says that it was reported.
	twinned, heard time.Time
	told           bool
}

func newEngine(cfg config) *engine {
	return &engine{
		log: cfg.log, hub: discovery.NewHub(), ttl: cfg.ttl,
		linkAddrs: make(map[int][]netip.Addr), addrsAgain: make(map[int]time.Time), heard: make(map[int]time.Time),
		cache: newCache(), published: make(map[string][]string),
		host: "budgie-" + randomHex(8) + ".local.",
		own:  make(map[string]*announcement), named: make(map[string]*announcement), sentAt: make(map[int]map[string]time.Time),
		seed: maphash.MakeSeed(), echoes: make(map[echo][]time.Time),
	}
}

// randomHex returns n random bytes in hexadecimal.
func randomHex(n int) string {
	b := make([]byte, n)
	crand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// announce makes svc known. The name of its instance changes with its own.
func (e *engine) announce(now time.Time, svc discovery.Service, txt []string) {
	a := &announcement{svc: svc, instance: instanceName(svc), nth: 1, txt: txt, on: make(map[int]*stage)}
	a.svc.Ports = slices.Clone(svc.Ports)
	a.svc.Addrs = e.ownAddrs()
	for _, l := range e.links {
		a.on[l] = &stage{at: now}
	}
	if old := e.own[svc.ID]; old != nil {
		if old.svc.Equal(a.svc) {
			return
		}
		if old.svc.Name == svc.Name {
			// RFC 6762 section 8.4: what is new about a name that one has needs no
			// probes.
			a.instance, a.nth, a.on = old.instance, old.nth, old.on
			for _, s := range a.on {
				s.again(now)
			}
		} else {
			e.goodbye(now, old)
			delete(e.named, old.instance)
		}
	}
	for e.named[a.instance] != nil && e.named[a.instance].svc.ID != svc.ID {
		a.nth++ // two ids that begin alike
		a.instance = otherName(svc, a.nth)
	}
	e.own[svc.ID], e.named[a.instance] = a, a
	e.hub.Set(a.svc)
	e.advance(now)
}

// ownAddrs returns the addresses of all links.
func (e *engine) ownAddrs() []netip.Addr {
	var addrs []netip.Addr
	for _, l := range e.links {
		addrs = append(addrs, e.addrs(l)...)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// withdraw takes an announcement back. If somebody else announces the same id,
// that shows now.
func (e *engine) withdraw(now time.Time, id string) {
	a := e.own[id]
	if a == nil {
		return
	}
	delete(e.own, id)
	delete(e.named, a.instance)
	e.goodbye(now, a)
	e.publish(now, id[:shortID])
	if !slices.Contains(e.published[id[:shortID]], id) {
		e.hub.Delete(id)
	}
}

// goodbye tells the network that an announcement is over: RFC 6762 section 10.1.
func (e *engine) goodbye(now time.Time, a *announcement) {
	for _, l := range e.links {
		e.goodbyeOn(now, l, []*announcement{a}, nil)
	}
}

// goodbyeOn says on a link that announcements are over, and then that further
// records are. Names for which only probes were sent may be another's.
func (e *engine) goodbyeOn(now time.Time, link int, list []*announcement, further []record) {
	var groups []group
	var proposed []record
	for _, a := range list {
		records := over(e.instanceRecords(a))
		switch s := a.on[link]; {
		case s.established():
			groups = append(groups, group{answers: records})
		case s.known():
			proposed = append(proposed, unflushed(records[1:2])...)
		}
	}
	if len(groups) > 0 {
		if len(further) > 0 {
			groups = append(groups, group{answers: further})
		}
		e.multicast(now, link, groups)
	}
	for chunk := range slices.Chunk(proposed, questionsPerPacket) {
		if data, err := (packet{proposed: chunk}).pack(); err == nil {
			e.send(now, link, data)
		}
	}
}

// over returns records with TTL 0.
func over(records []record) []record {
	for i := range records {
		records[i].ttl = 0
	}
	return records
}

// close says goodbye to everything, the host included.
func (e *engine) close(now time.Time) {
	for _, l := range e.links {
		e.goodbyeOn(now, l, slices.Collect(maps.Values(e.own)), over(e.hostRecords(l)))
	}
	clear(e.own)
	clear(e.named)
}

// browse makes the engine ask for services. What the first browser has found
// is there for the others at once.
func (e *engine) browse(now time.Time) {
	if e.hub.Subscribers() > 0 && !e.askAt.IsZero() {
		return
	}
	e.askSoon(now)
}

// askSoon begins the queries of a browser. RFC 6762 section 5.2: the first one
// waits a little, for the case that something made everybody ask at the same
// time.
func (e *engine) askSoon(now time.Time) {
	e.askAt = now.Add(20*time.Millisecond + rand.N(100*time.Millisecond))
	e.interval = firstInterval
	clear(e.heard)
}

// missed begins the queries anew when something that was here has expired without a
// goodbye: the network may be cut, and who is on the other side of it neither announces
// anything when it is whole again, nor hears more of this machine. Not before a minute
// of queries is over: anybody can make something expire.
func (e *engine) missed(now time.Time) {
	if e.cache.vanished {
		clear(e.heard) // what was asked before that may have met the cut
		if !e.askAt.IsZero() && e.interval >= time.Minute {
			e.askSoon(now)
		}
	}
	e.cache.vanished = false
}

// overhear notes that somebody else asks what a browser here is about to ask, if
// it does not know more than is known here: RFC 6762 section 7.3.
func (e *engine) overhear(now time.Time, link int, from netip.AddrPort, query packet) {
	if e.askAt.IsZero() || query.unicast || from.Port() != mdnsPort ||
		!slices.Contains(query.questions, question{serviceName, typePTR}) {
		return
	}
	if e.isLocal(now, from.Addr(), link) && !slices.ContainsFunc(e.addrs(link), func(a netip.Addr) bool {
		return a.WithZone("") == from.Addr().WithZone("")
	}) {
		return // perhaps our own, from another interface on the same network
	}
	if e.cache.sources[from.Addr().WithZone("")] == 0 {
		return // who asks does not answer, and may have what is not known here
	}
	for _, k := range query.answers {
		if k.typ == typePTR && k.name == serviceName && e.named[k.target] == nil && !e.cache.tells(k.target, link, now) {
			return
		}
	}
	e.heard[link] = now
}

// receive takes in a packet from the network. to is false for packets that were
// not sent to the multicast group.
func (e *engine) receive(now time.Time, link int, from netip.AddrPort, multicast bool, data []byte) {
	e.stats.Received++
	if multicast && e.isEcho(now, link, data) {
		e.stats.Own++
		return
	}
	if !e.limiter.allow(now, from.Addr()) {
		e.stats.Limited++
		return
	}
	pkt, err := parse(data)
	e.stats.Foreign += uint64(pkt.unreadable)
	switch {
	case err != nil:
		e.stats.Invalid++
		e.log.Debug("mDNS packet ignored", "from", from, "bytes", len(data), "err", err)
	case !pkt.response:
		if len(pkt.proposed) > 0 && from.Port() == mdnsPort && multicast {
			if own := e.probed(now, link, from.Addr(), pkt); own {
				return
			}
		}
		e.overhear(now, link, from, pkt)
		e.answer(now, link, from, pkt)
	case from.Port() != mdnsPort || !multicast:
		// RFC 6762 section 6: responses from other ports must be ignored;
		// section 11: those by unicast that nobody asked for, likewise.
		e.stats.Invalid++
		e.log.Debug("mDNS response ignored: not multicast from port 5353", "from", from)
	default:
		e.learn(now, link, from.Addr(), pkt)
	}
}

// isEcho reports whether a packet is one that was sent here, and counts it off.
func (e *engine) isEcho(now time.Time, link int, data []byte) bool {
	key := echo{maphash.Bytes(e.seed, data), link}
	times := e.echoes[key]
	for len(times) > 0 && now.Sub(times[0]) > loopWindow {
		times = times[1:]
	}
	if len(times) == 0 {
		delete(e.echoes, key)
		return false
	}
	if e.echoes[key] = times[1:]; len(times) == 1 {
		delete(e.echoes, key)
	}
	return true
}

// multicast sends groups of response records on a link and notes when.
func (e *engine) multicast(now time.Time, link int, groups []group) {
	packets, err := packResponses(groups, e.room(link))
	if err != nil {
		e.log.Warn("mDNS announcement cannot be packed", "err", err)
		return
	}
	at := e.sentAt[link]
	if at == nil {
		at = make(map[string]time.Time)
		e.sentAt[link] = at
	}
	for _, g := range groups {
		for _, r := range g.answers {
			at[r.key()] = now
		}
		for _, r := range g.others {
			at[r.key()] = now
		}
	}
	for _, data := range packets {
		e.send(now, link, data)
	}
}

func (e *engine) send(now time.Time, link int, data []byte) {
	key := echo{maphash.Bytes(e.seed, data), link}
	for range e.copies(link) {
		e.echoes[key] = append(e.echoes[key], now)
	}
	e.out = append(e.out, outgoing{link: link, data: data})
	e.stats.Sent++
}

// due does everything whose time has come.
func (e *engine) due(now time.Time) {
	browsing := e.hub.Subscribers() > 0
	if !browsing {
		e.askAt = time.Time{}
	}
	e.advance(now)
	e.reply(now)
	var ask asks
	if !e.cache.next.IsZero() && !now.Before(e.cache.next) {
		ask = e.cache.sweep(now, browsing)
		e.missed(now)
	}
	if now.Sub(e.forgotAt) > time.Minute {
		e.forgotAt = now
		e.forgetSent(now)
	}
	if browsing && !e.askAt.IsZero() && !now.Before(e.askAt) {
		if ask == nil {
			ask = make(asks)
		}
		for _, l := range e.links {
			// RFC 6762 section 7.3: what another has asked is asked, but for the
			// first two times, which are all that a newcomer waits for. What was asked
			// long before stands for nothing: somebody may have come since.
			if now.Sub(e.heard[l]) > e.interval/heardShare || e.interval <= 2*firstInterval {
				ask.add(l, question{serviceName, typePTR})
			}
		}
		clear(e.heard)
		e.askAt = now.Add(e.interval)
		e.interval = min(2*e.interval, lastInterval)
	}
	e.ask(now, ask)
	e.publishChanged(now)
}

// next is when due has something to do; zero for never.
func (e *engine) next(now time.Time) time.Time {
	var at time.Time
	for _, a := range e.own {
		for _, s := range a.on {
			at = earliest(at, s.at)
		}
	}
	for _, again := range e.addrsAgain {
		at = earliest(at, again)
	}
	for _, p := range e.pending {
		at = earliest(at, p.due)
	}
	at = earliest(at, e.askAt)
	if len(e.cache.changed) > 0 {
		at = earliest(at, e.publishedAt.Add(tick))
	}
	if !e.cache.next.IsZero() {
		// A crowd of records makes no crowd of wake-ups.
		c := e.cache.next
		if soon := now.Add(tick); c.Before(soon) {
			c = soon
		}
		at = earliest(at, c)
	}
	return at
}

// take returns the packets to send.
func (e *engine) take() []outgoing {
	out := e.out
	e.out = nil
	return out
}

// forgetSent drops what is only kept for a while.
func (e *engine) forgetSent(now time.Time) {
	for _, at := range e.sentAt {
		for k, t := range at {
			if now.Sub(t) > max(time.Second, e.ttl/4) {
				delete(at, k)
			}
		}
	}
	for k, times := range e.echoes {
		if now.Sub(times[len(times)-1]) > loopWindow {
			delete(e.echoes, k)
		}
	}
}
