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
