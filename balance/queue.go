package balance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// DefaultQueueWait is how long a request waits for a backend with room, where
// [Limits] does not say.
const DefaultQueueWait = time.Second

// errShed: the backends are at their limits. The others say since when.
var (
	errShed   = errors.New("the backends have as many requests as they may have")
	errFull   = fmt.Errorf("%w, and so has the queue", errShed)
	errWaited = fmt.Errorf("%w, and none had room while this one waited", errShed)
)

// acquire is pick for a pool whose members take a limited number of requests: it
// waits, first come first served but for newcomers that find room at once, until
// one that was not tried has room. It returns errShed where the queue is full or
// the wait too long, ctx's error, or nil for both where there is no member.
func (p *pool) acquire(ctx context.Context, tried []*member, key uint64) (*member, error) {
	var timeout <-chan time.Time
	for {
		m, room, err := p.pickOrQueue(tried, key, timeout != nil)
		if m != nil || err != nil || room == nil {
			return m, err
		}
		if timeout == nil {
			timer := time.NewTimer(p.limits.QueueWait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-room:
			continue
		case <-ctx.Done():
			err = ctx.Err()
		case <-timeout:
			err = errWaited
		}
		p.leaveQueue(room, tried, err == errWaited)
		return nil, err
	}
}

// pickOrQueue picks, or returns a channel that is closed when there may be room.
// Who was woken in vain keeps the place at the head.
func (p *pool) pickOrQueue(tried []*member, key uint64, again bool) (*member, chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.pickLocked(tried, key); m != nil {
		return m, nil, nil
	}
	full := slices.ContainsFunc(p.members, func(m *member) bool { return !slices.Contains(tried, m) })
	switch {
	case !full:
		return nil, nil, nil
	case again:
		room := make(chan struct{})
		p.queue = slices.Insert(p.queue, 0, room)
		return nil, room, nil
	case len(p.queue) >= p.limits.Queue:
		p.countShed(tried)
		return nil, nil, errFull
	}
	room := make(chan struct{})
	p.queue = append(p.queue, room)
	return nil, room, nil
}

// leaveQueue gives a place up; where its turn had come meanwhile, the next in the
// queue has it. isShed says that it waited for too long for one that is not among
// tried.
func (p *pool) leaveQueue(room chan struct{}, tried []*member, isShed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if isShed {
		p.countShed(tried)
	}
	if i := slices.Index(p.queue, room); i >= 0 {
		p.queue = slices.Delete(p.queue, i, i+1)
		return
	}
	p.wake(1)
}

// countShed notes at all members that could have served a request, had they room, that
// it was shed. The lock is held.
func (p *pool) countShed(tried []*member) {
	for _, m := range p.members {
		if m.active >= p.limits.BackendRequests && !slices.Contains(tried, m) {
			m.shed++
		}
	}
}

// wake lets the first n in the queue look again. The lock is held.
func (p *pool) wake(n int) {
	n = min(n, len(p.queue))
	for _, room := range p.queue[:n] {
		close(room)
	}
	p.queue = slices.Delete(p.queue, 0, n)
}
