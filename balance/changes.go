package balance

import "time"

// changed notes a change of which the observer is to be told. The lock is held.
func (p *pool) changed(c BackendChange) {
	if p.witness != nil {
		p.changes = append(p.changes, c)
	}
}

// note notes whether a member went out of rotation, for which err is the reason,
// or came back. The lock is held.
func (p *pool) note(m *member, now time.Time, err error) {
	if !p.follow(m, now) || p.witness == nil || m.gone.Load() {
		return
	}
	c := BackendChange{Backend: m.backend, Kind: CameBack}
	if m.out {
		c.Kind, c.Err = WentOut, err
		if !m.health.down {
			c.For = m.health.until.Sub(now)
		}
	}
	p.changed(c)
}

// tell tells the observer of what changed, in its order. No lock is held.
func (p *pool) tell() {
	if p.witness == nil || !p.untold() {
		return
	}
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	changes := p.changes
	p.changes = nil
	p.mu.Unlock()
	for _, c := range changes {
		p.witness.Changed(p.witness.source, c)
	}
}

// untold reports whether there is something to tell.
func (p *pool) untold() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.changes) > 0
}

// waiting is how many wait for a member with room.
func (p *pool) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)
}
