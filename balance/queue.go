package balance

import (
	"cmp"
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

// waiter is a place in the queue.
type waiter struct {
	turn uint64        // from 1 on, in the order in which they came
	room chan struct{} // closed when there may be room
}

// acquire is pick for a pool whose members take a limited number of requests: it
// waits, first come first served, until one that was not tried has room. It returns
// errShed where the queue is full or the wait too long, ctx's error, or nil for both
// where there is no member.
func (p *pool) acquire(ctx context.Context, tried []*member, key uint64) (*member, error) {
	var timeout <-chan time.Time
	var w waiter
	for {
		m, next, err := p.pickOrQueue(tried, key, w.turn)
		if m != nil || err != nil || next.room == nil {
			return m, err
		}
		w = next
		if timeout == nil {
			timer := time.NewTimer(p.limits.QueueWait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-w.room:
			continue
		case <-ctx.Done():
			err = ctx.Err()
		case <-timeout:
			err = errWaited
		}
		p.leaveQueue(w, tried, err == errWaited)
		return nil, err
	}
}

// pickOrQueue picks, or returns a place in the queue: at its end for a newcomer, whose
// turn is 0, and where it was for who was called in vain.
func (p *pool) pickOrQueue(tried []*member, key uint64, turn uint64) (*member, waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	newcomer := turn == 0
	if !newcomer {
		p.called--
	}
	if !newcomer || !p.promised(tried) {
		if m := p.pickLocked(tried, key); m != nil {
			return m, waiter{}, nil
		}
	}
	full := slices.ContainsFunc(p.members, func(m *member) bool { return !slices.Contains(tried, m) })
	switch {
	case !newcomer:
		p.passOn(turn)
	case full && len(p.queue) >= p.limits.Queue:
		p.countShed(tried)
		return nil, waiter{}, errFull
	case full:
		p.turns++
		turn = p.turns
	}
	if !full {
		return nil, waiter{}, nil
	}
	w := waiter{turn: turn, room: make(chan struct{})}
	p.queue = slices.Insert(p.queue, p.place(turn), w)
	return nil, w, nil
}

// place is where in the queue somebody's turn is. The lock is held.
func (p *pool) place(turn uint64) int {
	i, _ := slices.BinarySearchFunc(p.queue, turn, func(w waiter, turn uint64) int { return cmp.Compare(w.turn, turn) })
	return i
}

// leaveQueue gives a place up; where its turn had come meanwhile, the next in the
// queue has it. isShed says that it waited for too long for one that is not among
// tried.
func (p *pool) leaveQueue(w waiter, tried []*member, isShed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if isShed {
		p.countShed(tried)
	}
	if i := p.place(w.turn); i < len(p.queue) && p.queue[i].turn == w.turn {
		p.queue = slices.Delete(p.queue, i, i+1)
		return
	}
	p.called--
	p.wake(1)
}

// promised reports whether the room that there is belongs to those who were called and
// have not come yet: else one client that always has a request at hand would let nobody
// else through. Who finds no place to wait may take what there is. The lock is held.
func (p *pool) promised(tried []*member) bool {
	if p.called == 0 || len(p.queue) >= p.limits.Queue {
		return false
	}
	room, healthy := p.room(tried)
	return healthy && room <= p.called
}

// room is how many requests the healthy members that were not tried can take, and
// whether there is such a member. The lock is held.
func (p *pool) room(tried []*member) (n int, healthy bool) {
	f := filter{tried: tried, now: time.Now(), backups: true}
	for _, m := range p.members {
		if f.eligible(m) {
			n, healthy = n+max(p.limits.BackendRequests-m.active, 0), true
		}
	}
	return n, healthy
}

// passOn calls the next behind a turn, where there is room that who had the turn could
// not use. The lock is held.
func (p *pool) passOn(turn uint64) {
	i := p.place(turn + 1)
	if room, _ := p.room(nil); room > p.called && i < len(p.queue) {
		p.call(i, i+1)
	}
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
func (p *pool) wake(n int) { p.call(0, min(n, len(p.queue))) }

// wakeAt lets all in the queue look again at a time at which a member comes back by
// itself. The lock is held.
func (p *pool) wakeAt(t time.Time) {
	if p.limits.Queue == 0 {
		return
	}
	time.AfterFunc(time.Until(t), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.wake(len(p.queue))
	})
}

// call lets those from one place to before another look again. The lock is held.
func (p *pool) call(from, to int) {
	for _, w := range p.queue[from:to] {
		close(w.room)
	}
	p.called += to - from
	p.queue = slices.Delete(p.queue, from, to)
}
