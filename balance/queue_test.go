package balance

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func limitedPool(queue int) *pool {
	p := newPool(roundRobin{}, nil, slog.New(slog.DiscardHandler))
	p.limits = Limits{BackendRequests: 1, Queue: queue, QueueWait: time.Second}
	p.update([]Backend{{ID: "a", Addr: "a:1"}})
	return p
}

// Beyond its limit a backend gets nothing: the first in the queue has what
// becomes free, the queue has an end, and so has the wait.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limitedPool(2)
		m, err := p.acquire(t.Context(), nil, 0)
		if m == nil || err != nil {
			t.Fatalf("acquire = %v, %v", m, err)
		}
		type outcome struct {
			m     *member
			err   error
			after time.Duration
		}
		begin := time.Now()
		wait := func(ctx context.Context) chan outcome {
			ch := make(chan outcome, 1)
			go func() {
				m, err := p.acquire(ctx, nil, 0)
				ch <- outcome{m, err, time.Since(begin)}
			}()
			synctest.Wait()
			return ch
		}
		first, second := wait(t.Context()), wait(t.Context())
		if o := <-wait(t.Context()); !errors.Is(o.err, errFull) || o.after != 0 {
			t.Errorf("with a full queue: %+v, want errFull at once", o)
		}
		p.release(m, result{answered: true})
		if o := <-first; o.m != m || o.err != nil || o.after != 0 {
			t.Errorf("first in the queue: %+v, want the backend at once", o)
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := wait(ctx)
		cancel()
		if o := <-left; !errors.Is(o.err, context.Canceled) {
			t.Errorf("who left: %+v", o)
		}
		if o := <-second; !errors.Is(o.err, errWaited) || o.after != time.Second {
			t.Errorf("second in the queue: %+v, want errWaited after a second", o)
		}
		if m.active != 1 || len(p.queue) != 0 || m.shed != 2 {
			t.Errorf("%d under way, %d waiting, %d shed; want 1, 0, 2", m.active, len(p.queue), m.shed)
		}
	})
}

// A backend that is out of rotation is no way around a full one.
func TestFullIsNotUnhealthy(t *testing.T) {
	p := limitedPool(0)
	p.update([]Backend{{ID: "a", Addr: "a:1"}, {ID: "b", Addr: "b:1"}})
	sick := p.members[1]
	p.acquire(t.Context(), []*member{p.members[0]}, 0)
	p.release(sick, result{err: errShed, fatal: true})
	p.acquire(t.Context(), nil, 0)
	if m, err := p.acquire(t.Context(), nil, 0); m != nil || !errors.Is(err, errShed) {
		t.Errorf("acquire = %v, %v; want errShed", m, err)
	}
}

// queued lets n requests wait in a pool, one after the other, and returns where those
// that have got a member say which they are.
func queued(t *testing.T, p *pool, n int) chan int {
	got := make(chan int, n)
	for i := range n {
		go func() {
			if m, _ := p.acquire(t.Context(), nil, 0); m != nil {
				got <- i
			}
		}()
		synctest.Wait()
	}
	return got
}

// An update calls all that wait. Those that find no room stay in their order.
func TestQueueKeepsItsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limitedPool(8)
		m := p.pick(nil, 0)
		got := queued(t, p, 8)
		p.update([]Backend{m.backend})
		synctest.Wait()
		for i := range 8 {
			p.release(m, result{answered: true})
			synctest.Wait()
			if n := <-got; n != i {
				t.Errorf("number %d was served as number %d", n, i)
			}
		}
		if p.called != 0 || m.active != 1 {
			t.Errorf("%d are called, %d under way; want 0, 1", p.called, m.active)
		}
	})
}

// A client that always has its next request at hand does not get ahead of those who
// wait.
func TestNobodyGetsAheadOfTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limitedPool(8)
		m := p.pick(nil, 0)
		got := queued(t, p, 3)
		for i := range 3 {
			p.release(m, result{answered: true})
			if p.pick(nil, 0) != nil {
				t.Fatal("a newcomer got what others waited for")
			}
			synctest.Wait()
			if n := <-got; n != i {
				t.Errorf("number %d was served as number %d", n, i)
			}
		}
		p.release(m, result{answered: true})
		if p.pick(nil, 0) != m {
			t.Error("there is no room, and nobody waits")
		}
	})
}

// Who is first but has tried the member that has room does not stand in the way of
// others.
func TestRoomThatTheFirstCannotUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limitedPool(8)
		p.update([]Backend{{ID: "a", Addr: "a:1"}, {ID: "b", Addr: "b:1"}})
		a, b := p.pick(nil, 0), p.pick(nil, 0)
		for range 2 {
			go p.acquire(t.Context(), []*member{a}, 0)
			synctest.Wait()
		}
		got := queued(t, p, 1)
		p.release(a, result{answered: true})
		synctest.Wait()
		select {
		case <-got:
		default:
			t.Error("the member with room waits for those who cannot use it")
		}
		if a.active != 1 || b.active != 1 || len(p.queue) != 2 || p.called != 0 {
			t.Errorf("%d and %d under way, %d waiting, %d called; want 1, 1, 2, 0", a.active, b.active, len(p.queue), p.called)
		}
	})
}

// Who waits gets the room of a backend that comes back into rotation, however that
// happens.
func TestQueueNoticesRecovery(t *testing.T) {
	for name, tc := range map[string]struct {
		out, back func(*pool, *member)
		after     time.Duration
	}{
		"by a probe": {
			func(p *pool, m *member) { p.probed(m, errTest) },
			func(p *pool, m *member) { p.probed(m, nil) }, 0,
		},
		"by a probe, from traffic": {eject, func(p *pool, m *member) { p.probed(m, nil) }, 0},
		"by an answer":             {eject, func(p *pool, m *member) { p.answered(m, answer{}) }, 0},
		"by a connection":          {eject, func(p *pool, m *member) { p.served(m, time.Now()) }, 0},
		"by time":                  {eject, func(*pool, *member) {}, minEjection},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(roundRobin{}, nil, slog.New(slog.DiscardHandler))
				p.limits = Limits{BackendRequests: 1, Queue: 3, QueueWait: time.Minute}
				p.update(backendsNamed(2))
				full, m := p.members[0], p.members[1]
				if got := p.pick([]*member{m}, 0); got != full {
					t.Fatal("the first backend is not picked")
				}
				tc.out(p, m)
				begin, got := time.Now(), make(chan *member, 1)
				go func() {
					m, _ := p.acquire(t.Context(), nil, 0)
					got <- m
				}()
				synctest.Wait()
				if p.waiting() != 1 {
					t.Fatal("nobody waits")
				}
				tc.back(p, m)
				if by := <-got; by != m || time.Since(begin) != tc.after {
					t.Errorf("%v after %v; want the one that came back after %v", by, time.Since(begin), tc.after)
				}
			})
		})
	}
}
