package balance

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// member is a backend in a pool. All but backend is guarded by the pool's lock.
type member struct {
	backend  Backend
	active   int
	requests uint64
	failures uint64
	shed     uint64
	lastErr  error
	health   health
}

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
	// shed: it ended to make room for others.
	shed bool
}

// pool is a set of members and the place in their ring.
type pool struct {
	alg   algorithm
	check *Check
	log   *slog.Logger

	mu      sync.Mutex
	members []*member // in ring order
	next    int       // index of the next in turn, 0 … len(members)
}

func newPool(alg algorithm, check *Check, log *slog.Logger) *pool {
	return &pool{alg: alg, check: check, log: log}
}

// pick chooses a member that is not among tried and counts the request as under
// way there. Healthy ones come first, then, rather than nobody, the others. It
// returns nil where all were tried.
func (p *pool) pick(tried []*member) *member {
	f := filter{tried: tried, now: time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.alg.choose(p.members, p.next, f)
	if i < 0 {
		f.unhealthy = true
		if i = p.alg.choose(p.members, p.next, f); i < 0 {
			return nil
		}
	}
	p.next = i + 1
	m := p.members[i]
	m.active++
	m.requests++
	return m
}

// answered notes that a member has begun to answer.
func (p *pool) answered(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.health.served()
}

// release ends what pick began.
func (p *pool) release(m *member, r result) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	m.active--
	if !r.answered {
		m.requests--
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
	if was && !m.health.healthy(now) {
		p.log.Warn("backend taken out of rotation by failed traffic", "backend", m.backend.ID,
			"addr", m.backend.Addr, "for", m.health.until.Sub(now), "err", r.err)
	}
}

// probed notes the outcome of a probe.
func (p *pool) probed(m *member, err error) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	was := m.health.healthy(now)
	if err != nil {
		m.lastErr = err
		m.health.probeFailed()
	} else {
		m.health.probeSucceeded()
	}
	switch is := m.health.healthy(now); {
	case was && !is:
		p.log.Warn("backend taken out of rotation by its health check", "backend", m.backend.ID,
			"addr", m.backend.Addr, "err", err)
	case !was && is:
		p.log.Info("backend back in rotation", "backend", m.backend.ID, "addr", m.backend.Addr)
	}
}

// update makes backends the members, and returns those that came and went.
// Members that stay keep their order, newcomers follow; the turn stays with the
// member that has it or passes to the next that stays.
func (p *pool) update(backends []Backend) (added, removed []*member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := make(map[Backend]bool, len(backends))
	for _, b := range backends {
		wanted[b] = true
	}
	var ring []*member
	next := 0
	for i, m := range p.members {
		if i == p.next {
			next = len(ring)
		}
		if wanted[m.backend] {
			delete(wanted, m.backend)
			ring = append(ring, m)
		} else {
			removed = append(removed, m)
		}
	}
	if p.next >= len(p.members) {
		next = len(ring)
	}
	for _, b := range backends {
		if wanted[b] {
			delete(wanted, b)
			m := &member{backend: b, health: newHealth(p.check)}
			added = append(added, m)
			ring = append(ring, m)
		}
	}
	p.members, p.next = ring, next
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
			LastError: m.lastErr,
		}
	}
	slices.SortFunc(s, func(a, b BackendStatus) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Addr, b.Addr))
	})
	return s
}
