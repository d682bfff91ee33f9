package balance

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// member is a backend in a pool. All but backend's ID and Addr, and idHash, is
// guarded by the pool's lock.
type member struct {
	backend  Backend
	idHash   uint64  // of its ID, for consistentHash
	weight   int     // for weighted, and
	credit   int64   // what it is owed there
	turns    float64 // for roundRobin: those that it let pass while warming up
	latency  latency // for powerOfTwo
	active   int
	requests uint64
	failures uint64
	shed     uint64
	lastErr  error
	health   health
	out      bool      // it was out of rotation when that was looked at last
	warmFrom time.Time // when it joined or came back

	indirect bool    // its connections are none of TCP's own
	heir     *member // what it became when it was back in the list, see update

	// gone is set when it is no longer a member. It and idle have no need of the
	// lock.
	gone atomic.Bool
	idle idleConns
}

// identity is the member's backend without what may change. It needs no lock.
func (m *member) identity() Backend { return Backend{ID: m.backend.ID, Addr: m.backend.Addr} }

// result is how a request ended at a member.
type result struct {
	// answered: a response, or a connection, came about.
	answered bool
	// err is the member's failure; nil where it did not fail, be it that the
	// client left.
	err error
	// fatal failures take the member out at once.
	fatal bool
	// unreachable: there was no connection to the member.
	unreachable bool
	// blameless failures say nothing of the member's health.
	blameless bool
	// silent: it ended without an answer, though answered is set.
	silent bool
	// waited is how long a client waited in vain until it left, 0 where it is not
	// known: an answer would have taken longer.
	waited time.Duration
	// shed: it ended to make room for others.
	shed bool
}

// pool is a set of members and the place in their ring.
type pool struct {
	alg    algorithm
	check  *Check
	log    *slog.Logger
	limits Limits        // set before use
	slow   time.Duration // for how long newcomers warm up, set before use
	// witness is told of changes, nil if nobody is. It is set before use.
	witness *witness

	indirect atomic.Int32 // members that are

	// telling is held by whoever tells it. It is taken before mu.
	telling sync.Mutex

	mu      sync.Mutex
	changes []BackendChange // of which it has not been told
	members []*member       // in ring order
	backups int             // how many of them are backups
	queue   []waiter        // those that wait for room, in order
	called  int             // how many left the queue to look for room and have not yet
	turns   uint64          // that were given in the queue
	next    int             // index of the next in turn, 0 … len(members)
	// left are those that are no longer members, with something under way.
	left map[identity]*member
}

func newPool(alg algorithm, check *Check, log *slog.Logger) *pool {
	return &pool{alg: alg, check: check, log: log, left: map[identity]*member{}}
}

// pick chooses a member that is not among tried for what has a key, and counts
// the request as under way there. Healthy ones come first, then healthy backups,
// and then, rather than nobody, the others in the same order. It returns nil where all
// were tried, or have no room for who has not waited.
func (p *pool) pick(tried []*member, key uint64) *member {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.promised(tried) {
		return nil
	}
	return p.pickLocked(tried, key)
}

func (p *pool) pickLocked(tried []*member, key uint64) *member {
	f := filter{tried: tried, now: time.Now(), key: key, most: p.limits.BackendRequests}
	i := p.chooseLocked(&f)
	if i < 0 {
		if f.most > 0 && slices.ContainsFunc(p.members, filter{tried: tried, now: f.now, backups: true}.eligible) {
			return nil // a healthy one is full: better wait for that
		}
		f.unhealthy = true
		if i = p.chooseLocked(&f); i < 0 {
			return nil
		}
	}
	p.next = i + 1
	m := p.members[i]
	m.active++
	m.requests++
	m.latency.asked(f.now)
	return m
}

// chooseLocked chooses among those that are no backups, and then among all.
func (p *pool) chooseLocked(f *filter) int {
	f.backups = false
	i := p.alg.choose(p.members, p.next, p.warmed(*f))
	if i < 0 && p.backups > 0 {
		f.backups = true
		i = p.alg.choose(p.members, p.next, p.warmed(*f))
	}
	return i
}

// answer is what is known when a member begins to answer.
type answer struct {
	took   time.Duration // 0 where it says nothing of the member
	failed bool          // it says that the member could not do it
}

// answered notes that a member has begun to answer.
func (p *pool) answered(m *member, a answer) {
	now := time.Now()
	defer p.tell()
	p.mu.Lock()
	defer p.mu.Unlock()
	m.health.served()
	p.note(m, now, nil)
	if a.failed {
		m.latency.failed(now, a.took)
	} else {
		m.latency.answered(now, a.took)
	}
}

// connected notes how long it took to connect to a member, where that is all
// that can be known of its answers.
func (p *pool) connected(m *member, took time.Duration) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	m.latency.answered(now, took)
}

// served notes that a member did what it is there for, on a connection that stands since
// a time. One from before an ejection says nothing of that: the member may take no new
// ones.
func (p *pool) served(m *member, since time.Time) {
	defer p.tell()
	p.mu.Lock()
	defer p.mu.Unlock()
	if since.Before(m.health.ejected) {
		return
	}
	m.health.served()
	p.note(m, time.Now(), nil)
}

// release ends what pick began.
func (p *pool) release(m *member, r result) {
	now := time.Now()
	defer p.tell()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended(m)
	p.wake(1)
	if !r.answered {
		m.requests--
	}
	switch {
	case r.answered && !r.silent:
	case r.err != nil && !r.blameless:
		m.latency.failed(now, 0)
	default:
		m.latency.abandoned(now, r.waited)
	}
	if r.shed {
		m.shed++
	}
	if r.err == nil {
		return
	}
	m.failures++
	m.lastErr = r.err
	if r.blameless {
		return
	}
	was := m.health.healthy(now)
	tells := byAnswer
	if r.unreachable {
		tells = byConnection
	}
	m.health.requestFailed(now, r.fatal, tells)
	p.note(m, now, r.err)
	if was && !m.health.healthy(now) {
		p.log.Warn("backend taken out of rotation by failed traffic", "backend", m.backend.ID,
			"addr", m.backend.Addr, "for", m.health.until.Sub(now), "err", r.err)
		p.wakeAt(m.health.until)
	}
}

// ended counts one request less as under way at a member. The lock is held.
func (p *pool) ended(m *member) {
	for ; m != nil; m = m.heir {
		if m.active--; m.active == 0 && len(p.left) > 0 && p.left[identify(m.backend)] == m {
			delete(p.left, identify(m.backend))
		}
	}
}

// inherit counts as under way at a newcomer what is so at the member of the same backend
// that had left: the backend may have so many at a time, whatever the list said in
// between. The lock is held.
func (p *pool) inherit(m *member) {
	id := identify(m.backend)
	if old := p.left[id]; old != nil {
		m.active, old.heir = old.active, m
		delete(p.left, id)
	}
}

// probed notes the outcome of a probe.
func (p *pool) probed(m *member, err error) {
	now := time.Now()
	defer p.tell()
	p.mu.Lock()
	defer p.mu.Unlock()
	was := m.health.healthy(now)
	if err != nil {
		m.lastErr = err
		m.health.probeFailed()
	} else {
		m.health.probeSucceeded()
	}
	p.note(m, now, err)
	switch is := m.health.healthy(now); {
	case was && !is:
		p.log.Warn("backend taken out of rotation by its health check", "backend", m.backend.ID,
			"addr", m.backend.Addr, "err", err)
	case !was && is:
		p.log.Info("backend back in rotation", "backend", m.backend.ID, "addr", m.backend.Addr)
	}
}

// identity is what makes a backend the same across updates.
type identity struct{ id, addr string }

func identify(b Backend) identity { return identity{b.ID, b.Addr} }

// update makes backends the members, and returns those that came and went.
// Members that stay keep their order, newcomers follow; the turn stays with the
// member that has it or passes to the next that stays.
func (p *pool) update(backends []Backend) (added, removed []*member) {
	defer p.tell()
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	wanted := make(map[identity]Backend, len(backends))
	for _, b := range slices.Backward(backends) { // of equal ones the first counts
		wanted[identify(b)] = b
	}
	var ring []*member
	next := 0
	for i, m := range p.members {
		if i == p.next {
			next = len(ring)
		}
		if b, ok := wanted[identify(m.backend)]; ok {
			delete(wanted, identify(b))
			m.backend.Weight, m.weight, m.backend.Backup = b.Weight, weightOf(b), b.Backup
			ring = append(ring, m)
		} else {
			removed = append(removed, m)
			if m.active > 0 {
				p.left[identify(m.backend)] = m
			}
			if m.indirect {
				p.indirect.Add(-1)
			}
			p.changed(BackendChange{Backend: m.backend, Kind: Left})
		}
	}
	if p.next >= len(p.members) {
		next = len(ring)
	}
	for _, b := range backends {
		if _, ok := wanted[identify(b)]; ok {
			delete(wanted, identify(b))
			m := &member{backend: b, idHash: hashText(b.ID), weight: weightOf(b), health: newHealth(p.check), warmFrom: now}
			p.inherit(m)
			added = append(added, m)
			p.changed(BackendChange{Backend: b, Kind: Joined})
			ring = append(ring, m)
		}
	}
	p.members, p.next, p.backups = ring, next, 0
	for _, m := range ring {
		if m.backend.Backup {
			p.backups++
		}
	}
	p.wake(len(p.queue))
	return added, removed
}

func (p *pool) status() []BackendStatus {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := make([]BackendStatus, len(p.members))
	for i, m := range p.members {
		s[i] = BackendStatus{
			Backend:   m.backend,
			Healthy:   m.health.healthy(now),
			Active:    m.active,
			Requests:  m.requests,
			Failures:  m.failures,
			Shed:      m.shed,
			Share:     1,
			LastError: m.lastErr,
		}
		if p.slow > 0 {
			s[i].Share = m.warmth(now, p.slow)
		}
	}
	slices.SortFunc(s, func(a, b BackendStatus) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Addr, b.Addr))
	})
	return s
}
